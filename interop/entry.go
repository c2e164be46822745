package main

import (
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
)

// An entry is one thing that belongs to a series: what an appender takes, and what a dump gives.
//
//	kind u8, labels, t i64, st i64 (0 = none), then by kind
//	0 float: v f64          1 histogram              2 float histogram
//	3 exemplar: v f64, labels                        4 metadata: type, unit, help (items)
//
//	labels    = count u32, (name item, value item) …
//	histogram = hint u8, schema i32, zero threshold f64, zero count u64, count u64, sum f64, positive spans, negative
//	            spans, positive buckets, negative buckets, custom values; each list = count u32, elements;
//	            span = offset i32, length u32; bucket = i64 delta; custom value f64
//	float histogram: the same with zero count, count and buckets as f64, buckets absolute
type entry struct {
	kind  uint8
	ls    labels.Labels
	t, st int64
	v     float64
	h     *histogram.Histogram
	fh    *histogram.FloatHistogram
	ex    labels.Labels
	md    metadata.Metadata
}

const (
	kindFloat = iota
	kindHistogram
	kindFloatHistogram
	kindExemplar
	kindMetadata
)

func (e *entry) exemplar() exemplar.Exemplar {
	return exemplar.Exemplar{Labels: e.ex, Value: e.v, Ts: e.t, HasTs: true}
}

func (r *reader) entry() (e entry) {
	e.kind, e.ls, e.t, e.st = r.u8(), r.labels(), r.i64(), r.i64()
	switch e.kind {
	case kindFloat:
		e.v = r.f64()
	case kindHistogram:
		e.h = r.histogram()
	case kindFloatHistogram:
		e.fh = r.floatHistogram()
	case kindExemplar:
		e.v, e.ex = r.f64(), r.labels()
	case kindMetadata:
		e.md.Type = metricType(r.string())
		e.md.Unit, e.md.Help = r.string(), r.string()
	}
	return e
}

func (w *writer) entry(e *entry) {
	w.u8(e.kind)
	w.labels(e.ls)
	w.i64(e.t)
	w.i64(e.st)
	switch e.kind {
	case kindFloat:
		w.f64(e.v)
	case kindHistogram:
		w.histogram(e.h)
	case kindFloatHistogram:
		w.floatHistogram(e.fh)
	case kindExemplar:
		w.f64(e.v)
		w.labels(e.ex)
	case kindMetadata:
		w.string(string(e.md.Type))
		w.string(e.md.Unit)
		w.string(e.md.Help)
	}
}

// labels reads pairs as they stand: sorting is the caller's, since unsorted and repeated ones are worth asking about.
func (r *reader) labels() labels.Labels {
	n := r.count(8)
	pairs := make([]labels.Label, 0, n)
	for range n {
		pairs = append(pairs, labels.Label{Name: r.string(), Value: r.string()})
	}
	return fromPairs(pairs)
}

// fromPairs makes a label set of the pairs in the order given.
func fromPairs(pairs []labels.Label) labels.Labels {
	var b labels.ScratchBuilder
	for _, l := range pairs {
		b.Add(l.Name, l.Value)
	}
	return b.Labels()
}

func (w *writer) labels(ls labels.Labels) {
	w.u32(uint32(ls.Len()))
	ls.Range(func(l labels.Label) {
		w.string(l.Name)
		w.string(l.Value)
	})
}

func list[T any](r *reader, size int, one func() T) []T {
	n := r.count(size)
	if n == 0 {
		return nil
	}
	all := make([]T, 0, n)
	for range n {
		all = append(all, one())
	}
	return all
}

func (r *reader) span() histogram.Span { return histogram.Span{Offset: r.i32(), Length: r.u32()} }

func (r *reader) histogram() *histogram.Histogram {
	return &histogram.Histogram{
		CounterResetHint: histogram.CounterResetHint(r.u8()), Schema: r.i32(), ZeroThreshold: r.f64(), ZeroCount: r.u64(),
		Count: r.u64(), Sum: r.f64(), PositiveSpans: list(r, 8, r.span), NegativeSpans: list(r, 8, r.span),
		PositiveBuckets: list(r, 8, r.i64), NegativeBuckets: list(r, 8, r.i64), CustomValues: list(r, 8, r.f64),
	}
}

func (r *reader) floatHistogram() *histogram.FloatHistogram {
	return &histogram.FloatHistogram{
		CounterResetHint: histogram.CounterResetHint(r.u8()), Schema: r.i32(), ZeroThreshold: r.f64(), ZeroCount: r.f64(),
		Count: r.f64(), Sum: r.f64(), PositiveSpans: list(r, 8, r.span), NegativeSpans: list(r, 8, r.span),
		PositiveBuckets: list(r, 8, r.f64), NegativeBuckets: list(r, 8, r.f64), CustomValues: list(r, 8, r.f64),
	}
}

func putList[T any](w *writer, all []T, one func(T)) {
	w.u32(uint32(len(all)))
	for _, v := range all {
		one(v)
	}
}

func (w *writer) span(s histogram.Span) {
	w.i32(s.Offset)
	w.u32(s.Length)
}

func (w *writer) histogram(h *histogram.Histogram) {
	w.u8(uint8(h.CounterResetHint))
	w.i32(h.Schema)
	w.f64(h.ZeroThreshold)
	w.u64(h.ZeroCount)
	w.u64(h.Count)
	w.f64(h.Sum)
	putList(w, h.PositiveSpans, w.span)
	putList(w, h.NegativeSpans, w.span)
	putList(w, h.PositiveBuckets, w.i64)
	putList(w, h.NegativeBuckets, w.i64)
	putList(w, h.CustomValues, w.f64)
}

func (w *writer) floatHistogram(h *histogram.FloatHistogram) {
	w.u8(uint8(h.CounterResetHint))
	w.i32(h.Schema)
	w.f64(h.ZeroThreshold)
	w.f64(h.ZeroCount)
	w.f64(h.Count)
	w.f64(h.Sum)
	putList(w, h.PositiveSpans, w.span)
	putList(w, h.NegativeSpans, w.span)
	putList(w, h.PositiveBuckets, w.f64)
	putList(w, h.NegativeBuckets, w.f64)
	putList(w, h.CustomValues, w.f64)
}
