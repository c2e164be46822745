package main

// The checkpoint layer's side of the harness: random logs written by the reference, its own checkpoint of them, and two
// readings of any directory (the records of a checkpoint in order, and what the reference's head makes of the whole log).

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"

	"github.com/prometheus/common/promslog"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tombstones"
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

// checkpointGenerator writes one random log; series refs and clock go on where an earlier call stopped.
type checkpointGenerator struct {
	rng     *rand.Rand
	wal     *wlog.WL
	nextRef uint64
	clock   int64
	// orderly leaves out what makes the reference's replay a race between its goroutines: a series record behind samples
	// of its ref (as a repeated one can be once the first was dropped), and the end of a series.
	orderly  bool
	coverage map[string]int
}

func (g *checkpointGenerator) log(feature string, rec []byte) error {
	g.coverage[feature]++
	return g.wal.Log(rec)
}

// ref draws mostly known refs, now and then one that no series record ever names. (One that a later record names would
// make the reference's replay a race: whether the sample finds its series depends on its goroutines.)
func (g *checkpointGenerator) ref() chunks.HeadSeriesRef {
	if g.rng.Intn(50) == 0 {
		return chunks.HeadSeriesRef(1_000_000 + uint64(g.rng.Intn(20)))
	}
	if g.nextRef <= 1 {
		return 1
	}
	return chunks.HeadSeriesRef(1 + uint64(g.rng.Int63n(int64(g.nextRef-1))))
}

func (g *checkpointGenerator) labels(ref uint64) labels.Labels {
	b := labels.NewScratchBuilder(6)
	b.Add("__name__", fmt.Sprintf("metric_%d", ref%7))
	b.Add("instance", fmt.Sprintf("host-%d:9090", ref))
	b.Add("job", []string{"a", "b\nc", "ünicode"}[ref%3])
	if g.rng.Intn(20) == 0 {
		b.Add("zzz", string(bytes.Repeat([]byte{'x'}, g.rng.Intn(5000))))
	}
	b.Sort()
	return b.Labels()
}

// seriesLabels must give the same labels for a repeated ref, so it depends on the ref alone.
func (g *checkpointGenerator) seriesLabels(ref uint64) labels.Labels {
	saved := g.rng
	g.rng = rand.New(rand.NewSource(int64(ref)))
	defer func() { g.rng = saved }()
	return g.labels(ref)
}

// spread says how the times of one record lie: 0 all the same, 1 close together, 2 far apart.
func (g *checkpointGenerator) times(n int) []int64 {
	g.clock += int64(g.rng.Intn(1000))
	ts := make([]int64, n)
	spread := g.rng.Intn(4)
	for i := range ts {
		switch spread {
		case 0, 1:
			ts[i] = g.clock
		case 2:
			ts[i] = g.clock + int64(g.rng.Intn(2000)) - 1000
		default:
			ts[i] = g.clock + int64(g.rng.Intn(200_000)) - 100_000
		}
	}
	return ts
}

func (g *checkpointGenerator) st(t int64) int64 {
	switch g.rng.Intn(4) {
	case 0:
		return 0
	case 1:
		return t - 1
	default:
		return t - int64(g.rng.Intn(100_000))
	}
}

func (g *checkpointGenerator) value() float64 {
	switch g.rng.Intn(12) {
	case 0:
		return math.Float64frombits(0x7ff0000000000002)
	case 1:
		return math.NaN()
	case 2:
		return math.Inf(1)
	case 3:
		return math.Copysign(0, -1)
	default:
		return math.Round(g.rng.NormFloat64()*1e6) / 1e3
	}
}

func (g *checkpointGenerator) histogram(custom bool) *histogram.Histogram {
	h := &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(g.rng.Intn(4)),
		Schema:           int32(g.rng.Intn(13) - 4),
		ZeroThreshold:    0.001,
		ZeroCount:        uint64(g.rng.Intn(10)),
		Sum:              g.value(),
	}
	n := 1 + g.rng.Intn(6)
	h.PositiveSpans = []histogram.Span{{Offset: int32(g.rng.Intn(5)), Length: uint32(n)}}
	h.Count = h.ZeroCount
	var prev int64
	for range n {
		c := int64(g.rng.Intn(100))
		h.PositiveBuckets = append(h.PositiveBuckets, c-prev)
		h.Count += uint64(c)
		prev = c
	}
	if custom {
		h.Schema = histogram.CustomBucketsSchema
		h.ZeroThreshold, h.Count, h.ZeroCount = 0, h.Count-h.ZeroCount, 0
		h.PositiveSpans[0].Offset = 0
		for i := range n {
			h.CustomValues = append(h.CustomValues, float64(i)+g.rng.Float64())
		}
		return h
	}
	if g.rng.Intn(2) == 0 {
		h.NegativeSpans = []histogram.Span{{Offset: -3, Length: 2}, {Offset: 4, Length: 1}}
		h.NegativeBuckets = []int64{3, 2, -4}
		h.Count += 3 + 5 + 1
	}
	return h
}

// write appends one random record; custom is 0 for exponential, 1 for custom buckets, 2 for both in one record.
func (g *checkpointGenerator) write() error {
	v2 := g.rng.Intn(2) == 0
	enc := record.Encoder{EnableSTStorage: v2}
	version := map[bool]string{false: "v1", true: "v2"}[v2]
	switch p := g.rng.Intn(100); {
	case p < 10:
		return g.writeSeries(enc)
	case p < 45:
		n := 1 + g.rng.Intn(60)
		if g.rng.Intn(60) == 0 {
			n = 6000 // Larger than a page.
			g.coverage["large"]++
		}
		samples := make([]record.RefSample, 0, n)
		for _, t := range g.times(n) {
			samples = append(samples, record.RefSample{Ref: g.ref(), T: t, ST: g.st(t), V: g.value()})
		}
		return g.log("samples_"+version, enc.Samples(samples, nil))
	case p < 57:
		return g.writeHistograms(enc, version)
	case p < 69:
		return g.writeFloatHistograms(enc, version)
	case p < 76:
		return g.writeTombstones(enc)
	case p < 83:
		var ex []record.RefExemplar
		for _, t := range g.times(1 + g.rng.Intn(8)) {
			ex = append(ex, record.RefExemplar{
				Ref: g.ref(), T: t, V: g.value(), Labels: labels.FromStrings("trace_id", strconv.Itoa(g.rng.Intn(1e6))),
			})
		}
		return g.log("exemplars", enc.Exemplars(ex, nil))
	case p < 92:
		var ms []record.RefMetadata
		for range 1 + g.rng.Intn(8) {
			ms = append(ms, record.RefMetadata{
				Ref: g.ref(), Type: uint8(g.rng.Intn(9)), Unit: []string{"", "seconds"}[g.rng.Intn(2)],
				Help: "help " + strconv.Itoa(g.rng.Intn(30)),
			})
		}
		return g.log("metadata", enc.Metadata(ms, nil))
	case p < 95:
		return g.log("mmap_markers", enc.MmapMarkers([]record.RefMmapMarker{{Ref: g.ref(), MmapRef: 8}}, nil))
	case p < 97:
		return g.log("unknown", []byte{200, 1, 2, 3})
	case p < 98:
		return g.log("no_entries", []byte{byte(record.Samples)})
	default:
		g.coverage["next_segment"]++
		_, err := g.wal.NextSegment()
		return err
	}
}

func (g *checkpointGenerator) writeSeries(enc record.Encoder) error {
	var series []record.RefSeries
	for range 1 + g.rng.Intn(12) {
		switch {
		case !g.orderly && g.nextRef > 1 && g.rng.Intn(8) == 0:
			g.coverage["repeated_ref"]++
			ref := 1 + uint64(g.rng.Int63n(int64(g.nextRef-1)))
			series = append(series, record.RefSeries{Ref: chunks.HeadSeriesRef(ref), Labels: g.seriesLabels(ref)})
		case !g.orderly && g.nextRef > 1 && g.rng.Intn(16) == 0:
			g.coverage["second_ref"]++
			ref := 1 + uint64(g.rng.Int63n(int64(g.nextRef-1)))
			series = append(series, record.RefSeries{Ref: chunks.HeadSeriesRef(g.nextRef), Labels: g.seriesLabels(ref)})
			g.nextRef++
		default:
			series = append(series, record.RefSeries{Ref: chunks.HeadSeriesRef(g.nextRef), Labels: g.seriesLabels(g.nextRef)})
			g.nextRef++
		}
	}
	return g.log("series", enc.Series(series, nil))
}

func (g *checkpointGenerator) writeHistograms(enc record.Encoder, version string) error {
	layout := g.rng.Intn(3)
	var hs []record.RefHistogramSample
	for i, t := range g.times(1 + g.rng.Intn(6)) {
		custom := layout == 1 || layout == 2 && i%2 == 1
		hs = append(hs, record.RefHistogramSample{Ref: g.ref(), T: t, ST: g.st(t), H: g.histogram(custom)})
	}
	feature := "histograms_" + version + []string{"_exponential", "_custom", "_mixed"}[layout]
	rec, rest := enc.HistogramSamples(hs, nil)
	if len(rec) > 0 {
		if err := g.log(feature, rec); err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		return g.log(feature, enc.CustomBucketsHistogramSamples(rest, nil))
	}
	return nil
}

func (g *checkpointGenerator) writeFloatHistograms(enc record.Encoder, version string) error {
	layout := g.rng.Intn(3)
	var hs []record.RefFloatHistogramSample
	for i, t := range g.times(1 + g.rng.Intn(6)) {
		custom := layout == 1 || layout == 2 && i%2 == 1
		hs = append(hs, record.RefFloatHistogramSample{Ref: g.ref(), T: t, ST: g.st(t), FH: g.histogram(custom).ToFloat(nil)})
	}
	feature := "float_histograms_" + version + []string{"_exponential", "_custom", "_mixed"}[layout]
	rec, rest := enc.FloatHistogramSamples(hs, nil)
	if len(rec) > 0 {
		if err := g.log(feature, rec); err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		return g.log(feature, enc.CustomBucketsFloatHistogramSamples(rest, nil))
	}
	return nil
}

func (g *checkpointGenerator) writeTombstones(enc record.Encoder) error {
	var stones []tombstones.Stone
	feature := "tombstones"
	for range 1 + g.rng.Intn(4) {
		stone := tombstones.Stone{Ref: storage.SeriesRef(g.ref())}
		for _, t := range g.times(1 + g.rng.Intn(3)) {
			stone.Intervals = append(stone.Intervals, tombstones.Interval{Mint: t - 500, Maxt: t})
		}
		if !g.orderly && g.rng.Intn(6) == 0 {
			feature = "tombstones_full_range"
			stone.Intervals = tombstones.Intervals{{Mint: math.MinInt64, Maxt: math.MaxInt64}}
		}
		stones = append(stones, stone)
	}
	return g.log(feature, enc.Tombstones(stones, nil))
}

func checkpointMake(req *Request) (*Response, error) {
	var a struct {
		Dir         string `json:"dir"`
		Seed        int64  `json:"seed"`
		Compression string `json:"compression"`
		SegmentSize int    `json:"segment_size"`
		Records     int    `json:"records"`
		NextRef     uint64 `json:"next_ref"`
		Clock       int64  `json:"clock"`
		Orderly     bool   `json:"orderly"`
	}
	if err := req.Decode(&a); err != nil {
		return nil, err
	}
	w, err := checkpointOpen(a.Dir, a.Compression, a.SegmentSize)
	if err != nil {
		return nil, err
	}
	g := &checkpointGenerator{
		rng: rand.New(rand.NewSource(a.Seed)), wal: w, nextRef: max(a.NextRef, 1), clock: a.Clock,
		orderly: a.Orderly, coverage: map[string]int{},
	}
	for i := range a.Records {
		if i == 0 {
			err = g.writeSeries(record.Encoder{})
		} else {
			err = g.write()
		}
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	first, last, err := wlog.Segments(a.Dir)
	if err != nil {
		return nil, err
	}
	return &Response{Fields: map[string]any{
		"first": first, "last": last, "next_ref": g.nextRef, "clock": g.clock, "coverage": g.coverage,
	}}, nil
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
