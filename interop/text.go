package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// text.parse {"format":"text"|"openmetrics","starts":bool}: pages as items in, what the reference's parser makes of each
// as items out. A page's item is a list of entries, each a tag byte and its values, and ends with one of the last three:
//
//	0 type    name, kind          3 comment  text
//	1 help    name, text          4 unit     name, unit
//	2 series  labels, value f64, timestamp (u8 present, i64), exemplar (u8 present: labels, f64, timestamp), start i64
//	255 end of page               254 error  message             253 panic  message
//
// Labels are u32 count, then name and value each. Start timestamps are asked for with "starts" only, since asking makes
// the parser drop _created lines.
func init() {
	register("text.parse", func(req *Request) (*Response, error) {
		var args struct {
			Format string `json:"format"`
			Starts bool   `json:"starts"`
		}
		if err := req.Decode(&args); err != nil {
			return nil, err
		}
		pages, err := items(req.Payload)
		if err != nil {
			return nil, err
		}
		var all writer
		for _, page := range pages {
			var one writer
			parsePage(page, args.Format == "openmetrics", args.Starts, &one)
			all.item(one.b)
		}
		return &Response{Payload: all.b}, nil
	})
}

func parsePage(page []byte, openMetrics, starts bool, out *writer) {
	defer func() {
		if p := recover(); p != nil {
			out.u8(253)
			out.string(fmt.Sprint(p))
		}
	}()
	symbols := labels.NewSymbolTable()
	var parser textparse.Parser
	switch {
	case openMetrics && starts:
		parser = textparse.NewOpenMetricsParser(page, symbols, textparse.WithOMParserSTSeriesSkipped())
	case openMetrics:
		parser = textparse.NewOpenMetricsParser(page, symbols)
	default:
		parser = textparse.NewPromParser(page, symbols, false)
	}
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			out.u8(255)
			return
		}
		if err != nil {
			out.u8(254)
			out.string(err.Error())
			return
		}
		// The entry is complete before its tag is written: a panic in between must not leave half an entry.
		var one writer
		one.u8(uint8(entry))
		switch entry {
		case textparse.EntryType:
			name, kind := parser.Type()
			one.item(name)
			one.string(string(kind))
		case textparse.EntryHelp:
			name, text := parser.Help()
			one.item(name)
			one.item(text)
		case textparse.EntryUnit:
			name, unit := parser.Unit()
			one.item(name)
			one.item(unit)
		case textparse.EntryComment:
			one.item(parser.Comment())
		case textparse.EntrySeries:
			textSeries(parser, starts, &one)
		default:
			panic(fmt.Sprintf("entry %d is not of a text format", entry))
		}
		out.b = append(out.b, one.b...)
	}
}

func textSeries(parser textparse.Parser, starts bool, out *writer) {
	_, timestamp, value := parser.Series()
	var lset labels.Labels
	parser.Labels(&lset)
	textLabels(lset, out)
	out.f64(value)
	textTimestamp(timestamp, out)
	var ex exemplar.Exemplar
	if parser.Exemplar(&ex) {
		out.u8(1)
		textLabels(ex.Labels, out)
		out.f64(ex.Value)
		if ex.HasTs {
			textTimestamp(&ex.Ts, out)
		} else {
			textTimestamp(nil, out)
		}
	} else {
		out.u8(0)
	}
	// Last: looking for it moves the parser about.
	if starts {
		out.i64(parser.StartTimestamp())
	} else {
		out.i64(0)
	}
}

func textTimestamp(timestamp *int64, out *writer) {
	if timestamp == nil {
		out.u8(0)
		return
	}
	out.u8(1)
	out.i64(*timestamp)
}

func textLabels(lset labels.Labels, out *writer) {
	out.u32(uint32(lset.Len()))
	lset.Range(func(l labels.Label) {
		out.string(l.Name)
		out.string(l.Value)
	})
}
