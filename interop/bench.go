package main

import (
	"fmt"
	"hash/crc32"
	"os"
	"strings"
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

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakRSS is the process's peak resident set in bytes. Not what getrusage says: that begins with the peak of the process
// which started this one.
func peakRSS() int64 { return statusField("VmHWM:") }

// currentRSS is the resident set now, in bytes.
func currentRSS() int64 { return statusField("VmRSS:") }

// statusField reads a field of /proc/self/status that is given in kB.
func statusField(name string) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, name); found {
			var kib int64
			_, _ = fmt.Sscan(rest, &kib)
			return kib * 1024
		}
	}
	return 0
}

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
