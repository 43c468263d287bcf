package main

import (
	"errors"
	"fmt"
	"portcall"
	"strings"
	"syscall"
	"time"
)

func tell(format string, values ...any) { portcall.Log(portcall.Info, fmt.Sprintf(format, values...)) }

func attempt(what string, err error) {
	var number syscall.Errno
	if errors.As(err, &number) {
		tell("%s error %d", what, int(number))
	} else {
		tell("%s went well", what)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	tell("%s %s [%s]", portcall.Here(), portcall.Me(), portcall.NextStop())
	tell("%s", must(portcall.Call("clock", []byte("please"))))
	tell("%d", len(must(portcall.Call("large", nil))))
	_, err := portcall.Call("oracle", nil)
	attempt("oracle", err)
	tell("%s [%s]", strings.Join(must(portcall.Lookup("clock")), " "), strings.Join(must(portcall.Lookup("oracle")), " "))
	portcall.Send("friend", []byte("hi"))
	attempt("send", portcall.Send("nobody", []byte("hi")))
	tell("%s from %s", must(portcall.Recv()), portcall.Sender())
	tell("%d from %s", len(must(portcall.Recv())), portcall.Sender())
	_, err = portcall.RecvWithin(250 * time.Millisecond)
	attempt("recv", err)
	tell("%s", must(portcall.Accept())[:3])
	portcall.Reply("alpha.7", []byte("hi"))
	attempt("reply", portcall.Reply("alpha.7", []byte("hi")))
	_, err = portcall.AcceptWithin(250 * time.Millisecond)
	attempt("accept", err)
	message := must(portcall.Receive("friend", "news", portcall.Forever))
	tell("%s from %s about %s", message.Body, message.Sender, message.Topic)
	message.Reply([]byte("ok"))
	_, err = portcall.Receive("", "", 250*time.Millisecond)
	attempt("receive", err)
	tell("%d", len(must(portcall.Ask("friend", "price?", []byte("how much"), 30*time.Second))))
	_, err = must(portcall.AskLater("friend", "", []byte("more"), 250*time.Millisecond)).Answer(250 * time.Millisecond)
	attempt("answer", err)
	_, err = portcall.Ask("nobody", "", nil, portcall.Forever)
	attempt("ask", err)
	portcall.Subscribe("news")
	portcall.Unsubscribe("news")
	if must(portcall.Publish("news", []byte("sale")))+must(portcall.PublishEverywhere("news", []byte("sale"))) != 4 {
		panic("another number of agents")
	}
	portcall.Offer("shop", "price=12")
	portcall.Withdraw("shop")
	for _, found := range must(portcall.FindEverywhere("shop", "books")) {
		tell("%s %s %s %s", found.ID, found.Station, found.Label, found.Attributes)
	}
	if len(must(portcall.Find("", ""))) != 0 {
		panic("somebody is here")
	}
	portcall.Meet("friend").Send([]byte("hi"))
	attempt("here", portcall.Meet("nobody").Send([]byte("hi")))
	portcall.Sleep(1500 * time.Millisecond)
	tell("%s", must(portcall.Clone()))
	number, ids, err := portcall.Fork(2)
	if err != nil {
		panic(err)
	}
	tell("%d %s", number, strings.Join(ids, " "))
	if portcall.Notice() != "" {
		panic("a notice")
	}
	portcall.Report("answer", []byte("42"))
	attempt("closed", portcall.Go("closed"))
	attempt("nowhere", portcall.Go(""))
	attempt("shut", portcall.GoWait("shut", 250*time.Millisecond))
	portcall.Go("beta")
	tell("at %s", portcall.Here())
	portcall.Log(portcall.Warning, "careful")
	if portcall.Here() == "nowhere" {
		panic(portcall.GoAt("beta", "entry"))
	}
	portcall.Exit(5)
}
