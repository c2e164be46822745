package main

// The committed records: inputs chosen by hand, what the reference makes of them, and what it reads back.

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

func init() { register("records.goldens", recordsGoldens) }

type goldenCase struct {
	name  string
	v2    bool
	batch recordBatch
}

// recordsGoldens: for each case {name item, manifest entry as JSON item, count u32, records as items}.
func recordsGoldens(*Request) (*Response, error) {
	var w writer
	for _, c := range goldenCases() {
		var counter skipCounter
		dec := record.NewDecoder(nil, slog.New(&counter))
		records := c.batch.encode(record.Encoder{EnableSTStorage: c.v2})
		var decoded []any
		for _, rec := range records {
			counter.skipped = 0
			batch, err := decodeRecord(&dec, rec)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			decoded = append(decoded, map[string]any{"tag": rec[0], "entries": batch.json(), "skipped": counter.skipped})
		}
		text, err := json.Marshal(map[string]any{
			"name": c.name, "kind": c.batch.kindName(), "v2": c.v2, "input": c.batch.json(), "records": decoded,
		})
		if err != nil {
			return nil, err
		}
		w.string(c.name)
		w.item(text)
		w.u32(uint32(len(records)))
		for _, rec := range records {
			w.item(rec)
		}
	}
	return &Response{Payload: w.b}, nil
}

func (b *recordBatch) kindName() string {
	return []string{
		"series", "samples", "histograms", "float_histograms", "tombstones", "exemplars", "metadata", "mmap_markers",
	}[b.kind]
}

// Floats by their bits and texts by their bytes: JSON has no other exact way.
func jsonBits(v float64) string { return fmt.Sprintf("%016x", math.Float64bits(v)) }
func jsonText(s string) string  { return hex.EncodeToString([]byte(s)) }

func jsonList[T any](all []T, one func(T) any) []any {
	out := make([]any, 0, len(all))
	for _, v := range all {
		out = append(out, one(v))
	}
	return out
}

func jsonLabels(ls labels.Labels) any {
	pairs := []any{}
	ls.Range(func(l labels.Label) { pairs = append(pairs, []string{jsonText(l.Name), jsonText(l.Value)}) })
	return pairs
}

func jsonSpan(s histogram.Span) any { return []any{s.Offset, s.Length} }
func jsonFloat(v float64) any       { return jsonBits(v) }
func jsonInt(v int64) any           { return v }

func jsonHistogram(h *histogram.Histogram) any {
	return map[string]any{
		"reset_hint": h.CounterResetHint, "schema": h.Schema, "zero_threshold": jsonBits(h.ZeroThreshold),
		"zero_count": h.ZeroCount, "count": h.Count, "sum": jsonBits(h.Sum),
		"positive_spans":   jsonList(h.PositiveSpans, jsonSpan),
		"negative_spans":   jsonList(h.NegativeSpans, jsonSpan),
		"positive_buckets": jsonList(h.PositiveBuckets, jsonInt),
		"negative_buckets": jsonList(h.NegativeBuckets, jsonInt),
		"custom_values":    jsonList(h.CustomValues, jsonFloat),
	}
}

func jsonFloatHistogram(h *histogram.FloatHistogram) any {
	return map[string]any{
		"reset_hint": h.CounterResetHint, "schema": h.Schema, "zero_threshold": jsonBits(h.ZeroThreshold),
		"zero_count": jsonBits(h.ZeroCount), "count": jsonBits(h.Count), "sum": jsonBits(h.Sum),
		"positive_spans":   jsonList(h.PositiveSpans, jsonSpan),
		"negative_spans":   jsonList(h.NegativeSpans, jsonSpan),
		"positive_buckets": jsonList(h.PositiveBuckets, jsonFloat),
		"negative_buckets": jsonList(h.NegativeBuckets, jsonFloat),
		"custom_values":    jsonList(h.CustomValues, jsonFloat),
	}
}

func (b *recordBatch) json() []any {
	switch b.kind {
	case recSeries:
		return jsonList(b.series, func(s record.RefSeries) any {
			return map[string]any{"ref": s.Ref, "labels": jsonLabels(s.Labels)}
		})
	case recSamples:
		return jsonList(b.samples, func(s record.RefSample) any {
			return map[string]any{"ref": s.Ref, "t": s.T, "st": s.ST, "v": jsonBits(s.V)}
		})
	case recHistograms:
		return jsonList(b.hs, func(s record.RefHistogramSample) any {
			return map[string]any{"ref": s.Ref, "t": s.T, "st": s.ST, "h": jsonHistogram(s.H)}
		})
	case recFloatHistograms:
		return jsonList(b.fhs, func(s record.RefFloatHistogramSample) any {
			return map[string]any{"ref": s.Ref, "t": s.T, "st": s.ST, "h": jsonFloatHistogram(s.FH)}
		})
	case recTombstones:
		return jsonList(b.stones, func(s tombstones.Stone) any {
			return map[string]any{"ref": s.Ref, "mint": s.Intervals[0].Mint, "maxt": s.Intervals[0].Maxt}
		})
	case recExemplars:
		return jsonList(b.ex, func(e record.RefExemplar) any {
			return map[string]any{"ref": e.Ref, "t": e.T, "v": jsonBits(e.V), "labels": jsonLabels(e.Labels)}
		})
	case recMetadata:
		return jsonList(b.md, func(m record.RefMetadata) any {
			return map[string]any{"ref": m.Ref, "type": m.Type, "unit": jsonText(m.Unit), "help": jsonText(m.Help)}
		})
	default:
		return jsonList(b.markers, func(m record.RefMmapMarker) any {
			return map[string]any{"ref": m.Ref, "chunk": uint64(m.MmapRef)}
		})
	}
}

func goldenHistogram(schema int32) *histogram.Histogram {
	h := &histogram.Histogram{
		CounterResetHint: histogram.NotCounterReset, Schema: schema, ZeroThreshold: 0.001, ZeroCount: 2, Count: 19, Sum: 18.4,
		PositiveSpans:   []histogram.Span{{Offset: -1, Length: 3}, {Offset: 2, Length: 2}},
		PositiveBuckets: []int64{1, 2, -1, 2, -3},
		NegativeSpans:   []histogram.Span{{Offset: 0, Length: 2}},
		NegativeBuckets: []int64{3, -1},
	}
	if schema == histogram.CustomBucketsSchema {
		h.ZeroThreshold, h.ZeroCount, h.Count, h.NegativeSpans, h.NegativeBuckets = 0, 0, 12, nil, nil
		h.PositiveSpans[0].Offset = 0
		h.CustomValues = []float64{-0.5, 0, 0.1, 1, 5, 10}
	}
	return h
}

const goldenT = 1_700_000_000_000

func goldenHistograms(schemas ...int32) (hs []record.RefHistogramSample) {
	for i, schema := range schemas {
		st := []int64{goldenT - 1000, goldenT - 1000, 0, goldenT - 500}[i%4]
		hs = append(hs, record.RefHistogramSample{
			Ref: 100 + 3*refOf(i), T: goldenT + 15_000*int64(i), ST: st, H: goldenHistogram(schema),
		})
	}
	stale := &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
	return append(hs, record.RefHistogramSample{Ref: 7, T: goldenT - 1, H: stale})
}

func goldenFloatHistograms(schemas ...int32) (fhs []record.RefFloatHistogramSample) {
	for _, h := range goldenHistograms(schemas...) {
		fhs = append(fhs, record.RefFloatHistogramSample{Ref: h.Ref, T: h.T, ST: h.ST, FH: h.H.ToFloat(nil)})
	}
	return fhs
}

func refOf(i int) chunks.HeadSeriesRef { return chunks.HeadSeriesRef(i) }

func goldenSamples() []record.RefSample {
	stale := math.Float64frombits(value.StaleNaN)
	return []record.RefSample{
		{Ref: 1, T: goldenT, ST: goldenT - 1000, V: 1.5},
		{Ref: 2, T: goldenT, ST: goldenT - 1000, V: math.Copysign(0, -1)},
		{Ref: 65, T: goldenT, ST: 0, V: stale},
		{Ref: 66, T: goldenT, ST: 0, V: math.Inf(1)},
		{Ref: 8200, T: goldenT + 15_000, ST: goldenT - 900, V: math.Float64frombits(value.NormalNaN)},
		{Ref: 2_000_000, T: goldenT - 15_000, ST: goldenT - 900, V: math.Float64frombits(0xfff8_0000_dead_beef)},
		{Ref: 1 << 63, T: math.MinInt64, ST: math.MaxInt64, V: math.MaxFloat64},
		{Ref: math.MaxUint64, T: math.MaxInt64, ST: math.MinInt64, V: math.SmallestNonzeroFloat64},
		{Ref: 0, T: 0, ST: 0, V: 0},
	}
}

func goldenCases() []goldenCase {
	odd := fromPairs([]labels.Label{{Name: "z", Value: "1"}, {Name: "a", Value: ""}, {Name: "z", Value: "\xff"}, {Name: "", Value: "x"}})
	up := labels.FromStrings("__name__", "up", "instance", "localhost:9090", "job", "prometheus", "žluť", "kůň \"1\"\n")
	exemplar := labels.FromStrings("trace_id", "4bf92f3577b34da6")
	var cases []goldenCase
	add := func(name string, v2 bool, b recordBatch) { cases = append(cases, goldenCase{name, v2, b}) }

	add("series", false, recordBatch{kind: recSeries, series: []record.RefSeries{
		{Ref: 1, Labels: up}, {Ref: math.MaxUint64, Labels: odd}, {Ref: 3, Labels: labels.EmptyLabels()},
	}})
	add("tombstones", false, recordBatch{kind: recTombstones, stones: []tombstones.Stone{
		{Ref: 1, Intervals: tombstones.Intervals{{Mint: 0, Maxt: 9}}},
		{Ref: 2, Intervals: tombstones.Intervals{{Mint: math.MinInt64, Maxt: math.MaxInt64}}},
		{Ref: 2, Intervals: tombstones.Intervals{{Mint: -goldenT, Maxt: goldenT}}},
	}})
	add("exemplars", false, recordBatch{kind: recExemplars, ex: []record.RefExemplar{
		{Ref: 10, T: goldenT, V: 0.25, Labels: exemplar}, {Ref: 9, T: goldenT + 1, V: -1, Labels: labels.EmptyLabels()},
		{Ref: math.MaxUint64, T: math.MinInt64, V: 1e300, Labels: odd},
	}})
	add("mmap_markers", false, recordBatch{kind: recMarkers, markers: []record.RefMmapMarker{
		{Ref: 1, MmapRef: 0}, {Ref: 2, MmapRef: 1<<32 | 8}, {Ref: math.MaxUint64, MmapRef: math.MaxUint64},
	}})
	md := recordBatch{kind: recMetadata}
	for t := range uint8(9) {
		md.md = append(md.md, record.RefMetadata{
			Ref: 1 << (7 * refOf(int(t))), Type: t, Unit: []string{"", "seconds"}[t%2], Help: "Help\n\xff",
		})
	}
	add("metadata", false, md)
	for _, v2 := range []bool{false, true} {
		v := map[bool]string{false: "v1", true: "v2"}[v2]
		add("samples-"+v, v2, recordBatch{kind: recSamples, samples: goldenSamples()})
		add("histograms-"+v, v2, recordBatch{kind: recHistograms, hs: goldenHistograms(0, -4, 8, -9, 3)})
		add("histograms-custom-"+v, v2, recordBatch{kind: recHistograms, hs: goldenHistograms(-53, -53, -53, -53)[:4]})
		add("histograms-mixed-"+v, v2, recordBatch{kind: recHistograms, hs: goldenHistograms(-53, 2, -53, 1, -53)})
		add("histograms-schemas-"+v, v2, recordBatch{kind: recHistograms, hs: goldenHistograms(9, 52, 53, -10, 8)})
		add("float_histograms-"+v, v2, recordBatch{kind: recFloatHistograms, fhs: goldenFloatHistograms(0, -4, 8, -9, 3)})
		add("float_histograms-custom-"+v, v2, recordBatch{kind: recFloatHistograms, fhs: goldenFloatHistograms(-53, -53, -53, -53)[:4]})
		add("float_histograms-mixed-"+v, v2, recordBatch{kind: recFloatHistograms, fhs: goldenFloatHistograms(-53, 2, -53, 1, -53)})
		add("float_histograms-schemas-"+v, v2, recordBatch{kind: recFloatHistograms, fhs: goldenFloatHistograms(9, 52, 53, -10, 8)})
		for _, kind := range []uint8{recSamples, recHistograms, recFloatHistograms} {
			b := recordBatch{kind: kind}
			add(b.kindName()+"-empty-"+v, v2, b)
		}
	}
	for _, kind := range []uint8{recSeries, recTombstones, recExemplars, recMetadata, recMarkers} {
		b := recordBatch{kind: kind}
		add(b.kindName()+"-empty", false, b)
	}
	return cases
}
