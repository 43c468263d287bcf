//go:build wasip1

// Package portcall has the calls that an agent makes of its station (ABI version 1 of the imports "portcall").
//
// A call that the station refuses or that fails gives a syscall.Errno with the station's number, like any other input or
// output. For GOOS=wasip1 GOARCH=wasm, Go 1.21 or newer; no dependencies.
package portcall

import (
	"math"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

//go:wasmimport portcall go
func goTo(host unsafe.Pointer, size uint32) int32

//go:wasmimport portcall go_wait
func goWait(host unsafe.Pointer, size uint32, waitMs int32) int32

//go:wasmimport portcall go_at
func goAt(host unsafe.Pointer, size uint32, entry unsafe.Pointer, entrySize uint32) int32

//go:wasmimport portcall here
func here(buffer unsafe.Pointer, capacity uint32) int32

//go:wasmimport portcall me
func me(buffer unsafe.Pointer, capacity uint32) int32

//go:wasmimport portcall next_stop
func nextStop(buffer unsafe.Pointer, capacity uint32) int32

//go:wasmimport portcall call
func call(service unsafe.Pointer, size uint32, request unsafe.Pointer, requestSize uint32, reply unsafe.Pointer, capacity uint32) int32

//go:wasmimport portcall send
func send(to unsafe.Pointer, size uint32, message unsafe.Pointer, messageSize uint32) int32

//go:wasmimport portcall recv
func recv(buffer unsafe.Pointer, capacity uint32, timeoutMs int32) int32

//go:wasmimport portcall sender
func sender(buffer unsafe.Pointer, capacity uint32) int32

//go:wasmimport portcall accept
func accept(buffer unsafe.Pointer, capacity uint32, timeoutMs int32) int32

//go:wasmimport portcall reply
func reply(id unsafe.Pointer, size uint32, response unsafe.Pointer, responseSize uint32) int32

//go:wasmimport portcall sleep
func sleep(ms uint32) int32

//go:wasmimport portcall clone
func clone(id unsafe.Pointer, capacity uint32) int32

//go:wasmimport portcall fork
func fork(count uint32, ids unsafe.Pointer, capacity uint32) int32

//go:wasmimport portcall report
func report(key unsafe.Pointer, size uint32, value unsafe.Pointer, valueSize uint32) int32

//go:wasmimport portcall log
func log(level uint32, text unsafe.Pointer, size uint32) int32

//go:wasmimport portcall lookup
func lookup(service unsafe.Pointer, size uint32, buffer unsafe.Pointer, capacity uint32) int32

//go:wasmimport portcall exit
func exit(code uint32)

// Level says how much a line of the log matters.
type Level uint32

const (
	Error Level = iota
	Warning
	Info
	Detail
)

// Go moves to a station, with all goroutines and their stacks; the next line runs there. An error: this is still the origin.
func Go(station string) error {
	_, err := checked(goTo(at(station), length(station)))
	return err
}

// GoWait moves to a station; the agent sleeps up to wait while the station cannot be reached or is full.
func GoWait(station string, wait time.Duration) error {
	_, err := checked(goWait(at(station), length(station), milliseconds(wait)))
	return err
}

// GoAt moves to a station without the stacks; the export entry is called there. It returns only an error.
func GoAt(station, entry string) error {
	_, err := checked(goAt(at(station), length(station), at(entry), length(entry)))
	return err
}

// Here is the name of this station.
func Here() string { return text(here) }

// Me is this agent's id.
func Me() string { return text(me) }

// NextStop is the itinerary's next stop; empty at its end.
func NextStop() string { return text(nextStop) }

// Call gives the reply of a service of this station.
func Call(service string, request []byte) ([]byte, error) {
	return filled(func(buffer unsafe.Pointer, capacity uint32) int32 {
		return call(at(service), length(service), unsafe.Pointer(unsafe.SliceData(request)), uint32(len(request)), buffer, capacity)
	})
}

// Send hands a message over for delivery to the agent to.
func Send(to string, message []byte) error {
	_, err := checked(send(at(to), length(to), unsafe.Pointer(unsafe.SliceData(message)), uint32(len(message))))
	return err
}

// Recv waits for the next message.
func Recv() ([]byte, error) { return received(-1) }

// RecvWithin waits for the next message; syscall.ETIMEDOUT when none came.
func RecvWithin(timeout time.Duration) ([]byte, error) { return received(milliseconds(timeout)) }

// Accept waits for the next request of a client, as message/http; its header portcall-request is the id for Reply.
func Accept() ([]byte, error) { return accepted(-1) }

// AcceptWithin waits for the next request of a client; syscall.ETIMEDOUT when none came.
func AcceptWithin(timeout time.Duration) ([]byte, error) { return accepted(milliseconds(timeout)) }

// Reply answers a request: a response of HTTP/1.1, without Content-Length.
func Reply(id string, response []byte) error {
	_, err := checked(reply(at(id), length(id), unsafe.Pointer(unsafe.SliceData(response)), uint32(len(response))))
	return err
}

// Sender is who sent the message received last: an agent's id or a station's name.
func Sender() string { return text(sender) }

// Sleep waits; unlike time.Sleep, all goroutines do, and the agent waits as data and holds no thread.
func Sleep(duration time.Duration) error {
	_, err := checked(sleep(uint32(max(0, min(duration.Milliseconds(), math.MaxUint32)))))
	return err
}

// Clone becomes two agents: the new one's id in the original, "" in the clone.
func Clone() (string, error) {
	id := make([]byte, 1024)
	is, err := checked(clone(unsafe.Pointer(unsafe.SliceData(id)), uint32(len(id))))
	if err != nil || is == 0 {
		return "", err
	}
	name, _, _ := strings.Cut(string(id), "\x00")
	return name, nil
}

// Fork becomes count agents more, all from here or none: 0 and their ids in the original, 1 to count in each of them.
func Fork(count uint32) (int, []string, error) {
	ids := make([]byte, 1024)
	number, err := checked(fork(count, unsafe.Pointer(unsafe.SliceData(ids)), uint32(len(ids))))
	if err != nil || number > 0 {
		return number, nil, err
	}
	names, _, _ := strings.Cut(string(ids), "\x00")
	return 0, strings.Split(names, "\n"), nil
}

// Report appends a result to this agent's signed chain.
func Report(key string, value []byte) error {
	_, err := checked(report(at(key), length(key), unsafe.Pointer(unsafe.SliceData(value)), uint32(len(value))))
	return err
}

// Log writes one line to the station's log. What is printed goes there too.
func Log(level Level, line string) { log(uint32(level), at(line), length(line)) }

// Lookup gives the names of stations that offer a service, best first.
func Lookup(service string) ([]string, error) {
	names, err := filled(func(buffer unsafe.Pointer, capacity uint32) int32 {
		return lookup(at(service), length(service), buffer, capacity)
	})
	return strings.Fields(string(names)), err
}

// Exit ends the agent, at once.
func Exit(code uint32) { exit(code) }

func received(timeoutMs int32) ([]byte, error) {
	return filled(func(buffer unsafe.Pointer, capacity uint32) int32 { return recv(buffer, capacity, timeoutMs) })
}

func accepted(timeoutMs int32) ([]byte, error) {
	return filled(func(buffer unsafe.Pointer, capacity uint32) int32 { return accept(buffer, capacity, timeoutMs) })
}

func milliseconds(timeout time.Duration) int32 {
	return int32(max(0, min(timeout.Milliseconds(), math.MaxInt32)))
}

func checked(result int32) (int, error) {
	if result < 0 {
		return 0, syscall.Errno(-result)
	}
	return int(result), nil
}

// filled is what give puts into a buffer; it is asked again when the first one was too small.
func filled(give func(unsafe.Pointer, uint32) int32) ([]byte, error) {
	buffer := make([]byte, 256)
	for {
		size, err := checked(give(unsafe.Pointer(unsafe.SliceData(buffer)), uint32(len(buffer))))
		if err != nil {
			return nil, err
		}
		if size <= len(buffer) {
			return buffer[:size], nil
		}
		buffer = make([]byte, size)
	}
}

func text(give func(unsafe.Pointer, uint32) int32) string {
	found, _ := filled(give)
	return string(found)
}

func at(text string) unsafe.Pointer { return unsafe.Pointer(unsafe.StringData(text)) }

func length(text string) uint32 { return uint32(len(text)) }
