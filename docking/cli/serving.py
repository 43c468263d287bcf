"""Runs stations in this process until they are interrupted: what `portcall station` and `portcall lab` share.

Not here: which stations (the commands decide). Invariants: a signal ends them in order, so that their agents are in the
store, and within a bounded time; a policy that cannot be read again stays as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agents.errors import PortcallError
from docking.cli.asking import when
from docking.cli.output import plain, say
from docking.errors import ConfigError, ControlError, StationError

if TYPE_CHECKING:
    from docking.station import Station
    from docking.trust.policy import Policy

# Seconds from a signal to a forced exit: service managers kill after some time, and everything acknowledged is in the
# store. The bounds of the closing steps add up to less.
CLOSE_TIMEOUT_S = 9.5
# File descriptors that a station requests: enough for all its concurrent connections, and some more.
OPEN_FILES = 8192


def prepare(log: str) -> None:
    """Make this process one for stations. `log`: what it prints, "events", "json" or "none"."""
    from docking.cli.allocator import return_large_blocks

    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until a station is told what to do then
    _log_to(log)
    return_large_blocks()
    _raise_limits()


def _raise_limits() -> None:
    """Raise the soft limit of open files: 1,024 by default, for old programs, but the hard limit is higher."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def policy_of(path: Path | None) -> Policy:
    """The policy in a file; without one, that which admits this user's keys, of which the first is made if needed."""
    from docking.cli.owners import make_default
    from docking.cli.sources import read_file
    from docking.folders import key_folder
    from docking.trust.identity import list_keys
    from docking.trust.policy import OwnerRule, Policy

    if path is not None:
        return _read_policy(path, read_file(path))
    if not list_keys(key_folder()):
        make_default()
    return Policy(owners=[OwnerRule(public, name) for _, name, public, _ in list_keys(key_folder())])


def _read_policy(path: Path, data: bytes) -> Policy:
    """The policy in a file. Raises `ConfigError`, with the file's name and, where it can be told, the line."""
    from docking.trust.policy import read_policy

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text: save the file as that") from None
    try:
        return read_policy(text)
    except ConfigError as error:
        said = str(error)
        word = re.search(r"unknown word '([\w-]{1,80})'|\] ([\w-]{1,80}):", said)
        where = ""
        if word is not None:
            found = re.search(rf"^[ \t]*[\[\"']*{word[1] or word[2]}\b", text, re.MULTILINE)
            where = f", line {text.count(chr(10), 0, found.start()) + 1}" if found else ""
        raise ConfigError(f"{path}{where}: {said}") from None


def _log_to(log: str) -> None:
    """Log warnings to stderr; with `json`, log everything, one line per record."""
    handler = logging.StreamHandler(sys.stderr)
    if log == "json":
        handler.setFormatter(_Json())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s  %(levelname)s: %(message)s", "%H:%M:%S"))
        if log == "events":
            handler.addFilter(lambda record: not hasattr(record, "event"))  # already shown as an event
    logging.basicConfig(level=logging.INFO if log == "json" else logging.WARNING, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # a line for each request that is not HTTP
    logging.getLogger("zeroconf").setLevel(logging.ERROR)  # a traceback when a link goes away


class _Json(logging.Formatter):
    """Formats a record as one line of JSON."""

    _KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        fields = {"time": int(record.created * 1000), "level": record.levelname.lower(), "logger": record.name}
        fields["message"] = record.getMessage()
        fields |= {key: value for key, value in vars(record).items() if key not in self._KNOWN}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


async def serve(
    stations: Sequence[Station],
    *,
    log: str,
    policy: Callable[[], Policy],
    begun: Callable[[], Coroutine[object, object, None]],
    ending: str,
) -> None:
    """Run stations until the process is interrupted, or one of them cannot work any more.

    log: "events" prints what happens
    policy: reads the policy again
    begun: called once all run
    ending: said when they are interrupted

    Raises `StationError` where one could not work.
    """
    stop, hung_up = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    names = ", ".join(each.name for each in stations)

    def asked() -> None:
        stop.set()
        insist = threading.Timer(CLOSE_TIMEOUT_S, _end, (names,))
        insist.daemon = True
        insist.start()
        for number in (signal.SIGINT, signal.SIGTERM):
            # A second signal ends the process at once. Nothing is lost: the agents here are in the store.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C is a KeyboardInterrupt
            loop.add_signal_handler(number, asked)
    with contextlib.suppress(NotImplementedError, AttributeError):
        loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    several = len(stations) > 1
    async with contextlib.AsyncExitStack() as running:
        for each in stations:
            await running.enter_async_context(each)
        beside = [loop.create_task(_show(each, log, several)) for each in stations]
        for each in stations:
            each.reload_policy = functools.partial(_replace, stations, policy)
        beside += [loop.create_task(_read_again(stations, hung_up, policy)), loop.create_task(begun())]
        ends = [loop.create_task(stop.wait()), *(loop.create_task(each.failed()) for each in stations)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not any(each.failure for each in stations):
            say(ending)
        for task in (*ends, *beside):
            task.cancel()
        await asyncio.gather(*ends, *beside, return_exceptions=True)
    for each in stations:
        if each.failure:
            # Exit instead of staying up without working: the operator or systemd restarts it.
            raise StationError(f"the station {each.name} has ended: {each.failure}")


def _end(name: str) -> None:
    say(f"the station {name} does not come to its end: it ends now, and goes on from its store")
    os._exit(1)


def whom_it_admits(policy: Policy) -> list[str]:
    """Whose agents a policy admits, and how many owners and agents it revokes, in sentences."""
    rules = [rule for rule in policy.owners if rule.key.raw not in policy.revoked]
    said = [f"it admits the agents of: {', '.join(rule.name or rule.key.id for rule in rules) or 'nobody'}"]
    if policy.revoked:
        gone = [rule.name or rule.key.id for rule in policy.owners if rule.key.raw in policy.revoked]
        named = f", among them all of {', '.join(gone)}" if gone else ""
        said.append(f"it refuses and suspends {len(policy.revoked)} that are revoked{named}")
    return said


def say_whom_it_admits(policy: Policy) -> None:
    for sentence in whom_it_admits(policy):
        say(sentence)
    for sentence in policy.loosened():
        say(click.style(f"WARNING: {sentence}", fg="red", bold=True))


async def _read_again(stations: Sequence[Station], hung_up: asyncio.Event, policy: Callable[[], Policy]) -> None:
    """Read the policy again at each SIGHUP, the usual signal to reload a service.

    A closed terminal sends SIGHUP too, and must not end a station.
    """
    while True:
        await hung_up.wait()
        hung_up.clear()
        with contextlib.suppress(ControlError):  # it was said
            await _replace(stations, policy)


async def _replace(stations: Sequence[Station], policy: Callable[[], Policy]) -> list[str]:
    """Read the policy again and apply it; returns what it admits. Raises `ControlError` where it cannot be read."""
    try:
        again = policy()
        for each in stations:
            await each.replace_policy(again)
    except (click.ClickException, PortcallError) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        said = f"the policy stays as it was, since it cannot be read again: {message}"
        say(said)
        raise ControlError(said) from error
    say("the policy was read again")
    say_whom_it_admits(stations[0].policy)
    return whom_it_admits(stations[0].policy)


async def _show(station: Station, log: str, several: bool) -> None:
    """Print what happens at a station; of `several`, with its name."""
    async for event in station.subscribe():
        if log == "events":
            say(f"{station.name + ' ':<10}" * several + event_line(event.value()), err=False)


def event_line(event: dict[str, Any]) -> str:
    """An event as a readable line."""
    who = plain(event["label"] or event["agent"][:12], 24)
    words = " ".join(plain(part) for part in (event["place"], event["text"]) if part)
    return f"{when(event['time'])}  {event['kind']:<9} {who:<16} {words}".rstrip()
