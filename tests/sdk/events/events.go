package main

import (
	"portcall"
	"strings"
	"time"
)

var seen []string

func note(event string) { seen = append(seen, event+"@"+portcall.Here()) }

//go:wasmexport portcall_on_departing
func onDeparting() { note("departing") }

//go:wasmexport portcall_on_arrived
func onArrived() { note("arrived") }

//go:wasmexport portcall_on_sleeping
func onSleeping() { note("sleeping") }

//go:wasmexport portcall_on_woken
func onWoken() { note("woken") }

//go:wasmexport portcall_on_cloned
func onCloned() { note("cloned") }

//go:wasmexport portcall_on_message
func onMessage() { note("message") }

//go:wasmexport portcall_on_budget_low
func onBudgetLow() { note("budget_low") }

//go:wasmexport portcall_on_retracted
func onRetracted() { note("retracted") }

func main() {
	portcall.Go("beta")
	portcall.Sleep(10 * time.Millisecond)
	portcall.Send(portcall.Me(), []byte("hello"))
	portcall.Recv()
	if number, _, _ := portcall.Fork(1); number != 0 {
		return
	}
	portcall.Log(portcall.Info, "ready")
	for portcall.Here() != "home" {
	}
	portcall.Report("seen", []byte(strings.Join(seen, " ")))
}
