package main

import (
	"hash/crc32"
	"syscall"
	"time"
)

// timed runs the measured part of an operation and answers what it cost: wall and CPU seconds (all threads, the garbage
// collector's included), and the process's peak resident set in bytes. Preparation belongs outside of it.
func timed(work func() error) (map[string]any, error) {
	before := cpuTime()
	start := time.Now()
	err := work()
	wall := time.Since(start)
	return map[string]any{"seconds": wall.Seconds(), "cpu_seconds": (cpuTime() - before).Seconds(), "peak_rss": peakRSS()}, err
}

func usage() syscall.Rusage {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u
}

func cpuTime() time.Duration {
	u := usage()
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakRSS is in bytes; Linux accounts in KiB.
func peakRSS() int64 { return usage().Maxrss * 1024 }

func init() {
	// The checksum alone, over the payload, repeat times.
	register("bench.crc32c", func(req *Request) (*Response, error) {
		var args struct{ Repeat int }
		if err := req.Decode(&args); err != nil {
			return nil, err
		}
		table := crc32.MakeTable(crc32.Castagnoli)
		var crc uint32
		fields, err := timed(func() error {
			for range args.Repeat {
				crc = crc32.Checksum(req.Payload, table)
			}
			return nil
		})
		fields["crc"] = crc
		return &Response{Fields: fields}, err
	})
}
