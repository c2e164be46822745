package main

// The record layer: tsdb/record's encoder and decoder, and the text forms, validation and conversions of model/histogram and
// model/labels.
//
// Entries travel as
//
//	kind u8, count u32, then count times, by kind
//	0 series: ref u64, labels                  1 samples: ref u64, t i64, st i64, v f64
//	2 histograms, 3 float histograms: ref u64, t i64, st i64, histogram (entry.go)
//	4 tombstones: ref u64, mint i64, maxt i64  5 exemplars: ref u64, t i64, v f64, labels
//	6 metadata: ref u64, type u8, unit item, help item
//	7 mmap markers: ref u64, chunk ref u64     255 unknown tag: nothing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

func init() {
	register("records.encode", recordsEncode)
	register("records.decode", recordsDecode)
	register("records.forms", recordsForms)
	register("records.printable", recordsPrintable)
	register("records.bench", recordsBench)
}

const (
	recSeries = iota
	recSamples
	recHistograms
	recFloatHistograms
	recTombstones
	recExemplars
	recMetadata
	recMarkers
	recUnknown = 255
)

// batch is the entries of one record, or on their way into one or two.
type recordBatch struct {
	kind    uint8
	series  []record.RefSeries
	samples []record.RefSample
	hs      []record.RefHistogramSample
	fhs     []record.RefFloatHistogramSample
	stones  []tombstones.Stone
	ex      []record.RefExemplar
	md      []record.RefMetadata
	markers []record.RefMmapMarker
}

func (r *reader) ref() chunks.HeadSeriesRef { return chunks.HeadSeriesRef(r.u64()) }

func (r *reader) recordBatch() (b recordBatch) {
	b.kind = r.u8()
	switch b.kind {
	case recSeries:
		b.series = list(r, 12, func() record.RefSeries { return record.RefSeries{Ref: r.ref(), Labels: r.labels()} })
	case recSamples:
		b.samples = list(r, 32, func() record.RefSample {
			return record.RefSample{Ref: r.ref(), T: r.i64(), ST: r.i64(), V: r.f64()}
		})
	case recHistograms:
		b.hs = list(r, 24, func() record.RefHistogramSample {
			return record.RefHistogramSample{Ref: r.ref(), T: r.i64(), ST: r.i64(), H: r.histogram()}
		})
	case recFloatHistograms:
		b.fhs = list(r, 24, func() record.RefFloatHistogramSample {
			return record.RefFloatHistogramSample{Ref: r.ref(), T: r.i64(), ST: r.i64(), FH: r.floatHistogram()}
		})
	case recTombstones:
		b.stones = list(r, 24, func() tombstones.Stone {
			return tombstones.Stone{
				Ref: storage.SeriesRef(r.u64()), Intervals: tombstones.Intervals{{Mint: r.i64(), Maxt: r.i64()}},
			}
		})
	case recExemplars:
		b.ex = list(r, 28, func() record.RefExemplar {
			return record.RefExemplar{Ref: r.ref(), T: r.i64(), V: r.f64(), Labels: r.labels()}
		})
	case recMetadata:
		b.md = list(r, 17, func() record.RefMetadata {
			return record.RefMetadata{Ref: r.ref(), Type: r.u8(), Unit: r.string(), Help: r.string()}
		})
	case recMarkers:
		b.markers = list(r, 16, func() record.RefMmapMarker {
			return record.RefMmapMarker{Ref: r.ref(), MmapRef: chunks.ChunkDiskMapperRef(r.u64())}
		})
	}
	return b
}

func (w *writer) recordBatch(b *recordBatch) {
	w.u8(b.kind)
	switch b.kind {
	case recSeries:
		putList(w, b.series, func(s record.RefSeries) {
			w.u64(uint64(s.Ref))
			w.labels(s.Labels)
		})
	case recSamples:
		putList(w, b.samples, func(s record.RefSample) {
			w.stamp(s.Ref, s.T, s.ST)
			w.f64(s.V)
		})
	case recHistograms:
		putList(w, b.hs, func(s record.RefHistogramSample) {
			w.stamp(s.Ref, s.T, s.ST)
			w.histogram(s.H)
		})
	case recFloatHistograms:
		putList(w, b.fhs, func(s record.RefFloatHistogramSample) {
			w.stamp(s.Ref, s.T, s.ST)
			w.floatHistogram(s.FH)
		})
	case recTombstones:
		// The decoder makes one stone of each row.
		putList(w, b.stones, func(s tombstones.Stone) {
			w.stamp(chunks.HeadSeriesRef(s.Ref), s.Intervals[0].Mint, s.Intervals[0].Maxt)
		})
	case recExemplars:
		putList(w, b.ex, func(e record.RefExemplar) {
			w.u64(uint64(e.Ref))
			w.i64(e.T)
			w.f64(e.V)
			w.labels(e.Labels)
		})
	case recMetadata:
		putList(w, b.md, func(m record.RefMetadata) {
			w.u64(uint64(m.Ref))
			w.u8(m.Type)
			w.string(m.Unit)
			w.string(m.Help)
		})
	case recMarkers:
		putList(w, b.markers, func(m record.RefMmapMarker) {
			w.u64(uint64(m.Ref))
			w.u64(uint64(m.MmapRef))
		})
	}
}

func (w *writer) stamp(ref chunks.HeadSeriesRef, t, st int64) {
	w.u64(uint64(ref))
	w.i64(t)
	w.i64(st)
}

// encode makes the records that the reference's own callers log for a batch: a histogram record which holds nothing is not
// logged, and what the encoder hands back goes into a record of its own.
func (b *recordBatch) encode(enc record.Encoder) [][]byte {
	switch b.kind {
	case recSeries:
		return [][]byte{enc.Series(b.series, nil)}
	case recSamples:
		return [][]byte{enc.Samples(b.samples, nil)}
	case recHistograms:
		rec, custom := enc.HistogramSamples(b.hs, nil)
		return splitRecords(rec, len(custom), func() []byte { return enc.CustomBucketsHistogramSamples(custom, nil) })
	case recFloatHistograms:
		rec, custom := enc.FloatHistogramSamples(b.fhs, nil)
		return splitRecords(rec, len(custom), func() []byte { return enc.CustomBucketsFloatHistogramSamples(custom, nil) })
	case recTombstones:
		return [][]byte{enc.Tombstones(b.stones, nil)}
	case recExemplars:
		return [][]byte{enc.Exemplars(b.ex, nil)}
	case recMetadata:
		return [][]byte{enc.Metadata(b.md, nil)}
	case recMarkers:
		return [][]byte{enc.MmapMarkers(b.markers, nil)}
	}
	panic(fmt.Sprintf("no such kind of batch: %d", b.kind))
}

func splitRecords(rec []byte, custom int, encodeCustom func() []byte) (records [][]byte) {
	if len(rec) > 0 {
		records = append(records, rec)
	}
	if custom > 0 {
		records = append(records, encodeCustom())
	}
	return records
}

// recordsEncode: items of {st u8, batch} → for each: count u32, records as items.
func recordsEncode(req *Request) (*Response, error) {
	batches, err := items(req.Payload)
	if err != nil {
		return nil, err
	}
	var w writer
	for _, item := range batches {
		r := reader{b: item}
		enc := record.Encoder{EnableSTStorage: r.u8() != 0}
		batch := r.recordBatch()
		if r.err != nil {
			return nil, r.err
		}
		records := batch.encode(enc)
		w.u32(uint32(len(records)))
		for _, rec := range records {
			w.item(rec)
		}
	}
	return &Response{Payload: w.b}, nil
}

// skipCounter is a log handler that counts the histograms which a decoder complains of and passes over.
type skipCounter struct{ skipped uint32 }

func (*skipCounter) Enabled(context.Context, slog.Level) bool { return true }
func (c *skipCounter) Handle(context.Context, slog.Record) error {
	c.skipped++
	return nil
}
func (c *skipCounter) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *skipCounter) WithGroup(string) slog.Handler      { return c }

func decodeRecord(dec *record.Decoder, rec []byte) (b recordBatch, err error) {
	switch dec.Type(rec) {
	case record.Series:
		b.kind = recSeries
		b.series, err = dec.Series(rec, nil)
	case record.Samples, record.SamplesV2:
		b.kind = recSamples
		b.samples, err = dec.Samples(rec, nil)
	case record.HistogramSamples, record.CustomBucketsHistogramSamples, record.HistogramSamplesV2:
		b.kind = recHistograms
		b.hs, err = dec.HistogramSamples(rec, nil)
	case record.FloatHistogramSamples, record.CustomBucketsFloatHistogramSamples, record.FloatHistogramSamplesV2:
		b.kind = recFloatHistograms
		b.fhs, err = dec.FloatHistogramSamples(rec, nil)
	case record.Tombstones:
		b.kind = recTombstones
		b.stones, err = dec.Tombstones(rec, nil)
	case record.Exemplars:
		b.kind = recExemplars
		b.ex, err = dec.Exemplars(rec, nil)
	case record.Metadata:
		b.kind = recMetadata
		b.md, err = dec.Metadata(rec, nil)
	case record.MmapMarkers:
		b.kind = recMarkers
		b.markers, err = dec.MmapMarkers(rec, nil)
	default:
		b.kind = recUnknown
	}
	return b, err
}

// recordsDecode: items of records → for each: status u8 (0 accepted, 1 refused, 2 panicked), item: accepted = histograms of
// unknown schemas u32, batch; else the reason.
func recordsDecode(req *Request) (*Response, error) {
	records, err := items(req.Payload)
	if err != nil {
		return nil, err
	}
	var counter skipCounter
	dec := record.NewDecoder(nil, slog.New(&counter))
	var w writer
	for _, rec := range records {
		counter.skipped = 0
		batch, err, panicked := decodeSafely(&dec, rec)
		switch {
		case panicked:
			w.u8(2)
			w.string(err.Error())
		case err != nil:
			w.u8(1)
			w.string(err.Error())
		default:
			var body writer
			body.u32(counter.skipped)
			body.recordBatch(&batch)
			w.u8(0)
			w.item(body.b)
		}
	}
	return &Response{Payload: w.b}, nil
}

func decodeSafely(dec *record.Decoder, rec []byte) (b recordBatch, err error, panicked bool) {
	defer func() {
		if p := recover(); p != nil {
			err, panicked = errors.New(fmt.Sprint(p)), true
		}
	}()
	b, err = decodeRecord(dec, rec)
	return b, err, false
}

// recordsForms: items of {what u8, argument} → items.
//
//	0 float → %g                 1 bytes → strconv.Quote            2 labels → text
//	3 histogram, 4 float histogram → text item, valid u8, float histogram (3 only: ToFloat), then for each target schema
//	  from own schema - 1 down to -9 and at most 6 of them: ok u8, reduced histogram if ok
func recordsForms(req *Request) (*Response, error) {
	questions, err := items(req.Payload)
	if err != nil {
		return nil, err
	}
	var w writer
	for _, question := range questions {
		r := reader{b: question}
		var answer writer
		switch what := r.u8(); what {
		case 0:
			answer.b = fmt.Appendf(nil, "%g", r.f64())
		case 1:
			answer.b = strconv.AppendQuote(nil, string(r.b))
		case 2:
			ls := r.labels()
			answer.b = []byte(ls.String())
		case 3:
			answer.histogramForms(r.histogram())
		case 4:
			answer.floatHistogramForms(r.floatHistogram())
		default:
			return nil, fmt.Errorf("no such question: %d", what)
		}
		if r.err != nil {
			return nil, r.err
		}
		w.item(answer.b)
	}
	return &Response{Payload: w.b}, nil
}

// text is what String gives, or how it panicked: it may, on histograms that are not valid.
func textOf(s fmt.Stringer) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = "panic"
		}
	}()
	return s.String()
}

func (w *writer) bool(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

func reductionTargets(schema int32) (targets []int32) {
	for target := schema - 1; target >= histogram.ExponentialSchemaMinReserved && len(targets) < 6; target-- {
		targets = append(targets, target)
	}
	return targets
}

func (w *writer) histogramForms(h *histogram.Histogram) {
	w.string(textOf(h))
	w.bool(h.Validate() == nil)
	w.floatHistogram(h.ToFloat(nil))
	for _, target := range reductionTargets(h.Schema) {
		reduced := h.Copy()
		reduced.CustomValues = h.CustomValues // Copy drops what an exponential schema does not use.
		err := reduced.ReduceResolution(target)
		w.bool(err == nil)
		if err == nil {
			w.histogram(reduced)
		}
	}
}

func (w *writer) floatHistogramForms(h *histogram.FloatHistogram) {
	w.string(textOf(h))
	w.bool(h.Validate() == nil)
	for _, target := range reductionTargets(h.Schema) {
		reduced := h.Copy()
		reduced.CustomValues = h.CustomValues // Copy drops what an exponential schema does not use.
		err := reduced.ReduceResolution(target)
		w.bool(err == nil)
		if err == nil {
			w.floatHistogram(reduced)
		}
	}
}

// recordsPrintable answers strconv.IsPrint of every code point, a byte each.
func recordsPrintable(*Request) (*Response, error) {
	var w writer
	for r := range rune(0x110000) {
		w.bool(strconv.IsPrint(r))
	}
	return &Response{Payload: w.b}, nil
}

// recordsBench decodes (into reused slices, as replay does) or encodes (into a reused buffer, as a commit does) the records
// of the payload, args.Repeat times over.
func recordsBench(req *Request) (*Response, error) {
	var args struct {
		Encode bool
		V2     bool `json:"v2"`
		Repeat int
	}
	if err := req.Decode(&args); err != nil {
		return nil, err
	}
	records, err := items(req.Payload)
	if err != nil {
		return nil, err
	}
	dec := record.NewDecoder(nil, slog.New(&skipCounter{}))
	if args.Encode {
		return benchEncode(&dec, records, record.Encoder{EnableSTStorage: args.V2}, args.Repeat)
	}
	var reused recordBatch
	entries := 0
	fields, err := timed(func() error {
		for range args.Repeat {
			for _, rec := range records {
				n, err := reused.decodeAgain(&dec, rec)
				if err != nil {
					return err
				}
				entries += n
			}
		}
		return nil
	})
	fields["entries"] = entries
	return &Response{Fields: fields}, err
}

// decodeAgain decodes into the batch's own slices and answers how many entries there were.
func (b *recordBatch) decodeAgain(dec *record.Decoder, rec []byte) (n int, err error) {
	switch dec.Type(rec) {
	case record.Series:
		b.series, err = dec.Series(rec, b.series[:0])
		return len(b.series), err
	case record.Samples, record.SamplesV2:
		b.samples, err = dec.Samples(rec, b.samples[:0])
		return len(b.samples), err
	case record.HistogramSamples, record.CustomBucketsHistogramSamples, record.HistogramSamplesV2:
		b.hs, err = dec.HistogramSamples(rec, b.hs[:0])
		return len(b.hs), err
	case record.FloatHistogramSamples, record.CustomBucketsFloatHistogramSamples, record.FloatHistogramSamplesV2:
		b.fhs, err = dec.FloatHistogramSamples(rec, b.fhs[:0])
		return len(b.fhs), err
	case record.Tombstones:
		b.stones, err = dec.Tombstones(rec, b.stones[:0])
		return len(b.stones), err
	case record.Exemplars:
		b.ex, err = dec.Exemplars(rec, b.ex[:0])
		return len(b.ex), err
	case record.Metadata:
		b.md, err = dec.Metadata(rec, b.md[:0])
		return len(b.md), err
	case record.MmapMarkers:
		b.markers, err = dec.MmapMarkers(rec, b.markers[:0])
		return len(b.markers), err
	}
	return 0, errors.New("unknown tag")
}

func benchEncode(dec *record.Decoder, records [][]byte, enc record.Encoder, repeat int) (*Response, error) {
	var batches []recordBatch
	entries := 0
	for _, rec := range records {
		batch, err := decodeRecord(dec, rec)
		if err != nil {
			return nil, err
		}
		n := len(batch.series) + len(batch.samples) + len(batch.hs) + len(batch.fhs) + len(batch.stones) +
			len(batch.ex) + len(batch.md) + len(batch.markers)
		entries += n * repeat
		batches = append(batches, batch)
	}
	bytes := 0
	var buf []byte
	fields, err := timed(func() error {
		for range repeat {
			for i := range batches {
				buf = batches[i].encodeInto(enc, buf[:0])
				bytes += len(buf)
			}
		}
		return nil
	})
	fields["entries"], fields["bytes"] = entries, bytes
	return &Response{Fields: fields}, err
}

// encodeInto encodes a batch which needs one record only.
func (b *recordBatch) encodeInto(enc record.Encoder, buf []byte) []byte {
	switch b.kind {
	case recSeries:
		return enc.Series(b.series, buf)
	case recSamples:
		return enc.Samples(b.samples, buf)
	case recHistograms:
		rec, _ := enc.HistogramSamples(b.hs, buf)
		return rec
	case recFloatHistograms:
		rec, _ := enc.FloatHistogramSamples(b.fhs, buf)
		return rec
	case recTombstones:
		return enc.Tombstones(b.stones, buf)
	case recExemplars:
		return enc.Exemplars(b.ex, buf)
	case recMetadata:
		return enc.Metadata(b.md, buf)
	default:
		return enc.MmapMarkers(b.markers, buf)
	}
}
