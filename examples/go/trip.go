package main

import (
	"errors"
	"fmt"
	"portcall"
	"strings"
	"syscall"
)

func main() {
	var seen []string
	for _, station := range []string{"alpha", "beta", "gamma"} {
		if err := portcall.Go(station); err != nil {
			var number syscall.Errno
			errors.As(err, &number)
			fmt.Printf("%s cannot be reached: error %d\n", station, int(number))
			continue
		}
		seen = append(seen, portcall.Here())
		fmt.Printf("stop %d: %s\n", len(seen), portcall.Here())
	}
	if err := portcall.Report("route", []byte(strings.Join(seen, " "))); err != nil {
		panic(err)
	}
}
