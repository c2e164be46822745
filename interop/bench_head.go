package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/promslog"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// The head under load: what Prometheus' own head needs for a workload, and for reading it back. Each runs in a process of
// its own, so that its peak memory is its own.

// ingest runs the workload and answers what it cost.
func ingest(head *tsdb.Head, w *workload, committers, perCommit uint64) (map[string]any, error) {
	refs := make([]storage.SeriesRef, w.Series)
	walks := make([]walk, w.Series)
	var first time.Duration
	fields, err := timed(func() error {
		start := time.Now()
		for scrape := range w.Scrapes {
			if err := ingestScrape(head, w, scrape, refs, walks, committers, perCommit); err != nil {
				return err
			}
			if scrape == 0 {
				first = time.Since(start)
			}
		}
		return nil
	})
	fields["first_scrape_seconds"] = first.Seconds()
	return fields, err
}

// ingestScrape appends one scrape: every committer has its share of the series, and a commit holds perCommit of them.
func ingestScrape(
	head *tsdb.Head, w *workload, scrape uint64, refs []storage.SeriesRef, walks []walk, committers, perCommit uint64,
) error {
	errs := make([]error, committers)
	var wg sync.WaitGroup
	share := (w.Series + committers - 1) / committers
	for c := range committers {
		wg.Go(func() {
			for from := c * share; from < min((c+1)*share, w.Series); from += perCommit {
				to := min(from+perCommit, (c+1)*share, w.Series)
				if errs[c] == nil {
					errs[c] = ingestCommit(head, w, scrape, from, refs[from:to], walks[from:to])
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func ingestCommit(head *tsdb.Head, w *workload, scrape, from uint64, refs []storage.SeriesRef, walks []walk) error {
	app := head.Appender(context.Background())
	t := w.time(scrape)
	fresh := w.replaced(scrape)
	for i := range refs {
		var err error
		if fresh {
			id := w.id(from+uint64(i), scrape)
			walks[i] = w.walk(id)
			refs[i], err = app.Append(0, w.labels(id), t, walks[i].next())
		} else {
			// As a scrape loop does: known series by their reference, without labels.
			_, err = app.Append(refs[i], labels.EmptyLabels(), t, walks[i].next())
		}
		if err != nil {
			return fmt.Errorf("scrape %d: %w", scrape, err)
		}
	}
	return app.Commit()
}

// memory is what stays after the garbage is gone.
func memory(fields map[string]any, series uint64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fields["live_bytes"] = m.HeapAlloc
	fields["live_bytes_per_series"] = float64(m.HeapAlloc) / float64(max(series, 1))
	fields["peak_rss"] = peakRSS()
	fields["rss"] = currentRSS()
}

// currentRSS is in bytes.
func currentRSS() int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, resident int64
	_, _ = fmt.Sscan(string(statm), &size, &resident)
	return resident * int64(os.Getpagesize())
}

// asServer sets what the server sets by default.
func asServer() { debug.SetGCPercent(75) }

func init() {
	// Appends a workload to a fresh head in "dir", as a server with two scrape loops would: "committers" at once,
	// "per_commit" series in a commit.
	register("bench.ingest", func(req *Request) (*Response, error) {
		args := struct {
			workload
			Dir         string `json:"dir"`
			Compression string `json:"compression"`
			Committers  uint64 `json:"committers"`
			PerCommit   uint64 `json:"per_commit"`
		}{Committers: 2, PerCommit: 200, Compression: "none"}
		if err := req.Decode(&args); err != nil {
			return nil, err
		}
		asServer()
		wal, err := wlog.NewSize(promslog.NewNopLogger(), nil, filepath.Join(args.Dir, "wal"), wlog.DefaultSegmentSize, args.Compression)
		if err != nil {
			return nil, err
		}
		opts := tsdb.DefaultHeadOptions()
		opts.ChunkDirRoot = args.Dir
		head, err := tsdb.NewHead(nil, nil, wal, nil, opts, nil)
		if err != nil {
			return nil, err
		}
		if err := head.Init(0); err != nil {
			return nil, err
		}
		fields, err := ingest(head, &args.workload, args.Committers, args.PerCommit)
		if err != nil {
			return nil, err
		}
		memory(fields, head.NumSeries())
		fields["series"], fields["samples"] = head.NumSeries(), args.Series*args.Scrapes
		return &Response{Fields: fields}, head.Close()
	})
	// Reads "dir" back as a starting server does, with its chunk files or with the log alone. What replay writes (chunks
	// cut on the way) goes to a folder of its own, which is removed: the directory stays as it is.
	register("bench.replay", func(req *Request) (*Response, error) {
		var args struct {
			Dir     string `json:"dir"`
			LogOnly bool   `json:"log_only"`
		}
		if err := req.Decode(&args); err != nil {
			return nil, err
		}
		asServer()
		scratch, err := os.MkdirTemp(filepath.Dir(strings.TrimRight(args.Dir, "/")), "replay")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(scratch)
		if !args.LogOnly {
			if err := chunks.HardLinkChunkFiles(filepath.Join(args.Dir, "chunks_head"), filepath.Join(scratch, "chunks_head")); err != nil {
				return nil, err
			}
		}
		var head *tsdb.Head
		fields, err := timed(func() error {
			wal, err := wlog.Open(promslog.NewNopLogger(), filepath.Join(args.Dir, "wal"))
			if err != nil {
				return err
			}
			opts := tsdb.DefaultHeadOptions()
			opts.ChunkDirRoot = scratch
			if head, err = tsdb.NewHead(nil, nil, wal, nil, opts, nil); err != nil {
				return err
			}
			return head.Init(0)
		})
		if err != nil {
			return nil, err
		}
		memory(fields, head.NumSeries())
		fields["series"] = head.NumSeries()
		fields["min_time"], fields["max_time"] = head.MinTime(), head.MaxTime()
		// Not closed: a log opened for reading cannot be. The process ends after this.
		return &Response{Fields: fields}, nil
	})
}
