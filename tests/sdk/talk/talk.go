package main

import (
	"errors"
	"fmt"
	"portcall"
	"syscall"
	"time"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func shop() {
	check(portcall.Subscribe("news"))
	check(portcall.Offer("shop", "price=12"))
	question := must(portcall.Receive("", "price?", portcall.Forever))
	check(question.Reply([]byte(string(question.Body) + ": 12")))
	news := must(portcall.Receive("", "news", portcall.Forever))
	check(portcall.Unsubscribe("news"))
	here := must(portcall.Meet(question.Sender).Receive(portcall.Forever))
	check(portcall.Withdraw("shop"))
	late := must(portcall.Receive("", "", portcall.Forever))
	check(portcall.Go("beta"))
	check(late.Reply([]byte("from " + portcall.Here())))
	heard := fmt.Sprintf("%s|%s about %s|%s", question.Body, news.Body, news.Topic, here.Body)
	check(portcall.Report("heard", []byte(heard)))
	check(portcall.Report("told", must(portcall.Receive(question.Sender, "", portcall.Forever)).Body))
}

func customer() {
	var found []portcall.Found
	for len(found) == 0 {
		portcall.Sleep(10 * time.Millisecond)
		found = must(portcall.Find("shop", ""))
	}
	id := found[0].ID
	price := must(portcall.Ask(id, "price?", []byte("nuts"), 30*time.Second))
	if must(portcall.Publish("news", []byte("sale"))) != 1 {
		panic("nobody subscribes")
	}
	channel := portcall.Meet(id)
	check(channel.Send([]byte("I am here")))
	for len(must(portcall.Find("shop", ""))) > 0 {
		portcall.Sleep(10 * time.Millisecond)
	}
	late := must(portcall.AskLater(id, "", []byte("late?"), 30*time.Second))
	check(portcall.Go("beta"))
	answer := must(late.Answer(portcall.Forever))
	check(portcall.Go("home"))
	var gone syscall.Errno
	errors.As(channel.Send([]byte("still?")), &gone)
	told := fmt.Sprintf("%s|%s|%s|%s|%d", found[0].Station, found[0].Attributes, price, answer, int(gone))
	check(portcall.Send(id, []byte(told)))
}

func main() {
	number, _, err := portcall.Fork(1)
	check(err)
	if number == 0 {
		shop()
	} else {
		customer()
	}
}
