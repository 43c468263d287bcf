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

//go:wasmimport portcall select
func selectFrom(from unsafe.Pointer, size uint32, topic unsafe.Pointer, topicSize uint32, buffer unsafe.Pointer, capacity uint32, timeoutMs int32) int32

//go:wasmimport portcall about
func about(buffer unsafe.Pointer, capacity uint32) int32

//go:wasmimport portcall ask
func ask(to unsafe.Pointer, size uint32, topic unsafe.Pointer, topicSize uint32, question unsafe.Pointer, questionSize uint32, timeoutMs int32, id unsafe.Pointer, capacity uint32) int32

//go:wasmimport portcall answer
func answer(id unsafe.Pointer, size uint32, buffer unsafe.Pointer, capacity uint32, timeoutMs int32) int32

//go:wasmimport portcall subscribe
func subscribe(topic unsafe.Pointer, size uint32) int32

//go:wasmimport portcall unsubscribe
func unsubscribe(topic unsafe.Pointer, size uint32) int32

//go:wasmimport portcall publish
func publish(topic unsafe.Pointer, size uint32, message unsafe.Pointer, messageSize uint32, everywhere int32) int32

//go:wasmimport portcall offer
func offer(service unsafe.Pointer, size uint32, attributes unsafe.Pointer, attributesSize uint32) int32

//go:wasmimport portcall withdraw
func withdraw(service unsafe.Pointer, size uint32) int32

//go:wasmimport portcall find
func find(service unsafe.Pointer, size uint32, label unsafe.Pointer, labelSize uint32, everywhere int32, buffer unsafe.Pointer, capacity uint32) int32

//go:wasmimport portcall send_here
func sendHere(to unsafe.Pointer, size uint32, message unsafe.Pointer, messageSize uint32) int32

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

//go:wasmimport portcall notice
func notice(buffer unsafe.Pointer, capacity uint32) int32

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

// Forever is a timeout that does not end: so is any that is below 0.
const Forever time.Duration = -1

// Message is a message to this agent.
type Message struct {
	Body   []byte
	Sender string // an agent's id or a station's name
	Topic  string // may be empty
	ID     string // what Reply takes; empty if the message is no question
}

// Reply answers a question, here or at a later station: once.
func (message Message) Reply(answer []byte) error { return Reply(message.ID, answer) }

// Receive waits for the next message of one sender and about one topic (empty: any); syscall.ETIMEDOUT when none came.
func Receive(from, topic string, timeout time.Duration) (Message, error) {
	body, err := filled(func(buffer unsafe.Pointer, capacity uint32) int32 {
		return selectFrom(at(from), length(from), at(topic), length(topic), buffer, capacity, patience(timeout))
	})
	if err != nil {
		return Message{}, err
	}
	parts := strings.SplitN(text(about)+"\n\n", "\n", 4)
	return Message{body, parts[0], parts[1], parts[2]}, nil
}

// Question is one that was asked. Its answer can be taken here or at a later station, once.
type Question struct{ ID string }

// Answer waits for the answer: syscall.ETIMEDOUT when none came in time, syscall.EHOSTUNREACH when the question could not be
// delivered.
func (question Question) Answer(timeout time.Duration) ([]byte, error) {
	return filled(func(buffer unsafe.Pointer, capacity uint32) int32 {
		return answer(at(question.ID), length(question.ID), buffer, capacity, patience(timeout))
	})
}

// Ask gives what the agent to answers to a message, about a topic (may be empty), in time.
func Ask(to, topic string, message []byte, timeout time.Duration) ([]byte, error) {
	question, err := AskLater(to, topic, message, timeout)
	if err != nil {
		return nil, err
	}
	return question.Answer(Forever)
}

// AskLater asks the agent to, and goes on. An answer that comes after the timeout is dropped; at the latest after 7 days.
func AskLater(to, topic string, message []byte, timeout time.Duration) (Question, error) {
	id, err := filled(func(buffer unsafe.Pointer, capacity uint32) int32 {
		return ask(at(to), length(to), at(topic), length(topic), unsafe.Pointer(unsafe.SliceData(message)), uint32(len(message)), patience(timeout), buffer, capacity)
	})
	return Question{string(id)}, err
}

// Subscribe has this agent receive what is published to a topic, from now on and wherever it goes.
func Subscribe(topic string) error {
	_, err := checked(subscribe(at(topic), length(topic)))
	return err
}

// Unsubscribe ends that.
func Unsubscribe(topic string) error {
	_, err := checked(unsubscribe(at(topic), length(topic)))
	return err
}

// Publish sends a message to the other agents here that subscribe to a topic; how many got it.
func Publish(topic string, message []byte) (int, error) { return published(topic, message, 0) }

// PublishEverywhere sends it also to those at the other stations that are present; how many got it here.
func PublishEverywhere(topic string, message []byte) (int, error) { return published(topic, message, 1) }

// Offer offers a service to other agents while this one is here; attributes is what they are told of it.
func Offer(service, attributes string) error {
	_, err := checked(offer(at(service), length(service), at(attributes), length(attributes)))
	return err
}

// Withdraw offers a service no more.
func Withdraw(service string) error {
	_, err := checked(withdraw(at(service), length(service)))
	return err
}

// Found is an agent that was found, and what it says of its service.
type Found struct{ ID, Station, Label, Attributes string }

// Find gives the other agents here that offer a service and have a label (empty: any).
func Find(service, label string) ([]Found, error) { return found(service, label, 0) }

// FindEverywhere gives those at other stations too.
func FindEverywhere(service, label string) ([]Found, error) { return found(service, label, 1) }

// Channel is a local channel to an agent that is at this station: what is sent on it goes to that agent while it is here.
type Channel struct{ Agent string }

// Meet is a local channel to another agent that is here, by its id; see Find.
func Meet(agent string) Channel { return Channel{agent} }

// Send sends it a message; syscall.EHOSTUNREACH when it is not here any more.
func (channel Channel) Send(message []byte) error {
	_, err := checked(sendHere(at(channel.Agent), length(channel.Agent), unsafe.Pointer(unsafe.SliceData(message)), uint32(len(message))))
	return err
}

// Receive waits for its next message; syscall.ETIMEDOUT when none came.
func (channel Channel) Receive(timeout time.Duration) (Message, error) {
	return Receive(channel.Agent, "", timeout)
}

// Accept waits for the next request of a client, as message/http; its header portcall-request is the id for Reply.
func Accept() ([]byte, error) { return accepted(-1) }

// AcceptWithin waits for the next request of a client; syscall.ETIMEDOUT when none came.
func AcceptWithin(timeout time.Duration) ([]byte, error) { return accepted(milliseconds(timeout)) }

// Reply answers a request: a response of HTTP/1.1, without Content-Length. Or the question of an agent: see Message.
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

// Notice is what this station has to tell by itself, once: "retracted", "budget_low cpu", "budget_low messages"; empty if
// there is nothing. An agent that exports portcall_on_retracted or portcall_on_budget_low is told by these.
func Notice() string { return text(notice) }

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

func published(topic string, message []byte, everywhere int32) (int, error) {
	return checked(publish(at(topic), length(topic), unsafe.Pointer(unsafe.SliceData(message)), uint32(len(message)), everywhere))
}

func found(service, label string, everywhere int32) ([]Found, error) {
	lines, err := filled(func(buffer unsafe.Pointer, capacity uint32) int32 {
		return find(at(service), length(service), at(label), length(label), everywhere, buffer, capacity)
	})
	if err != nil || len(lines) == 0 {
		return nil, err
	}
	var agents []Found
	for _, line := range strings.Split(string(lines), "\n") {
		parts := strings.SplitN(line+"\t\t\t", "\t", 5)
		agents = append(agents, Found{parts[0], parts[1], parts[2], parts[3]})
	}
	return agents, nil
}

// patience is a timeout in milliseconds; below 0: for ever.
func patience(timeout time.Duration) int32 {
	if timeout < 0 {
		return -1
	}
	return milliseconds(timeout)
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
