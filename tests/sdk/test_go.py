"""Go's runtime has a scheduler and timers of its own: they go on where they were, wherever the agent is."""

from __future__ import annotations

from pathlib import Path

import pytest

import agents
from agents.errors import ToolchainMissing
from agents.sdk.sources import load_image, user_cache
from agents.sdk.toolchains import find_go

from .languages import Open, missing

pytestmark = pytest.mark.sweep

TIMERS = """package main

import (
	"fmt"
	"time"
)

func main() {
	ticker, late, fired := time.NewTicker(2*time.Millisecond), time.After(time.Hour), make(chan string)
	time.AfterFunc(5*time.Millisecond, func() { fired <- "fired" })
	for ticks := 0; ticks < 5; {
		select {
		case <-ticker.C:
			ticks++
		case <-late:
			panic("an hour is over")
		}
	}
	began := time.Now()
	time.Sleep(3 * time.Millisecond)
	fmt.Println("ticked,", <-fired, time.Since(began) >= 3*time.Millisecond)
}
"""
GOROUTINES = """package main

import (
	"fmt"
	"sync"
)

func main() {
	numbers, squares := make(chan int), make(chan int)
	var group sync.WaitGroup
	for worker := 0; worker < 4; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for n := range numbers {
				squares <- n * n
			}
		}()
	}
	go func() {
		for n := 0; n < 50; n++ {
			numbers <- n
		}
		close(numbers)
		group.Wait()
		close(squares)
	}()
	sum := 0
	for square := range squares {
		sum += square
	}
	defer func() { fmt.Println("sum", sum, recover()) }()
	panic("in the end")
}
"""


@pytest.mark.parametrize("every", [None, 7])
@pytest.mark.parametrize(
    ("program", "said"),
    [(TIMERS, "ticked, fired true\n"), (GOROUTINES, "sum 40425 in the end\n")],
    ids=["timers", "goroutines"],
)
def test_a_program_goes_on_with_its_timers_and_goroutines(
    tmp_path: Path, program: str, said: str, every: int | None
) -> None:
    try:
        find_go("a test")
    except ToolchainMissing as reason:
        missing(reason)
    (tmp_path / "program.go").write_text(program)
    place = Open.home()
    image = load_image(tmp_path / "program.go", cache=user_cache())
    outcome = agents.run(image, ambient=place, answer=place.answer, hop_every=every, on_hop=place.hopped)
    assert isinstance(outcome, agents.Finished), outcome
    assert outcome.exit_code == 0
    assert place.printed == said
    assert every is None or place.hops > 100
