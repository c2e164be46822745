package main

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Lists in a payload are items: u32 little-endian length, bytes. Numbers within an item are little-endian and of fixed
// width, floats are their IEEE bits: nothing here must look like the formats under test.

// reader takes values off the front of a byte slice. The first value that does not fit makes it fail; every later read
// then yields zero, so callers check err once.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		if r.err == nil {
			r.err = fmt.Errorf("payload ends early: need %d bytes, have %d", n, len(r.b))
		}
		return make([]byte, min(max(n, 0), 8))
	}
	head := r.b[:n:n]
	r.b = r.b[n:]
	return head
}

func (r *reader) more() bool     { return r.err == nil && len(r.b) > 0 }
func (r *reader) u8() uint8      { return r.take(1)[0] }
func (r *reader) u32() uint32    { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64    { return binary.LittleEndian.Uint64(r.take(8)) }
func (r *reader) i32() int32     { return int32(r.u32()) }
func (r *reader) i64() int64     { return int64(r.u64()) }
func (r *reader) f64() float64   { return math.Float64frombits(r.u64()) }
func (r *reader) item() []byte   { return r.take(int(r.u32())) }
func (r *reader) string() string { return string(r.item()) }

// count reads a list's length and refuses one whose elements (of at least size bytes) cannot all be there.
func (r *reader) count(size int) int {
	n := int(r.u32())
	if r.err == nil && n*size > len(r.b) {
		r.err = fmt.Errorf("payload ends early: %d elements of %d bytes, have %d bytes", n, size, len(r.b))
	}
	if r.err != nil {
		return 0
	}
	return n
}

// writer is the other direction.
type writer struct{ b []byte }

func (w *writer) u8(v uint8)    { w.b = append(w.b, v) }
func (w *writer) u32(v uint32)  { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)  { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) i32(v int32)   { w.u32(uint32(v)) }
func (w *writer) i64(v int64)   { w.u64(uint64(v)) }
func (w *writer) f64(v float64) { w.u64(math.Float64bits(v)) }

func (w *writer) item(v []byte) {
	w.u32(uint32(len(v)))
	w.b = append(w.b, v...)
}

func (w *writer) string(v string) {
	w.u32(uint32(len(v)))
	w.b = append(w.b, v...)
}

// items splits a payload which is nothing but a list of items.
func items(payload []byte) ([][]byte, error) {
	r := reader{b: payload}
	var all [][]byte
	for r.more() {
		all = append(all, r.item())
	}
	return all, r.err
}
