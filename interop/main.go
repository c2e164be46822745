// Command interop makes Prometheus 3.14's own packages answer questions, so that Headwater's tests can compare themselves
// with the real thing instead of with somebody's idea of it.
//
// It reads requests from standard input and writes one answer for each to standard output, in order, until end of file:
//
//	request = header line, payload        answer = header line, payload
//
// A header is one JSON object on one line. Its field "payload" (absent = 0) is the number of raw bytes which follow the
// line. A request's field "op" names the operation; every other field is an argument of it. An answer is
//
//	{"ok":true,"payload":n, …fields of the operation…}
//	{"ok":false,"error":"…","panic":true|false}
//
// A panic of the reference is an answer too ("panic":true), and the program goes on. What it cannot survive (out of
// memory, a concurrent map write, SIGKILL) is seen by the caller as the end of the stream. Lists travel as items, each an
// unsigned 32-bit little-endian length followed by that many bytes (see wire.go).
//
// Where a new operation goes: into the file of its layer, by
//
//	func init() { register("records.encode", func(req *Request) (*Response, error) { … }) }
//
// Standard output belongs to the protocol. Whatever wants to talk writes to standard error.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
)

// Request is one question.
type Request struct {
	// Args is the whole header line; Decode reads an operation's own arguments out of it.
	Args json.RawMessage
	// Payload is the raw bytes behind the header, owned by the operation.
	Payload []byte
}

// Decode fills dst from the request's header. Fields which dst does not have are not an error: "op" and "payload" are
// always among them.
func (r *Request) Decode(dst any) error { return json.Unmarshal(r.Args, dst) }

// Response is what an operation answers: fields of the header line, and bytes behind it.
type Response struct {
	Fields  map[string]any
	Payload []byte
}

// maxPayload bounds what a request may carry, so that a caller's bug is an error and not an out-of-memory kill.
const maxPayload = 2 << 30

var operations = map[string]func(*Request) (*Response, error){}

// register makes an operation known by its name, "layer.verb".
func register(op string, f func(*Request) (*Response, error)) {
	if _, taken := operations[op]; taken {
		panic("operation registered twice: " + op)
	}
	operations[op] = f
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<16)
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	for {
		err := serveOne(in, out)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "interop:", err)
			os.Exit(2)
		}
	}
}

// serveOne reads a request and answers it. An error means that the stream itself is unusable.
func serveOne(in *bufio.Reader, out *bufio.Writer) error {
	line, err := in.ReadBytes('\n')
	if err != nil {
		if errors.Is(err, io.EOF) && len(line) > 0 {
			return fmt.Errorf("request ends within its header: %q", line)
		}
		return err
	}
	var header struct {
		Op      string `json:"op"`
		Payload int64  `json:"payload"`
	}
	if err := json.Unmarshal(line, &header); err != nil {
		return fmt.Errorf("header is not JSON: %w", err)
	}
	if header.Payload < 0 || header.Payload > maxPayload {
		return fmt.Errorf("payload of %d bytes: expected 0 to %d", header.Payload, maxPayload)
	}
	req := &Request{Args: line, Payload: make([]byte, header.Payload)}
	if _, err := io.ReadFull(in, req.Payload); err != nil {
		return fmt.Errorf("request ends within its payload: %w", err)
	}
	return writeAnswer(out, answer(header.Op, req))
}

// answer runs an operation and turns every outcome into a response with the protocol's own fields set.
func answer(op string, req *Request) (resp *Response) {
	defer func() {
		if p := recover(); p != nil {
			resp = failure(fmt.Sprint(p), true)
			resp.Fields["stack"] = string(debug.Stack())
		}
	}()
	f, known := operations[op]
	if !known {
		return failure(fmt.Sprintf("unknown operation %q", op), false)
	}
	resp, err := f(req)
	if err != nil {
		failed := failure(err.Error(), false)
		// What an operation still knows when it fails (how far it came) goes with the error.
		if resp != nil {
			for k, v := range resp.Fields {
				failed.Fields[k] = v
			}
			failed.Payload = resp.Payload
		}
		return failed
	}
	if resp == nil {
		resp = &Response{}
	}
	if resp.Fields == nil {
		resp.Fields = map[string]any{}
	}
	resp.Fields["ok"] = true
	return resp
}

func failure(message string, panicked bool) *Response {
	return &Response{Fields: map[string]any{"ok": false, "error": message, "panic": panicked}}
}

func writeAnswer(out *bufio.Writer, resp *Response) error {
	resp.Fields["payload"] = len(resp.Payload)
	line, err := json.Marshal(resp.Fields)
	if err != nil {
		// NaN in a field, for example: a mistake in an operation, but the stream can go on.
		line, _ = json.Marshal(failure("answer is not JSON: "+err.Error(), false).Fields)
		resp.Payload = nil
	}
	for _, part := range [][]byte{line, {'\n'}, resp.Payload} {
		if _, err := out.Write(part); err != nil {
			return err
		}
	}
	return out.Flush()
}

func init() {
	register("hello", func(*Request) (*Response, error) {
		names := make([]string, 0, len(operations))
		for name := range operations {
			names = append(names, name)
		}
		sort.Strings(names)
		return &Response{Fields: map[string]any{
			"operations": names, "prometheus": referenceVersion(), "go": runtime.Version(), "gomaxprocs": runtime.GOMAXPROCS(0),
		}}, nil
	})
	register("echo", func(req *Request) (*Response, error) { return &Response{Payload: req.Payload}, nil })
	// The driver's own tests ask for these three outcomes.
	register("fail", func(*Request) (*Response, error) { return nil, errors.New("asked to fail") })
	register("panic", func(req *Request) (*Response, error) {
		return &Response{Payload: req.Payload[len(req.Payload):][1:]}, nil
	})
	register("exit", func(*Request) (*Response, error) { os.Exit(3); return nil, nil })
}

// referenceVersion is the version of the Prometheus module that was linked in.
func referenceVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, dep := range info.Deps {
		if dep.Path == "github.com/prometheus/prometheus" {
			return dep.Version
		}
	}
	return ""
}
