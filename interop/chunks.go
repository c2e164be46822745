package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// Chunks on the wire.
//
//	run     = encoding u8, count u32, step …
//	step    = action u8, t i64, st i64, then the value: f64, histogram or float histogram by the encoding (entry.go)
//	outcome = u8 for each step, then the chunks: count u32, (encoding u8, bytes item) …
//
// The actions say what happens before the sample is appended; a histogram's appender may do more by itself.
const (
	actAppend     = iota // nothing
	actReopen            // a new appender on the same chunk
	actNext              // a new chunk, the appender of the one before handed in as previous
	actAppendOnly        // nothing, and the sample is refused if it does not fit as it is
)

const (
	outInPlace = iota
	outRecoded
	outNewChunk
	outRefused
)

// run appends the steps of one run.
type run struct {
	encoding chunkenc.Encoding
	done     []chunkenc.Chunk
	chunk    chunkenc.Chunk
	app      chunkenc.Appender
	prev     chunkenc.Appender
}

func (c *run) begin() error {
	var err error
	if c.chunk, err = chunkenc.NewEmptyChunk(c.encoding); err != nil {
		return err
	}
	c.app, err = c.chunk.Appender()
	return err
}

func (c *run) step(r *reader) (uint8, error) {
	action, t, st := r.u8(), r.i64(), r.i64()
	var err error
	switch action {
	case actReopen:
		if c.app, err = c.chunk.Appender(); err != nil {
			return 0, err
		}
	case actNext:
		c.prev = c.app
		c.done = append(c.done, c.chunk)
		if err := c.begin(); err != nil {
			return 0, err
		}
	}
	var next chunkenc.Chunk
	var recoded bool
	app := c.app
	switch c.encoding {
	case chunkenc.EncXOR, chunkenc.EncXOR2:
		c.app.Append(st, t, r.f64())
	case chunkenc.EncHistogram, chunkenc.EncHistogramST:
		next, recoded, app, err = c.app.AppendHistogram(c.prev, st, t, r.histogram(), action == actAppendOnly)
	case chunkenc.EncFloatHistogram, chunkenc.EncFloatHistogramST:
		next, recoded, app, err = c.app.AppendFloatHistogram(c.prev, st, t, r.floatHistogram(), action == actAppendOnly)
	default:
		return 0, fmt.Errorf("no such encoding: %d", c.encoding)
	}
	if err != nil {
		return outRefused, nil
	}
	c.app = app
	switch {
	case next == nil:
		return outInPlace, nil
	case recoded:
		c.chunk = next
		return outRecoded, nil
	default:
		c.done = append(c.done, c.chunk)
		c.chunk = next
		return outNewChunk, nil
	}
}

func appendRun(r *reader) ([]byte, error) {
	c := run{encoding: chunkenc.Encoding(r.u8())}
	if err := c.begin(); err != nil {
		return nil, err
	}
	steps := r.count(17)
	w := writer{}
	for range steps {
		outcome, err := c.step(r)
		if err != nil || r.err != nil {
			return nil, errors.Join(err, r.err)
		}
		w.u8(outcome)
	}
	all := append(c.done, c.chunk)
	w.u32(uint32(len(all)))
	for _, chk := range all {
		w.u8(uint8(chk.Encoding()))
		w.item(chk.Bytes())
	}
	return w.b, nil
}

// decodeChunk answers failed u8 (0 or 1), count u32, then (t, st, value) of each sample that could be read.
func decodeChunk(encoding chunkenc.Encoding, data []byte) ([]byte, error) {
	chk, err := chunkenc.FromData(encoding, data)
	if err != nil {
		return nil, err
	}
	samples, n := writer{}, uint32(0)
	it := chk.Iterator(nil)
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		n++
		samples.i64(it.AtT())
		samples.i64(it.AtST())
		switch vt {
		case chunkenc.ValFloat:
			_, v := it.At()
			samples.f64(v)
		case chunkenc.ValHistogram:
			_, h := it.AtHistogram(nil)
			samples.histogram(h)
		case chunkenc.ValFloatHistogram:
			_, h := it.AtFloatHistogram(nil)
			samples.floatHistogram(h)
		}
	}
	w := writer{}
	if it.Err() != nil {
		w.u8(1)
	} else {
		w.u8(0)
	}
	w.u32(n)
	w.b = append(w.b, samples.b...)
	return w.b, nil
}

// Chunk files on the wire: series u64, mint i64, maxt i64, encoding u8, out of order u8, data item.
type storedChunk struct {
	series     uint64
	mint, maxt int64
	encoding   chunkenc.Encoding
	ooo        bool
	data       []byte
}

func (r *reader) storedChunk() storedChunk {
	return storedChunk{
		series: r.u64(), mint: r.i64(), maxt: r.i64(), encoding: chunkenc.Encoding(r.u8()), ooo: r.u8() != 0, data: r.item(),
	}
}

func (w *writer) storedChunk(c *storedChunk) {
	w.u64(c.series)
	w.i64(c.mint)
	w.i64(c.maxt)
	w.u8(uint8(c.encoding))
	if c.ooo {
		w.u8(1)
	} else {
		w.u8(0)
	}
	w.item(c.data)
}

// diskMapper opens a directory and iterates over it, as the head does before anything else.
func diskMapper(dir string, queue int, each func(storedChunk, chunks.ChunkDiskMapperRef) error) (*chunks.ChunkDiskMapper, error) {
	mapper, err := chunks.NewChunkDiskMapper(nil, dir, chunkenc.NewPool(), chunks.DefaultWriteBufferSize, queue)
	if err != nil {
		return nil, err
	}
	err = mapper.IterateAllChunks(func(series chunks.HeadSeriesRef, ref chunks.ChunkDiskMapperRef, mint, maxt int64, _ uint16, enc chunkenc.Encoding, ooo bool) error {
		if each == nil {
			return nil
		}
		return each(storedChunk{series: uint64(series), mint: mint, maxt: maxt, encoding: enc, ooo: ooo}, ref)
	})
	return mapper, err
}

func writeFiles(req *Request) (*Response, error) {
	var args struct {
		Dir string `json:"dir"`
		// Cut: a new file before each of these chunks, by index.
		Cut []int `json:"cut"`
		// Queue: size of the write queue, 0 = none.
		Queue int `json:"queue"`
	}
	if err := req.Decode(&args); err != nil {
		return nil, err
	}
	mapper, err := diskMapper(args.Dir, args.Queue, nil)
	if err != nil {
		return nil, err
	}
	cut := map[int]bool{}
	for _, i := range args.Cut {
		cut[i] = true
	}
	var errs []error
	w := writer{}
	r := reader{b: req.Payload}
	for i := 0; r.more(); i++ {
		c := r.storedChunk()
		chk, err := chunkenc.FromData(c.encoding, c.data)
		if err != nil {
			return nil, errors.Join(err, mapper.Close())
		}
		if cut[i] {
			mapper.CutNewFile()
		}
		ref := mapper.WriteChunk(chunks.HeadSeriesRef(c.series), c.mint, c.maxt, chk, c.ooo, func(err error) { errs = append(errs, err) })
		w.u64(uint64(ref))
	}
	return &Response{Payload: w.b}, errors.Join(append(errs, r.err, mapper.Close())...)
}

// readFiles answers ref u64 and chunk for all that the reference finds; on an error those before it.
func readFiles(req *Request) (*Response, error) {
	var args struct {
		Dir string `json:"dir"`
	}
	if err := req.Decode(&args); err != nil {
		return nil, err
	}
	var found []storedChunk
	var refs []chunks.ChunkDiskMapperRef
	mapper, err := diskMapper(args.Dir, 0, func(c storedChunk, ref chunks.ChunkDiskMapperRef) error {
		found, refs = append(found, c), append(refs, ref)
		return nil
	})
	if mapper == nil {
		return nil, err
	}
	w := writer{}
	for i := range found {
		chk, readErr := mapper.Chunk(refs[i])
		if readErr != nil {
			return nil, errors.Join(readErr, mapper.Close())
		}
		found[i].data = chk.Bytes()
		w.u64(uint64(refs[i]))
		w.storedChunk(&found[i])
	}
	return &Response{Fields: map[string]any{"chunks": len(found)}, Payload: w.b}, errors.Join(err, mapper.Close())
}

// benchAppend appends the samples of each run to chunks of at most 120, and answers how many bytes they came to.
func benchAppend(req *Request) (*Response, error) {
	var args struct {
		Encoding chunkenc.Encoding `json:"encoding"`
		PerChunk int               `json:"per_chunk"`
		Repeat   int               `json:"repeat"`
	}
	if err := req.Decode(&args); err != nil {
		return nil, err
	}
	type sample struct {
		t, st int64
		v     float64
		h     *histogram.Histogram
		fh    *histogram.FloatHistogram
	}
	var all []sample
	r := reader{b: req.Payload}
	for r.more() {
		s := sample{t: r.i64(), st: r.i64()}
		switch args.Encoding {
		case chunkenc.EncXOR, chunkenc.EncXOR2:
			s.v = r.f64()
		case chunkenc.EncHistogram, chunkenc.EncHistogramST:
			s.h = r.histogram()
		default:
			s.fh = r.floatHistogram()
		}
		all = append(all, s)
	}
	if r.err != nil {
		return nil, r.err
	}
	bytes := 0
	fields, err := timed(func() error {
		for range args.Repeat {
			for at := 0; at < len(all); at += args.PerChunk {
				chk, err := chunkenc.NewEmptyChunk(args.Encoding)
				if err != nil {
					return err
				}
				app, err := chk.Appender()
				if err != nil {
					return err
				}
				for _, s := range all[at:min(at+args.PerChunk, len(all))] {
					switch {
					case s.h != nil:
						_, _, app, err = app.AppendHistogram(nil, s.st, s.t, s.h, true)
					case s.fh != nil:
						_, _, app, err = app.AppendFloatHistogram(nil, s.st, s.t, s.fh, true)
					default:
						app.Append(s.st, s.t, s.v)
					}
					if err != nil {
						return err
					}
				}
				bytes += len(chk.Bytes())
			}
		}
		return nil
	})
	fields["bytes"] = bytes
	return &Response{Fields: fields}, err
}

// benchDecode reads every sample of the chunks in the payload (items).
func benchDecode(req *Request) (*Response, error) {
	var args struct {
		Encoding chunkenc.Encoding `json:"encoding"`
		Repeat   int               `json:"repeat"`
	}
	if err := req.Decode(&args); err != nil {
		return nil, err
	}
	list, err := items(req.Payload)
	if err != nil {
		return nil, err
	}
	samples := 0
	var sum float64
	var h histogram.Histogram
	var fh histogram.FloatHistogram
	fields, err := timed(func() error {
		var it chunkenc.Iterator
		for range args.Repeat {
			for _, data := range list {
				chk, err := chunkenc.FromData(args.Encoding, data)
				if err != nil {
					return err
				}
				it = chk.Iterator(it)
				for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
					samples++
					switch vt {
					case chunkenc.ValFloat:
						t, v := it.At()
						sum += v + float64(t)
					case chunkenc.ValHistogram:
						_, p := it.AtHistogram(&h)
						sum += p.Sum
					case chunkenc.ValFloatHistogram:
						_, p := it.AtFloatHistogram(&fh)
						sum += p.Sum
					}
				}
				if err := it.Err(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	fields["samples"], fields["sum"] = samples, fmt.Sprint(sum)
	return &Response{Fields: fields}, err
}

// benchFiles writes "count" copies of the payload as a chunk into a fresh directory, closes it, opens it again and iterates.
func benchFiles(req *Request) (*Response, error) {
	var args struct {
		Dir   string `json:"dir"`
		Count int    `json:"count"`
		Write bool   `json:"write"`
	}
	if err := req.Decode(&args); err != nil {
		return nil, err
	}
	if args.Write {
		if err := os.RemoveAll(filepath.Clean(args.Dir)); err != nil {
			return nil, err
		}
		fields, err := timed(func() error {
			mapper, err := diskMapper(args.Dir, 0, nil)
			if err != nil {
				return err
			}
			chk, err := chunkenc.FromData(chunkenc.EncXOR, req.Payload)
			if err != nil {
				return err
			}
			var failed error
			for i := range args.Count {
				mapper.WriteChunk(chunks.HeadSeriesRef(i+1), int64(i), int64(i)+1, chk, false, func(err error) { failed = errors.Join(failed, err) })
			}
			return errors.Join(failed, mapper.Close())
		})
		return &Response{Fields: fields}, err
	}
	found := 0
	fields, err := timed(func() error {
		mapper, err := diskMapper(args.Dir, 0, func(storedChunk, chunks.ChunkDiskMapperRef) error {
			found++
			return nil
		})
		if err != nil {
			return err
		}
		return mapper.Close()
	})
	fields["chunks"] = found
	return &Response{Fields: fields}, err
}

func init() {
	// Appends the payload's runs; answers an item for each: its outcomes and chunks.
	register("chunks.append", func(req *Request) (*Response, error) {
		r := reader{b: req.Payload}
		w := writer{}
		for n := 0; r.more(); n++ {
			out, err := appendRun(&r)
			if err != nil {
				return &Response{Fields: map[string]any{"run": n}}, err
			}
			w.item(out)
		}
		return &Response{Payload: w.b}, r.err
	})
	// Decodes the payload's chunks (encoding u8, bytes item); answers an item for each.
	register("chunks.decode", func(req *Request) (*Response, error) {
		r := reader{b: req.Payload}
		w := writer{}
		for n := 0; r.more(); n++ {
			out, err := decodeChunk(chunkenc.Encoding(r.u8()), r.item())
			if err != nil {
				return &Response{Fields: map[string]any{"chunk": n}}, err
			}
			w.item(out)
		}
		return &Response{Payload: w.b}, r.err
	})
	register("chunks.files.write", writeFiles)
	register("chunks.files.read", readFiles)
	register("chunks.bench.append", benchAppend)
	register("chunks.bench.decode", benchDecode)
	register("chunks.bench.files", benchFiles)
}
