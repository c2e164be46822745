package main

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/prometheus/prometheus/model/labels"
)

// workload is the benchmark's data, the same as headwater/src/workload.rs makes: series and values follow from a seed by
// integer arithmetic alone. What changes there changes here; the digests are compared before anything is measured.
type workload struct {
	Series   uint64 `json:"series"`
	Scrapes  uint64 `json:"scrapes"`
	Interval int64  `json:"interval"`
	Start    int64  `json:"start"`
	Values   string `json:"values"`
	Churn    uint64 `json:"churn"`
	Seed     uint64 `json:"seed"`
}

// walk gives the values of one series, in order.
type walk struct {
	state  uint64
	at     int64
	values string
}

const step = 0x9E3779B97F4A7C15

// mix is Vigna's SplitMix64.
func mix(state uint64) uint64 {
	z := (state ^ state>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

func (w *workload) time(scrape uint64) int64 { return w.Start + w.Interval*int64(scrape) }

// replaced tells whether a scrape is the first of a series' replacement.
func (w *workload) replaced(scrape uint64) bool {
	return scrape == 0 || (w.Churn > 0 && scrape%w.Churn == 0)
}

func (w *workload) id(series, scrape uint64) uint64 {
	if w.Churn == 0 {
		return series
	}
	return series + scrape/w.Churn*w.Series
}

func (w *workload) labels(id uint64) labels.Labels {
	hash := mix(w.Seed + id*step)
	app := id % 97
	return labels.FromStrings(
		"__name__", fmt.Sprintf("workload_requests_%03d_total", id/97%500),
		"container", fmt.Sprintf("app-%02d", app),
		"id", fmt.Sprintf("%08d", id),
		"instance", fmt.Sprintf("10.%d.%d.%d:9100", app, id/250%250, id%250),
		"job", fmt.Sprintf("job-%02d", app%20),
		"namespace", fmt.Sprintf("namespace-%02d", app%30),
		"pod", fmt.Sprintf("app-%02d-%08x-%04x", app, hash>>32, hash&0xffff),
	)
}

func (w *workload) walk(id uint64) walk {
	state := mix(w.Seed ^ id*step)
	return walk{state: state, at: int64(state % 1_000_000), values: w.Values}
}

func (w *walk) next() float64 {
	w.state += step
	switch w.values {
	case "counter":
		w.at += int64(mix(w.state) % 1000)
	case "gauge":
		w.at += int64(mix(w.state)%2001) - 1000
		return float64(w.at) / 1000
	default:
		w.at += 1000
	}
	return float64(w.at)
}

// digest is a number over every label, time and value, in a fixed order.
func (w *workload) digest() uint64 {
	var digest uint64
	fold := func(x uint64) { digest = (bits.RotateLeft64(digest, 5) ^ x) * step }
	for series := range w.Series {
		var values walk
		for scrape := range w.Scrapes {
			if w.replaced(scrape) {
				id := w.id(series, scrape)
				values = w.walk(id)
				w.labels(id).Range(func(l labels.Label) {
					for _, b := range []byte(l.Name + l.Value) {
						fold(uint64(b))
					}
				})
			}
			fold(uint64(w.time(scrape)))
			fold(math.Float64bits(values.next()))
		}
	}
	return digest
}

func init() {
	register("workload.digest", func(req *Request) (*Response, error) {
		var w workload
		if err := req.Decode(&w); err != nil {
			return nil, err
		}
		// As text: JSON numbers lose bits beyond 2^53.
		return &Response{Fields: map[string]any{"digest": fmt.Sprintf("%016x", w.digest())}}, nil
	})
}
