"""Threads that wait under one lock: who came last is woken first, and nobody is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable

from docking.aio.bells import Bells


def waiting(bells: Bells, count: int) -> None:
    """Until so many wait: each is counted under the lock that it then gives up."""
    while True:
        with bells:
            if len(bells.waiting) == count:
                return


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_who_came_last_is_woken_first() -> None:
    bells, woken = Bells(), []
    told = threading.Semaphore(0)

    def wait(name: int) -> None:
        with bells:
            assert bells.wait(None)
            woken.append(name)
        told.release()

    threads = []
    for name in range(3):
        threads.append(started(lambda name=name: wait(name)))  # type: ignore[misc]
        waiting(bells, name + 1)
    for _ in threads:
        with bells:
            bells.wake()
        told.acquire()
    assert woken == [2, 1, 0]
    for thread in threads:
        thread.join()


def test_all_are_woken() -> None:
    bells, woken = Bells(), []

    def wait() -> None:
        with bells:
            woken.append(bells.wait(None))

    threads = [started(wait) for _ in range(4)]
    waiting(bells, 4)
    with bells:
        bells.wake_all()
    for thread in threads:
        thread.join()
    assert woken == [True] * 4


def test_patience_ends_and_nobody_is_left_waiting() -> None:
    bells = Bells()
    with bells:
        assert not bells.wait(0.0)
        assert bells.waiting == []
        bells.wake()  # nobody is there: it is not remembered either
        assert not bells.wait(0.0)
