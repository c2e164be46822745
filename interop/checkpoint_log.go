package main

// Random logs for the checkpoint layer: every kind of record, both versions, and what a log should not but can hold.

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand"
	"strconv"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

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
