package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
)

// The head step by step: several transactions at once in an open directory, each sample with its own verdict, and its
// chunks as bytes. What concerns whole directories is in dir.go.

// transaction is one of the two appender interfaces: the second keeps start timestamps.
type transaction struct {
	first  storage.Appender
	second storage.AppenderV2
}

func (t *transaction) end(commit bool) error {
	switch {
	case t.first != nil && commit:
		return t.first.Commit()
	case t.first != nil:
		return t.first.Rollback()
	case commit:
		return t.second.Commit()
	default:
		return t.second.Rollback()
	}
}

func (t *transaction) append(e *entry) error {
	var err error
	if t.second != nil {
		_, err = t.second.Append(0, e.ls, e.st, e.t, e.v, e.h, e.fh, storage.AppendV2Options{})
	} else {
		_, err = appendOne(t.first, e)
	}
	return err
}

// zero appends the zero sample of a start timestamp.
func (t *transaction) zero(e *entry) error {
	if t.first == nil {
		return errors.New("only the first interface has zero samples of their own")
	}
	var err error
	if e.h != nil || e.fh != nil {
		_, err = t.first.AppendHistogramSTZeroSample(0, e.ls, e.t, e.st, e.h, e.fh)
	} else {
		_, err = t.first.AppendSTZeroSample(0, e.ls, e.t, e.st)
	}
	return err
}

// verdict names why a sample was refused, "" if it was not.
func verdict(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, storage.ErrSTNewerThanSample):
		return "start not before sample"
	case errors.Is(err, storage.ErrOutOfOrderST):
		return "start out of order"
	}
	name := refusalName(err)
	if strings.Contains(name, "histogram") || strings.Contains(name, "bucket") || strings.Contains(name, "span") {
		return "invalid histogram"
	}
	return name
}

var (
	transactions    = map[int]*transaction{}
	lastTransaction int
)

func registerTransaction(op string, f func(t *transaction, number int, req *Request) (*Response, error)) {
	register(op, func(req *Request) (*Response, error) {
		var args struct {
			Transaction int `json:"transaction"`
		}
		if err := req.Decode(&args); err != nil {
			return nil, err
		}
		t, open := transactions[args.Transaction]
		if !open {
			return nil, fmt.Errorf("no open transaction %d", args.Transaction)
		}
		return f(t, args.Transaction, req)
	})
}

// chunksOf writes every chunk of every series: labels, number of chunks, then of each the encoding and the bytes.
func chunksOf(d *openDir) (*Response, error) {
	head := d.db.Head()
	ix, err := head.Index()
	if err != nil {
		return nil, err
	}
	defer ix.Close()
	cr, err := head.Chunks()
	if err != nil {
		return nil, err
	}
	defer cr.Close()
	name, value := index.AllPostingsKey()
	postings, err := ix.Postings(context.Background(), name, value)
	if err != nil {
		return nil, err
	}
	postings = ix.SortedPostings(postings)
	var w writer
	var builder labels.ScratchBuilder
	for postings.Next() {
		var metas []chunks.Meta
		if err := ix.Series(postings.At(), &builder, &metas); err != nil {
			return nil, err
		}
		w.labels(builder.Labels())
		w.u32(uint32(len(metas)))
		for _, meta := range metas {
			chunk, _, err := cr.ChunkOrIterable(meta)
			if err != nil {
				return nil, err
			}
			w.u8(uint8(chunk.Encoding()))
			w.string(string(chunk.Bytes()))
		}
	}
	return &Response{Payload: w.b}, postings.Err()
}

func init() {
	// Begins a transaction ("appender_v2": with start timestamps) and answers its number.
	registerDB("head.begin", func(d *openDir, req *Request) (*Response, error) {
		var args struct {
			Second bool `json:"appender_v2"`
		}
		if err := req.Decode(&args); err != nil {
			return nil, err
		}
		t := &transaction{}
		if args.Second {
			t.second = d.db.AppenderV2(context.Background())
		} else {
			t.first = d.db.Appender(context.Background())
		}
		lastTransaction++
		transactions[lastTransaction] = t
		return &Response{Fields: map[string]any{"transaction": lastTransaction}}, nil
	})
	// Appends the payload's entries ("zero": the zero samples of their start timestamps) and answers a verdict for each.
	registerTransaction("head.append", func(t *transaction, _ int, req *Request) (*Response, error) {
		var args struct {
			Zero bool `json:"zero"`
		}
		if err := req.Decode(&args); err != nil {
			return nil, err
		}
		entries, err := entriesOf(req.Payload)
		if err != nil {
			return nil, err
		}
		verdicts := make([]string, len(entries))
		for i := range entries {
			if args.Zero {
				verdicts[i] = verdict(t.zero(&entries[i]))
			} else {
				verdicts[i] = verdict(t.append(&entries[i]))
			}
		}
		return &Response{Fields: map[string]any{"verdicts": verdicts}}, nil
	})
	registerTransaction("head.commit", func(t *transaction, number int, _ *Request) (*Response, error) {
		delete(transactions, number)
		return nil, t.end(true)
	})
	registerTransaction("head.rollback", func(t *transaction, number int, _ *Request) (*Response, error) {
		delete(transactions, number)
		return nil, t.end(false)
	})
	registerDB("head.chunks", func(d *openDir, _ *Request) (*Response, error) { return chunksOf(d) })
	registerDB("head.bounds", func(d *openDir, _ *Request) (*Response, error) {
		h := d.db.Head()
		fields := map[string]any{"initialised": h.MinTime() != math.MaxInt64, "series": h.NumSeries()}
		// As text: JSON numbers lose bits beyond 2^53.
		fields["min_time"], fields["max_time"] = fmt.Sprint(h.MinTime()), fmt.Sprint(h.MaxTime())
		return &Response{Fields: fields}, nil
	})
}
