package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Data directories as a whole: Prometheus' own database makes, continues and reads them. A database that dir.open opened
// stays open until dir.close (or the end of the process) and is named by the number which the answer gave.

// dirOptions say how a directory is opened.
type dirOptions struct {
	Dir         string `json:"dir"`
	Compression string `json:"compression"`
	// SegmentSize in bytes, 0 = 128 MiB.
	SegmentSize int `json:"segment_size"`
	// OutOfOrderWindow in ms.
	OutOfOrderWindow int64 `json:"out_of_order_window"`
	// BlockDuration is the head's chunk range in ms, 0 = two hours.
	BlockDuration int64 `json:"block_duration"`
	// StartTimestamps switches on what is needed to store them and to read them back.
	StartTimestamps bool  `json:"start_timestamps"`
	XOR2            bool  `json:"xor2"`
	Exemplars       int64 `json:"exemplars"`
	Metadata        bool  `json:"metadata"`
	Snapshot        bool  `json:"snapshot"`
}

// openDir is a database and what it said while it opened.
type openDir struct {
	db  *tsdb.DB
	log *bytes.Buffer
	reg *prometheus.Registry
}

var (
	openDirs    = map[int]*openDir{}
	lastOpenDir int
)

func (o *dirOptions) open() (*openDir, error) {
	opts := tsdb.DefaultOptions()
	if o.Compression != "" {
		opts.WALCompression = o.Compression
	}
	opts.WALSegmentSize = o.SegmentSize
	opts.OutOfOrderTimeWindow = o.OutOfOrderWindow
	if o.BlockDuration > 0 {
		opts.MinBlockDuration, opts.MaxBlockDuration = o.BlockDuration, o.BlockDuration
	}
	opts.RetentionDuration = math.MaxInt64 / 2
	opts.EnableExemplarStorage, opts.MaxExemplars = o.Exemplars > 0, o.Exemplars
	opts.EnableMetadataWALRecords = o.Metadata
	opts.EnableMemorySnapshotOnShutdown = o.Snapshot
	if o.StartTimestamps {
		opts.EnableSTStorage, opts.EnableHistogramSTEncoding = true, true
	}
	if o.StartTimestamps || o.XOR2 {
		opts.XOR2EncodingAllowed, opts.FloatChunkEncoding = true, chunkenc.EncXOR2
	}
	d := &openDir{log: &bytes.Buffer{}, reg: prometheus.NewRegistry()}
	logger := slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := tsdb.Open(o.Dir, logger, d.reg, opts, nil)
	if err != nil {
		return d, err
	}
	// Blocks are not what is compared, and a compaction would take the samples out of the head.
	db.DisableCompactions()
	d.db = db
	return d, nil
}

// metric is the sum of a counter or gauge over its labels.
func (d *openDir) metric(name string) float64 {
	families, err := d.reg.Gather()
	if err != nil {
		panic(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// report is what opening found: the database opens damaged directories after its own fashion, so success alone says little.
func (d *openDir) report() map[string]any {
	fields := map[string]any{"log": d.log.String()}
	if d.db == nil {
		return fields
	}
	h := d.db.Head()
	fields["series"] = h.NumSeries()
	fields["min_time"], fields["max_time"] = h.MinTime(), h.MaxTime()
	fields["wal_corruptions"] = d.metric("prometheus_tsdb_wal_corruptions_total")
	fields["mmap_corruptions"] = d.metric("prometheus_tsdb_mmap_chunk_corruptions_total")
	fields["blocks"] = len(d.db.Blocks())
	return fields
}

// refusalName is the reason of a refused sample, by a name that does not depend on the wording.
func refusalName(err error) string {
	for _, known := range []struct {
		err  error
		name string
	}{
		{storage.ErrOutOfOrderSample, "out of order"},
		{storage.ErrTooOldSample, "too old"},
		{storage.ErrOutOfBounds, "out of bounds"},
		{storage.ErrDuplicateSampleForTimestamp, "duplicate"},
		{storage.ErrOutOfOrderExemplar, "out of order exemplar"},
		{storage.ErrDuplicateExemplar, "duplicate exemplar"},
		{tsdb.ErrInvalidSample, "invalid labels"},
		{tsdb.ErrInvalidExemplar, "invalid exemplar"},
	} {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	return err.Error()
}

// appendOne gives an entry to the appenders: the first interface, or the second when there is a start timestamp.
func appendOne(app storage.Appender, e *entry) (storage.SeriesRef, error) {
	switch e.kind {
	case kindFloat:
		return app.Append(0, e.ls, e.t, e.v)
	case kindHistogram, kindFloatHistogram:
		return app.AppendHistogram(0, e.ls, e.t, e.h, e.fh)
	case kindExemplar:
		return app.AppendExemplar(0, e.ls, e.exemplar())
	case kindMetadata:
		return app.UpdateMetadata(0, e.ls, e.md)
	}
	return 0, fmt.Errorf("no such kind of entry: %d", e.kind)
}

// appendTo appends entries in one transaction and returns the reasons of the refused ones by their index. The process dies
// so many microseconds after the commit began, unless that is negative.
func appendTo(db *tsdb.DB, entries []entry, second bool, killMicros int64) (map[int]string, error) {
	refused := map[int]string{}
	if second {
		app := db.AppenderV2(context.Background())
		for i := range entries {
			e := &entries[i]
			if _, err := app.Append(0, e.ls, e.st, e.t, e.v, e.h, e.fh, storage.AppendV2Options{}); err != nil {
				refused[i] = refusalName(err)
			}
		}
		killAfter(killMicros)
		return refused, app.Commit()
	}
	app := db.Appender(context.Background())
	for i := range entries {
		if _, err := appendOne(app, &entries[i]); err != nil {
			refused[i] = refusalName(err)
		}
	}
	killAfter(killMicros)
	return refused, app.Commit()
}

// killAfter ends this process by SIGKILL after some time, whatever it is doing then.
func killAfter(micros int64) {
	if micros < 0 {
		return
	}
	go func() {
		time.Sleep(time.Duration(micros) * time.Microsecond)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}()
}

func entriesOf(payload []byte) ([]entry, error) {
	r := reader{b: payload}
	var all []entry
	for r.more() {
		all = append(all, r.entry())
	}
	return all, r.err
}

// samplesOf walks every sample of every series, series sorted by labels, samples by time.
func samplesOf(q storage.Querier, visit func(entry) error) error {
	everything := labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".*")
	set := q.Select(context.Background(), true, nil, everything)
	var it chunkenc.Iterator
	for set.Next() {
		series := set.At()
		e := entry{ls: series.Labels()}
		it = series.Iterator(it)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			switch vt {
			case chunkenc.ValFloat:
				e.kind = kindFloat
				e.t, e.v = it.At()
			case chunkenc.ValHistogram:
				e.kind = kindHistogram
				e.t, e.h = it.AtHistogram(nil)
			case chunkenc.ValFloatHistogram:
				e.kind = kindFloatHistogram
				e.t, e.fh = it.AtFloatHistogram(nil)
			}
			e.st = it.AtST()
			if err := visit(e); err != nil {
				return err
			}
		}
		if err := it.Err(); err != nil {
			return fmt.Errorf("%s: %w", series.Labels(), err)
		}
	}
	return set.Err()
}

// textLine is an entry as `headwater dump` prints it.
func textLine(e *entry, withST bool) string {
	var v string
	switch {
	case e.kind == kindHistogram:
		v = e.h.String()
	case e.kind == kindFloatHistogram:
		v = e.fh.String()
	case value.IsStaleNaN(e.v):
		v = "stale"
	default:
		v = strconv.FormatFloat(e.v, 'g', -1, 64)
	}
	line := e.ls.String() + " " + v + " " + strconv.FormatInt(e.t, 10)
	if withST && e.st != 0 {
		line += " " + strconv.FormatInt(e.st, 10)
	}
	return line + "\n"
}

// dump writes all samples of a querier, as entries or as text.
func dump(q storage.Querier, text, withST bool) (*Response, error) {
	var w writer
	samples := 0
	err := samplesOf(q, func(e entry) error {
		samples++
		if text {
			w.b = append(w.b, textLine(&e, withST)...)
		} else {
			w.entry(&e)
		}
		return nil
	})
	return &Response{Fields: map[string]any{"samples": samples}, Payload: w.b}, err
}

func registerDB(op string, f func(d *openDir, req *Request) (*Response, error)) {
	register(op, func(req *Request) (*Response, error) {
		var args struct {
			DB int `json:"db"`
		}
		if err := req.Decode(&args); err != nil {
			return nil, err
		}
		d, open := openDirs[args.DB]
		if !open {
			return nil, fmt.Errorf("no open directory %d", args.DB)
		}
		return f(d, req)
	})
}

func init() {
	// Opens for writing. Answers the number to name it by, what opening found, and the log's warnings; when it does not
	// open, the error.
	register("dir.open", func(req *Request) (*Response, error) {
		var o dirOptions
		if err := req.Decode(&o); err != nil {
			return nil, err
		}
		d, err := o.open()
		resp := &Response{Fields: d.report()}
		if err != nil {
			return resp, err
		}
		lastOpenDir++
		openDirs[lastOpenDir] = d
		resp.Fields["db"] = lastOpenDir
		return resp, nil
	})
	// Appends the payload's entries, "per_commit" of them in one transaction (0 = all). Answers the reasons of the
	// refused ones by their index. With "kill_micros" the process kills itself that long after the first commit began.
	registerDB("dir.append", func(d *openDir, req *Request) (*Response, error) {
		args := struct {
			PerCommit  int   `json:"per_commit"`
			Second     bool  `json:"appender_v2"`
			KillMicros int64 `json:"kill_micros"`
		}{KillMicros: -1}
		if err := req.Decode(&args); err != nil {
			return nil, err
		}
		entries, err := entriesOf(req.Payload)
		if err != nil {
			return nil, err
		}
		per := args.PerCommit
		if per <= 0 {
			per = max(len(entries), 1)
		}
		refused := map[int]string{}
		for at := 0; at < len(entries); at += per {
			some, err := appendTo(d.db, entries[at:min(at+per, len(entries))], args.Second, args.KillMicros)
			if err != nil {
				return &Response{Fields: map[string]any{"committed": at}}, err
			}
			for i, reason := range some {
				refused[at+i] = reason
			}
		}
		return &Response{Fields: map[string]any{"committed": len(entries), "refused": refused}}, nil
	})
	registerDB("dir.report", func(d *openDir, _ *Request) (*Response, error) { return &Response{Fields: d.report()}, nil })
	// Writes every full chunk out to its file.
	registerDB("dir.mmap", func(d *openDir, _ *Request) (*Response, error) {
		d.db.ForceHeadMMap()
		return nil, nil
	})
	// Truncates head and log at "mint" (ms), as after a block was written.
	registerDB("dir.truncate", func(d *openDir, req *Request) (*Response, error) {
		var args struct {
			Mint int64 `json:"mint"`
		}
		if err := req.Decode(&args); err != nil {
			return nil, err
		}
		return nil, d.db.Head().Truncate(args.Mint)
	})
	// Deletes samples of the series that carry a label, from "mint" to "maxt" (ms, both included).
	registerDB("dir.delete", func(d *openDir, req *Request) (*Response, error) {
		var args struct {
			Mint  int64  `json:"mint"`
			Maxt  int64  `json:"maxt"`
			Label string `json:"label"`
			Value string `json:"value"`
		}
		if err := req.Decode(&args); err != nil {
			return nil, err
		}
		matcher := labels.MustNewMatcher(labels.MatchEqual, args.Label, args.Value)
		return nil, d.db.Delete(context.Background(), args.Mint, args.Maxt, matcher)
	})
	// Dumps an open directory: entries, or with "text" the lines of `headwater dump` ("st": with start timestamps).
	registerDB("dir.dump_open", func(d *openDir, req *Request) (*Response, error) {
		args, err := decodeDump(req)
		if err != nil {
			return nil, err
		}
		q, err := d.db.Querier(math.MinInt64, math.MaxInt64)
		if err != nil {
			return nil, err
		}
		defer q.Close()
		return dump(q, args.Text, args.ST)
	})
	registerDB("dir.close", func(d *openDir, req *Request) (*Response, error) {
		err := d.db.Close()
		for n, each := range openDirs {
			if each == d {
				delete(openDirs, n)
			}
		}
		return nil, err
	})
	// Dumps a directory that is not open and leaves it as it is; a damaged one is an error.
	register("dir.dump", func(req *Request) (*Response, error) {
		args, err := decodeDump(req)
		if err != nil {
			return nil, err
		}
		// The reference links chunk files into a folder it makes; the directory itself must not see it.
		ro, err := tsdb.OpenDBReadOnly(args.Dir, filepath.Dir(strings.TrimRight(args.Dir, "/")), nil)
		if err != nil {
			return nil, err
		}
		resp, err := dumpReadOnly(ro, args)
		return resp, errors.Join(err, ro.Close())
	})
}

type dumpArgs struct {
	Dir  string `json:"dir"`
	Text bool   `json:"text"`
	ST   bool   `json:"st"`
}

func decodeDump(req *Request) (args dumpArgs, err error) { return args, req.Decode(&args) }

func dumpReadOnly(ro *tsdb.DBReadOnly, args dumpArgs) (*Response, error) {
	q, err := ro.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	return dump(q, args.Text, args.ST)
}

func metricType(s string) model.MetricType { return model.MetricType(s) }
