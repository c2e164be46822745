package main

// The checkpoint layer's side of the harness: random logs written by the reference, its own checkpoint of them, and two
// readings of any directory (the records of a checkpoint in order, and what the reference's head makes of the whole log).

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"

	"github.com/prometheus/common/promslog"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

func init() {
	register("checkpoint.make", checkpointMake)
	register("checkpoint.run", checkpointRun)
	register("checkpoint.truncate", checkpointTruncate)
	register("checkpoint.dump", checkpointDump)
	register("checkpoint.replay", checkpointReplay)
	register("checkpoint.bench", checkpointBench)
}

// checkpointKeep is the predicate both sides compute: a ref is kept when its salted hash falls below percent.
func checkpointKeep(salt uint64, percent uint64) func(chunks.HeadSeriesRef) bool {
	return func(ref chunks.HeadSeriesRef) bool {
		x := uint64(ref) ^ salt
		x += 0x9e3779b97f4a7c15
		x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
		x = (x ^ (x >> 27)) * 0x94d049bb133111eb
		x ^= x >> 31
		return x%100 < percent
	}
}

func checkpointOpen(dir, comp string, segmentSize int) (*wlog.WL, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	return wlog.NewSize(promslog.NewNopLogger(), nil, dir, segmentSize, compression.Type(comp))
}

type checkpointArgs struct {
	Dir         string `json:"dir"`
	From        int    `json:"from"`
	To          int    `json:"to"`
	Salt        uint64 `json:"salt"`
	Percent     uint64 `json:"percent"`
	KeepEven    bool   `json:"keep_even"`
	Mint        int64  `json:"mint"`
	ST          bool   `json:"st"`
	Compression string `json:"compression"`
}

// checkpointWith opens a log for work. Opening starts a segment; it is taken away again, so that both sides' directories
// hold the same segments.
func checkpointWith(dir, comp string, work func(*wlog.WL) error) error {
	w, err := checkpointOpen(dir, comp, wlog.DefaultSegmentSize)
	if err != nil {
		return err
	}
	_, opened, err := wlog.Segments(dir)
	if err != nil {
		return err
	}
	defer func() {
		w.Close()
		os.Remove(wlog.SegmentName(dir, opened))
	}()
	return work(w)
}

func (a *checkpointArgs) run() (stats *wlog.CheckpointStats, err error) {
	keep := checkpointKeep(a.Salt, a.Percent)
	if a.KeepEven {
		keep = func(ref chunks.HeadSeriesRef) bool { return ref%2 == 0 }
	}
	err = checkpointWith(a.Dir, a.Compression, func(w *wlog.WL) error {
		stats, err = wlog.Checkpoint(promslog.NewNopLogger(), w, a.From, a.To, keep, a.Mint, a.ST)
		return err
	})
	return stats, err
}

func checkpointRun(req *Request) (*Response, error) {
	var a checkpointArgs
	if err := req.Decode(&a); err != nil {
		return nil, err
	}
	s, err := a.run()
	if err != nil {
		return nil, err
	}
	return &Response{Fields: map[string]any{"stats": checkpointStats(s)}}, nil
}

func checkpointStats(s *wlog.CheckpointStats) map[string]any {
	return map[string]any{
		"series":     []int{s.TotalSeries, s.DroppedSeries},
		"samples":    []int{s.TotalSamples, s.DroppedSamples},
		"tombstones": []int{s.TotalTombstones, s.DroppedTombstones},
		"exemplars":  []int{s.TotalExemplars, s.DroppedExemplars},
		"metadata":   []int{s.TotalMetadata, s.DroppedMetadata},
	}
}

// checkpointTruncate removes segments and checkpoints below the given number, as the head does after a checkpoint.
func checkpointTruncate(req *Request) (*Response, error) {
	var a struct {
		Dir   string `json:"dir"`
		Below int    `json:"below"`
	}
	if err := req.Decode(&a); err != nil {
		return nil, err
	}
	err := checkpointWith(a.Dir, string(compression.None), func(w *wlog.WL) error {
		return errors.Join(w.Truncate(a.Below), wlog.DeleteCheckpoints(a.Dir, a.Below-1))
	})
	return &Response{}, err
}

func checkpointDump(req *Request) (*Response, error) {
	var a struct {
		Dir string `json:"dir"`
	}
	if err := req.Decode(&a); err != nil {
		return nil, err
	}
	sr, err := wlog.NewSegmentsReader(a.Dir)
	if err != nil {
		return nil, err
	}
	defer sr.Close()
	var out bytes.Buffer
	r := wlog.NewReader(sr)
	records := 0
	for r.Next() {
		records++
		if err := checkpointDumpRecord(&out, r.Record()); err != nil {
			return nil, fmt.Errorf("record %d: %w", records, err)
		}
	}
	return &Response{Fields: map[string]any{"records": records}, Payload: out.Bytes()}, r.Err()
}

// checkpointDumpRecord prints one entry a line, without regard to which version of a record held it.
func checkpointDumpRecord(out *bytes.Buffer, rec []byte) error {
	dec := record.NewDecoder(labels.NewSymbolTable(), promslog.NewNopLogger())
	switch dec.Type(rec) {
	case record.Series:
		series, err := dec.Series(rec, nil)
		for _, s := range series {
			fmt.Fprintf(out, "series %d %s\n", s.Ref, s.Labels)
		}
		return err
	case record.Samples, record.SamplesV2:
		samples, err := dec.Samples(rec, nil)
		for _, s := range samples {
			fmt.Fprintf(out, "sample %d %d %d %x\n", s.Ref, s.ST, s.T, math.Float64bits(s.V))
		}
		return err
	case record.HistogramSamples, record.CustomBucketsHistogramSamples, record.HistogramSamplesV2:
		hs, err := dec.HistogramSamples(rec, nil)
		for _, h := range hs {
			fmt.Fprintf(out, "histogram %d %d %d ", h.Ref, h.ST, h.T)
			checkpointDumpHistogram(out, h.H)
		}
		return err
	case record.FloatHistogramSamples, record.CustomBucketsFloatHistogramSamples, record.FloatHistogramSamplesV2:
		hs, err := dec.FloatHistogramSamples(rec, nil)
		for _, h := range hs {
			fmt.Fprintf(out, "float_histogram %d %d %d ", h.Ref, h.ST, h.T)
			checkpointDumpFloatHistogram(out, h.FH)
		}
		return err
	case record.Tombstones:
		stones, err := dec.Tombstones(rec, nil)
		for _, s := range stones {
			fmt.Fprintf(out, "tombstone %d %v\n", s.Ref, s.Intervals)
		}
		return err
	case record.Exemplars:
		exs, err := dec.Exemplars(rec, nil)
		for _, e := range exs {
			fmt.Fprintf(out, "exemplar %d %d %x %s\n", e.Ref, e.T, math.Float64bits(e.V), e.Labels)
		}
		return err
	case record.Metadata:
		ms, err := dec.Metadata(rec, nil)
		for _, m := range ms {
			fmt.Fprintf(out, "metadata %d %d %q %q\n", m.Ref, m.Type, m.Unit, m.Help)
		}
		return err
	default:
		fmt.Fprintf(out, "unknown %x\n", rec)
		return nil
	}
}

func checkpointBits(vs []float64) []string {
	out := make([]string, len(vs))
	for i, v := range vs {
		out[i] = strconv.FormatUint(math.Float64bits(v), 16)
	}
	return out
}

func checkpointDumpHistogram(out *bytes.Buffer, h *histogram.Histogram) {
	fmt.Fprintf(out, "%d %d %x %d %d %x %v %v %v %v %v\n", h.CounterResetHint, h.Schema, math.Float64bits(h.ZeroThreshold),
		h.ZeroCount, h.Count, math.Float64bits(h.Sum), h.PositiveSpans, h.NegativeSpans, h.PositiveBuckets, h.NegativeBuckets,
		checkpointBits(h.CustomValues))
}

func checkpointDumpFloatHistogram(out *bytes.Buffer, h *histogram.FloatHistogram) {
	fmt.Fprintf(out, "%d %d %x %x %x %x %v %v %v %v %v\n", h.CounterResetHint, h.Schema, math.Float64bits(h.ZeroThreshold),
		math.Float64bits(h.ZeroCount), math.Float64bits(h.Count), math.Float64bits(h.Sum), h.PositiveSpans, h.NegativeSpans,
		checkpointBits(h.PositiveBuckets), checkpointBits(h.NegativeBuckets), checkpointBits(h.CustomValues))
}

// checkpointReplay opens a head over the log in dir (chunk files go to scratch) and prints all it answers.
func checkpointReplay(req *Request) (*Response, error) {
	var a struct {
		Dir     string `json:"dir"`
		Scratch string `json:"scratch"`
	}
	if err := req.Decode(&a); err != nil {
		return nil, err
	}
	w, err := wlog.NewSize(promslog.NewNopLogger(), nil, a.Dir, wlog.DefaultSegmentSize, compression.None)
	if err != nil {
		return nil, err
	}
	opts := tsdb.DefaultHeadOptions()
	opts.ChunkDirRoot = a.Scratch
	opts.EnableSTStorage.Store(true)
	opts.FloatChunkEncoding.Store(uint32(chunkenc.EncXOR2))
	opts.EnableHistogramSTEncoding.Store(true)
	opts.OutOfOrderTimeWindow.Store(0)
	h, err := tsdb.NewHead(nil, promslog.NewNopLogger(), w, nil, opts, nil)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if err := h.Init(math.MinInt64); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := checkpointDumpHead(&out, h); err != nil {
		return nil, err
	}
	return &Response{Fields: map[string]any{"series": h.NumSeries()}, Payload: out.Bytes()}, nil
}

func checkpointDumpHead(out *bytes.Buffer, h *tsdb.Head) error {
	all := labels.MustNewMatcher(labels.MatchEqual, "", "")
	ctx := context.Background()
	if h.NumSeries() > 0 && h.MinTime() <= h.MaxTime() {
		q, err := tsdb.NewBlockQuerier(tsdb.NewRangeHead(h, h.MinTime(), h.MaxTime()), h.MinTime(), h.MaxTime())
		if err != nil {
			return err
		}
		defer q.Close()
		set := q.Select(ctx, true, nil, all)
		for set.Next() {
			fmt.Fprintf(out, "series %s\n", set.At().Labels())
			it := set.At().Iterator(nil)
			for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
				switch vt {
				case chunkenc.ValFloat:
					t, v := it.At()
					fmt.Fprintf(out, " f %d %d %x\n", t, it.AtST(), math.Float64bits(v))
				case chunkenc.ValHistogram:
					t, v := it.AtHistogram(nil)
					fmt.Fprintf(out, " h %d %d ", t, it.AtST())
					checkpointDumpHistogram(out, v)
				case chunkenc.ValFloatHistogram:
					t, v := it.AtFloatHistogram(nil)
					fmt.Fprintf(out, " fh %d %d ", t, it.AtST())
					checkpointDumpFloatHistogram(out, v)
				}
			}
			if err := it.Err(); err != nil {
				return err
			}
		}
		if err := set.Err(); err != nil {
			return err
		}
	}
	// Exemplars are left out: while it replays, the head races an exemplar with the series record behind it.
	return nil
}

// checkpointBench runs the reference's checkpoint once; the new checkpoint is removed again.
func checkpointBench(req *Request) (*Response, error) {
	var a checkpointArgs
	if err := req.Decode(&a); err != nil {
		return nil, err
	}
	var s *wlog.CheckpointStats
	before, err := resetPeak()
	if err != nil {
		return nil, err
	}
	fields, err := timed(func() (err error) {
		s, err = a.run()
		return err
	})
	if err != nil {
		return nil, err
	}
	// What the run needed beyond the process as it was: the process itself is large, and links half of Prometheus.
	fields["peak_rss"] = peakRSS() - before
	dir := wlog.CheckpointDir(a.Dir, a.To)
	var size int64
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		fi, err := os.Stat(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		size += fi.Size()
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	fields["out_bytes"] = size
	fields["stats"] = checkpointStats(s)
	return &Response{Fields: fields}, nil
}

// resetPeak gives the garbage back to the system, lets the kernel's peak start over and returns the resident set in bytes.
func resetPeak() (int64, error) {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return 0, err
	}
	return currentRSS(), nil
}
