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
	portcall.Sleep(1500 * time.Millisecond)
	tell("%s", must(portcall.Clone()))
	number, ids, err := portcall.Fork(2)
	if err != nil {
		panic(err)
	}
	tell("%d %s", number, strings.Join(ids, " "))
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
