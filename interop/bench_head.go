package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/prometheus/common/promslog"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// The head under load: what Prometheus' own head needs for a workload, and for reading it back. Each runs in a process of
// its own, so that its peak memory is its own.

// ingestion is a workload on its way into a head. What it appends is made before the clock runs: how fast either side
// makes labels and random numbers is not the question.
type ingestion struct {
	*workload
	head                  *tsdb.Head
	committers, perCommit uint64
	refs                  []storage.SeriesRef
	walks                 []walk
	latencies             []latencies
	histograms            []*histogram.Histogram
	values                []float64
	labels                []labels.Labels
}

// prepare makes a scrape's values, and the labels of series that are new in it.
func (in *ingestion) prepare(scrape uint64) {
	in.labels = nil
	if in.replaced(scrape) {
		in.labels = make([]labels.Labels, in.Series)
		for i := range in.labels {
			id := in.id(uint64(i), scrape)
			in.labels[i], in.walks[i] = in.workload.labels(id), in.walk(id)
			if in.latencies != nil {
				in.latencies[i] = newLatencies(in.Seed, id)
			}
		}
	}
	if in.latencies != nil {
		for i := range in.histograms {
			in.histograms[i] = in.latencies[i].next()
		}
		return
	}
	for i := range in.values {
		in.values[i] = in.walks[i].next()
	}
}

// run appends everything and answers what it cost.
func (in *ingestion) run() (map[string]any, error) {
	in.refs, in.walks = make([]storage.SeriesRef, in.Series), make([]walk, in.Series)
	in.values = make([]float64, in.Series)
	if in.Values == "histograms" {
		in.latencies, in.histograms = make([]latencies, in.Series), make([]*histogram.Histogram, in.Series)
	}
	var wall, cpu, first float64
	for scrape := range in.Scrapes {
		in.prepare(scrape)
		fields, err := timed(func() error { return in.scrape(scrape) })
		if err != nil {
			return nil, err
		}
		wall += fields["seconds"].(float64)
		cpu += fields["cpu_seconds"].(float64)
		if scrape == 0 {
			first = wall
		}
	}
	return map[string]any{"seconds": wall, "cpu_seconds": cpu, "first_scrape_seconds": first}, nil
}

// scrape appends one scrape: every committer has its share of the series, and a commit holds perCommit of them.
func (in *ingestion) scrape(scrape uint64) error {
	errs := make([]error, in.committers)
	var wg sync.WaitGroup
	share := (in.Series + in.committers - 1) / in.committers
	for c := range in.committers {
		wg.Go(func() {
			end := min((c+1)*share, in.Series)
			for from := c * share; from < end && errs[c] == nil; from += in.perCommit {
				errs[c] = in.commit(scrape, from, min(from+in.perCommit, end))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (in *ingestion) commit(scrape, from, to uint64) error {
	app := in.head.Appender(context.Background())
	t := in.time(scrape)
	for i := from; i < to; i++ {
		var err error
		if in.latencies != nil {
			lset := labels.EmptyLabels()
			if in.labels != nil {
				lset = in.labels[i]
			}
			in.refs[i], err = app.AppendHistogram(in.refs[i], lset, t, in.histograms[i], nil)
		} else if in.labels != nil {
			in.refs[i], err = app.Append(0, in.labels[i], t, in.values[i])
		} else {
			// As a scrape loop does: known series by their reference, without labels.
			_, err = app.Append(in.refs[i], labels.EmptyLabels(), t, in.values[i])
		}
		if err != nil {
			return fmt.Errorf("scrape %d: %w", scrape, err)
		}
	}
	return app.Commit()
}

// latencies gives the native histograms of one series, the same as benches/src/histograms.rs makes.
type latencies struct {
	state  uint64
	counts [16]int64
}

func newLatencies(seed, id uint64) latencies { return latencies{state: mix(seed ^ id*step)} }

func (l *latencies) next() *histogram.Histogram {
	h := &histogram.Histogram{
		Schema: 3, ZeroThreshold: 1e-128,
		PositiveSpans: []histogram.Span{{Offset: 2, Length: 16}}, PositiveBuckets: make([]int64, 16),
	}
	var before int64
	for i := range l.counts {
		l.state += step
		l.counts[i] += int64(mix(l.state) % 8)
		h.PositiveBuckets[i] = l.counts[i] - before
		before = l.counts[i]
		h.Count += uint64(l.counts[i])
	}
	h.Sum = float64(h.Count) / 4
	return h
}

// latenciesDigest is a number over all histograms, in a fixed order.
func latenciesDigest(seed, series, scrapes uint64) uint64 {
	var digest uint64
	fold := func(x uint64) { digest = (bits.RotateLeft64(digest, 5) ^ x) * step }
	for id := range series {
		l := newLatencies(seed, id)
		for range scrapes {
			h := l.next()
			for _, bucket := range h.PositiveBuckets {
				fold(uint64(bucket))
			}
			fold(h.Count)
			fold(math.Float64bits(h.Sum))
		}
	}
	return digest
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

// asServer sets what the server sets by default.
func asServer() { debug.SetGCPercent(75) }

func init() {
	register("bench.histograms", func(req *Request) (*Response, error) {
		var w workload
		if err := req.Decode(&w); err != nil {
			return nil, err
		}
		return &Response{Fields: map[string]any{"digest": fmt.Sprintf("%016x", latenciesDigest(w.Seed, w.Series, w.Scrapes))}}, nil
	})
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
		in := ingestion{workload: &args.workload, head: head, committers: args.Committers, perCommit: args.PerCommit}
		fields, err := in.run()
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
