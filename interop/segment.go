package main

// The log's side of the harness: the reference's writer, its readers (strict, live, watching), and its start-up on a log
// that may need repair. Long-lived writers and readers are kept under a number between requests.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/promslog"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

func init() {
	register("segment.open", segmentOpen)
	register("segment.log", segmentLog)
	register("segment.rotate", segmentRotate)
	register("segment.close", segmentClose)
	register("segment.read", segmentRead)
	register("segment.start", segmentStart)
	register("segment.follow", segmentFollow)
	register("segment.more", segmentMore)
	register("segment.watch", segmentWatch)
	register("segment.seen", segmentSeen)
	register("segment.unwatch", segmentUnwatch)
	register("segment.bench_read", segmentBenchRead)
	register("segment.bench_append", segmentBenchAppend)
	register("segment.bench_decode", segmentBenchDecode)
}

type segmentArgs struct {
	Dir         string
	Compression string
	SegmentSize int `json:"segment_size"`
	Handle      int
	// Counts says how many of the payload's records go into each call; absent: all into one.
	Counts []int
	// Each and Repeat are for benchmarks: records in a call, calls.
	Each, Repeat int
	Wait         int
}

var (
	segmentWriters   = map[int]*wlog.WL{}
	segmentFollowers = map[int]*segmentFollower{}
	segmentWatchers  = map[int]*segmentWatching{}
	segmentHandles   int
)

func segmentHandle() int {
	segmentHandles++
	return segmentHandles
}

func segmentDecode(req *Request) (segmentArgs, error) {
	var args segmentArgs
	err := req.Decode(&args)
	return args, err
}

func segmentNew(args segmentArgs) (*wlog.WL, error) {
	return wlog.NewSize(promslog.NewNopLogger(), nil, args.Dir, args.SegmentSize, compression.Type(args.Compression))
}

func segmentOpen(req *Request) (*Response, error) {
	args, err := segmentDecode(req)
	if err != nil {
		return nil, err
	}
	w, err := segmentNew(args)
	if err != nil {
		return nil, err
	}
	h := segmentHandle()
	segmentWriters[h] = w
	return &Response{Fields: map[string]any{"handle": h}}, nil
}

func segmentWriter(req *Request) (segmentArgs, *wlog.WL, error) {
	args, err := segmentDecode(req)
	if err != nil {
		return args, nil, err
	}
	w := segmentWriters[args.Handle]
	if w == nil {
		return args, nil, fmt.Errorf("no writer %d", args.Handle)
	}
	return args, w, nil
}

func segmentLog(req *Request) (*Response, error) {
	args, w, err := segmentWriter(req)
	if err != nil {
		return nil, err
	}
	recs, err := items(req.Payload)
	if err != nil {
		return nil, err
	}
	if args.Counts == nil {
		args.Counts = []int{len(recs)}
	}
	for _, n := range args.Counts {
		if n > len(recs) {
			return nil, errors.New("more records counted than sent")
		}
		if err := w.Log(recs[:n]...); err != nil {
			return nil, err
		}
		recs = recs[n:]
	}
	return nil, nil
}

func segmentRotate(req *Request) (*Response, error) {
	_, w, err := segmentWriter(req)
	if err != nil {
		return nil, err
	}
	n, err := w.NextSegmentSync()
	return &Response{Fields: map[string]any{"segment": n}}, err
}

func segmentClose(req *Request) (*Response, error) {
	args, w, err := segmentWriter(req)
	if err != nil {
		return nil, err
	}
	delete(segmentWriters, args.Handle)
	return nil, w.Close()
}

// segmentReadAll reads what the strict reader gives, and where and why it stopped.
func segmentReadAll(dir string) ([]byte, error) {
	sr, err := wlog.NewSegmentsReader(dir)
	if err != nil {
		return nil, err
	}
	defer sr.Close()
	r := wlog.NewReader(sr)
	var out writer
	for r.Next() {
		out.item(r.Record())
	}
	return out.b, r.Err()
}

func segmentPlace(err error) map[string]any {
	fields := map[string]any{"damaged": err != nil}
	if err != nil {
		fields["damage"] = err.Error()
	}
	var c *wlog.CorruptionErr
	if errors.As(err, &c) {
		fields["segment"], fields["offset"] = c.Segment, c.Offset
	}
	return fields
}

func segmentRead(req *Request) (*Response, error) {
	args, err := segmentDecode(req)
	if err != nil {
		return nil, err
	}
	recs, err := segmentReadAll(args.Dir)
	return &Response{Fields: segmentPlace(err), Payload: recs}, nil
}

// segmentStart does with a log what the database does when it starts: opens it for writing, reads it all, repairs it if
// that fails. The answer is what is in it then.
func segmentStart(req *Request) (*Response, error) {
	args, err := segmentDecode(req)
	if err != nil {
		return nil, err
	}
	w, err := segmentNew(args)
	if err != nil {
		return nil, err
	}
	_, damage := segmentReadAll(args.Dir)
	if damage != nil {
		if err := w.Repair(damage); err != nil {
			return nil, fmt.Errorf("repair: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	recs, err := segmentReadAll(args.Dir)
	if err != nil {
		return nil, err
	}
	return &Response{Fields: segmentPlace(damage), Payload: recs}, nil
}

// segmentFollower is the live reader, moved from segment to segment as the watcher does.
type segmentFollower struct {
	dir     string
	segment int
	file    *wlog.Segment
	reader  *wlog.LiveReader
}

func (f *segmentFollower) open() error {
	file, err := wlog.OpenReadSegment(wlog.SegmentName(f.dir, f.segment))
	if err != nil {
		return err
	}
	f.file = file
	f.reader = wlog.NewLiveReader(promslog.NewNopLogger(), wlog.NewLiveReaderMetrics(nil), file)
	return nil
}

func segmentFollow(req *Request) (*Response, error) {
	args, err := segmentDecode(req)
	if err != nil {
		return nil, err
	}
	first, _, err := wlog.Segments(args.Dir)
	if err != nil {
		return nil, err
	}
	f := &segmentFollower{dir: args.Dir, segment: max(first, 0)}
	if err := f.open(); err != nil {
		return nil, err
	}
	h := segmentHandle()
	segmentFollowers[h] = f
	return &Response{Fields: map[string]any{"handle": h}}, nil
}

// segmentMore answers every record that the live reader gives now.
func segmentMore(req *Request) (*Response, error) {
	args, err := segmentDecode(req)
	if err != nil {
		return nil, err
	}
	f := segmentFollowers[args.Handle]
	if f == nil {
		return nil, fmt.Errorf("no follower %d", args.Handle)
	}
	var out writer
	for {
		for f.reader.Next() {
			out.item(f.reader.Record())
		}
		if err := f.reader.Err(); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("segment %d: %w", f.segment, err)
		}
		_, last, err := wlog.Segments(f.dir)
		if err != nil {
			return nil, err
		}
		if last <= f.segment {
			return &Response{Payload: out.b, Fields: map[string]any{"segment": f.segment}}, nil
		}
		// What was written before the next segment was made.
		for f.reader.Next() {
			out.item(f.reader.Record())
		}
		f.file.Close()
		f.segment++
		if err := f.open(); err != nil {
			return nil, err
		}
	}
}

// segmentWatching counts what a watcher sends on.
type segmentWatching struct {
	watcher *wlog.Watcher
	mtx     sync.Mutex
	values  []float64
	series  int
}

func (s *segmentWatching) Append(samples []record.RefSample) bool {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	for _, sample := range samples {
		s.values = append(s.values, sample.V)
	}
	return true
}

func (s *segmentWatching) StoreSeries(series []record.RefSeries, _ int) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.series += len(series)
}

func (*segmentWatching) AppendExemplars([]record.RefExemplar) bool                   { return true }
func (*segmentWatching) AppendHistograms([]record.RefHistogramSample) bool           { return true }
func (*segmentWatching) AppendFloatHistograms([]record.RefFloatHistogramSample) bool { return true }
func (*segmentWatching) StoreMetadata([]record.RefMetadata)                          {}
func (*segmentWatching) UpdateSeriesSegment([]record.RefSeries, int)                 {}
func (*segmentWatching) SeriesReset(int)                                             {}

// segmentWatch starts a watcher on the data directory that holds wal/.
func segmentWatch(req *Request) (*Response, error) {
	args, err := segmentDecode(req)
	if err != nil {
		return nil, err
	}
	if filepath.Base(args.Dir) != "wal" {
		return nil, errors.New("a watcher looks at the directory wal of a data directory")
	}
	s := &segmentWatching{}
	s.watcher = wlog.NewWatcher(wlog.NewWatcherMetrics(nil), wlog.NewLiveReaderMetrics(nil), nil, "interop", s,
		filepath.Dir(args.Dir), false, false, false, nil)
	s.watcher.Start()
	h := segmentHandle()
	segmentWatchers[h] = s
	return &Response{Fields: map[string]any{"handle": h}}, nil
}

// segmentSeen waits until the watcher has sent so many samples, and answers their values.
func segmentSeen(req *Request) (*Response, error) {
	args, err := segmentDecode(req)
	if err != nil {
		return nil, err
	}
	s := segmentWatchers[args.Handle]
	if s == nil {
		return nil, fmt.Errorf("no watcher %d", args.Handle)
	}
	deadline := time.Now().Add(40 * time.Second)
	for {
		s.watcher.Notify()
		s.mtx.Lock()
		n := len(s.values)
		s.mtx.Unlock()
		if n >= args.Wait || time.Now().After(deadline) {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	s.mtx.Lock()
	defer s.mtx.Unlock()
	var out writer
	for _, v := range s.values {
		out.f64(v)
	}
	return &Response{Payload: out.b, Fields: map[string]any{"series": s.series}}, nil
}

func segmentUnwatch(req *Request) (*Response, error) {
	args, err := segmentDecode(req)
	if err != nil {
		return nil, err
	}
	if s := segmentWatchers[args.Handle]; s != nil {
		s.watcher.Stop()
		delete(segmentWatchers, args.Handle)
	}
	return nil, nil
}

// segmentBenchRead frames, and decompresses, all of a log.
func segmentBenchRead(req *Request) (*Response, error) {
	args, err := segmentDecode(req)
	if err != nil {
		return nil, err
	}
	records, size := 0, 0
	fields, err := timed(func() error {
		for range args.Repeat {
			sr, err := wlog.NewSegmentsReader(args.Dir)
			if err != nil {
				return err
			}
			r := wlog.NewReader(sr)
			for r.Next() {
				records++
				size += len(r.Record())
			}
			if err := errors.Join(r.Err(), sr.Close()); err != nil {
				return err
			}
		}
		return nil
	})
	fields["records"], fields["bytes"] = records, size
	return &Response{Fields: fields}, err
}

// segmentBenchDecode decompresses the payload's stored records, repeat times.
func segmentBenchDecode(req *Request) (*Response, error) {
	args, err := segmentDecode(req)
	if err != nil {
		return nil, err
	}
	stored, err := items(req.Payload)
	if err != nil {
		return nil, err
	}
	size, buf := 0, compression.NewSyncDecodeBuffer()
	fields, err := timed(func() error {
		for range args.Repeat {
			for _, s := range stored {
				record, err := compression.Decode(compression.Type(args.Compression), s, buf)
				if err != nil {
					return err
				}
				size += len(record)
			}
		}
		return nil
	})
	fields["bytes"] = size
	return &Response{Fields: fields}, err
}

// segmentBenchAppend logs the payload's records, so many in each call, into a fresh directory. Opening, closing and
// removing it are not measured.
func segmentBenchAppend(req *Request) (*Response, error) {
	args, err := segmentDecode(req)
	if err != nil {
		return nil, err
	}
	recs, err := items(req.Payload)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(filepath.Base(args.Dir), "theirs") {
		return nil, errors.New("a directory that is removed is called theirs")
	}
	w, err := segmentNew(args)
	if err != nil {
		return nil, err
	}
	fields, err := timed(func() error {
		at := 0
		for range args.Repeat {
			if at+args.Each > len(recs) {
				at = 0
			}
			if err := w.Log(recs[at : at+args.Each]...); err != nil {
				return err
			}
			at += args.Each
		}
		return nil
	})
	return &Response{Fields: fields}, errors.Join(err, w.Close(), os.RemoveAll(args.Dir))
}
