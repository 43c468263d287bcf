"""`portcall replay`: a journey step by step, forward and backward, from stations or from a file.

Not here: what a journey is (`docking.replay`), and who gets the records of a station (`docking.recordings.requests`).
Invariant: everything that is shown comes from an agent or a station, and goes through `plain`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import click

from agents.credentials.keys import PublicKey, bytes_of
from agents.errors import FormatError, PortcallError
from docking.cli import completion
from docking.cli.asking import JSON_OPTION, STATION_OPTION, when
from docking.cli.output import plain, print_json, size_text
from docking.cli.sources import read_file
from docking.cli.stacks import stack_lines
from docking.cli.writing import write_file
from docking.errors import ControlError
from docking.replay.changes import Changes
from docking.replay.journey import Journey, JourneyStep
from docking.replay.moments import Moment

SHOWN = 8  # ranges of memory, and other changes, that are printed
HELP = "n next, p previous, first, last, goto N, hop N, list, check, q"


@click.command("replay")
@click.argument("agent", metavar="AGENT|FILE", shell_complete=completion.agents)
@click.option("--list", "as_list", is_flag=True, help="List the steps.")
@click.option("--step", type=int, metavar="N", help="Show this step: its state, and what changed. -1 is the last.")
@click.option("--check", is_flag=True, help="Run every stay again, and compare its end with what was signed.")
@click.option("--export", type=click.Path(path_type=Path, dir_okay=False), help="Write all of it to a file.")
@click.option("--owner", metavar="NAME", shell_complete=completion.keys, help="The key of the agent's owner.")
@click.option("--clocks", is_flag=True, help="Each reading of a clock is a step, too.")
@STATION_OPTION
@JSON_OPTION
def replay(
    agent: str,
    as_list: bool,
    step: int | None,
    check: bool,
    export: Path | None,
    owner: str | None,
    clocks: bool,
    station: str | None,
    as_json: bool,
) -> None:
    """Step through an agent's journey, forward and backward.

    Stations that record (portcall station --record) keep with which state an agent came, and what its calls returned.
    Those of this user are read; others give what they have to the agent's owner. In a terminal: n, p, first, last,
    goto N. --export writes a file that can be replayed without any station.
    """
    path = Path(agent)
    journey = _from_file(path, clocks) if path.is_file() else _from_stations(agent, station, owner, clocks)
    try:
        if export is not None:
            from docking.replay.files import write_journey

            before = os.umask(0o077)  # what the agent was told is in it
            try:
                write_file(export, write_journey(journey))
            finally:
                os.umask(before)
            click.echo(f"{len(journey.steps)} steps in {click.format_filename(export)}", err=True)
        elif check:
            _check(journey, as_json)
        elif step is not None:
            _one(journey, step, as_json)
        elif as_json:
            print_json(journey.value())
        elif as_list or not (sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()):
            click.echo("\n".join(_listed(journey)))
        else:
            _interact(journey)
    finally:
        journey.close()


def _now() -> int:
    return time.time_ns() // 1_000_000


def _from_file(path: Path, clocks: bool) -> Journey:
    from docking.cli.sources import about
    from docking.replay.files import read_journey

    try:
        return read_journey(read_file(path), _now(), clocks=clocks)
    except FormatError as error:
        raise about(path, error) from error


def _from_stations(agent: str, station: str | None, owner: str | None, clocks: bool) -> Journey:
    from agents.capsule import Capsule
    from agents.credentials.passport import verify_passport
    from agents.credentials.upgrades import images_in
    from agents.image import AgentImage
    from docking.cli.asking import whoever_knows
    from docking.control.client import connections
    from docking.recordings.record import StayRecord
    from docking.recordings.requests import Owner
    from docking.replay.gathering import gather, visited

    with ExitStack() as opened:
        line = opened.enter_context(whoever_knows(station, agent))
        found = line.ask("capsule", agent=agent)
        capsule, ident = Capsule.decode(found["capsule"]), bytes_of(found["agent"])
        body = verify_passport(capsule.passport).body
        digests, images, own = images_in(body, capsule.trail.links), dict[bytes, bytes](), {}
        for each in connections():
            with suppress(ControlError):
                each = opened.enter_context(each)
                for digest in digests:
                    images[digest] = images.get(digest) or each.ask("image", digest=digest)
                key = PublicKey(each.ask("recordings", agent=found["agent"])["key"])

                def kept(visit: int, each: Any = each) -> StayRecord | None:
                    data = each.ask("recording", agent=ident, visit=visit)
                    return StayRecord.decode(data) if data else None

                own[key] = kept
        if not images.get(digests[0]):
            raise ControlError("the agent's image is at none of the stations that run here")
        key_of_owner, said = _owner_key(body.owner, owner)
        asks = None
        if key_of_owner is not None:

            def ask(peer: PublicKey, question: list[object]) -> object:
                return line.ask("ask_recordings", station=peer.raw, question=question)

            asks = Owner(key_of_owner, ask, _now)
        gathered = gather(ident, visited(capsule), own, asks, said)
    records = list(gathered.records.values())
    names, missing = found["names"], gathered.missing
    made, *upgrades = [AgentImage.unpack(images[each]) for each in digests if images.get(each)]
    return Journey(
        capsule, made, records, names=names, why_missing=missing, clocks=clocks, now=_now(), upgrades=upgrades
    )


def _owner_key(public: PublicKey, name: str | None) -> tuple[Any, str]:
    """The secret key of the agent's owner, or None and why there is none."""
    from docking.cli.credentials import ask_passphrase, existing
    from docking.folders import key_folder
    from docking.trust.identity import list_keys, load_key

    if name is not None:
        key = load_key(existing(name), ask_passphrase).key
        if key.public != public:
            raise click.ClickException(f"the agent's owner is {public}, and not {name}")
        return key, ""
    for path, _, theirs, protected in list_keys(key_folder()):
        if theirs == public and not protected:
            return load_key(path, ask_passphrase).key, ""
    return None, f"only the agent's owner gets it from there, and the key of {public.id} was not given: --owner NAME"


def _listed(journey: Journey) -> Iterator[str]:
    width = len(str(len(journey.steps)))
    for stay in journey.stays:
        gone = f", to {plain(stay.to)} at {when(stay.departed)}" if stay.to else ""
        yield f"{plain(stay.station)}, visit {stay.visit}, {when(stay.arrived) if stay.arrived else 'launched'}{gone}"
        yield from (f"  note: {plain(note)}" for note in stay.notes)
        for step in journey.steps[stay.first : stay.last + 1]:
            yield f"  {step.index:>{width}}  {plain(step.line(), 110)}"


def _chosen(journey: Journey, number: int) -> int:
    index = number if number >= 0 else len(journey.steps) + number
    if not 0 <= index < len(journey.steps):
        raise click.ClickException(f"there is no step {number}: the journey has {len(journey.steps)}, from 0")
    return index


def _one(journey: Journey, number: int, as_json: bool) -> None:
    index = _chosen(journey, number)
    step, state, changes = journey.steps[index], journey.state(index), journey.changes(index)
    if as_json:
        print_json({"step": step.value(), "state": state.value(), "changes": changes.value()})
    else:
        click.echo("\n".join(_shown(journey, step, state, changes)))


def _shown(journey: Journey, step: JourneyStep, state: Moment, changes: Changes) -> Iterator[str]:
    place = f"{plain(step.station)}, visit {step.visit}"
    yield f"[{step.index}/{len(journey.steps) - 1}]  {place}: {plain(step.line(), 160)}"
    if state.note:
        yield f"note: {plain(state.note)}"
    yield from (f"  {line}" for line in _changed(changes))
    if state.stack.frames or state.stack.note:
        yield from stack_lines(state.stack.value())
    files = f", {len(state.files)} files" if state.files else ""
    results = f", reported: {', '.join(plain(each, 40) for each in state.results[-SHOWN:])}" if state.results else ""
    waits = f", waits: {plain(state.waits, 80)}" if state.waits else ""
    yield f"memory {size_text(sum(state.memory))}{files}{results}{waits}"


def _changed(changes: Changes) -> Iterator[str]:
    for name in changes.left[:SHOWN]:
        yield f"- returned from {plain(name)}"
    for name in changes.entered[:SHOWN]:
        yield f"+ called {plain(name)}"
    for function, name, before, after in changes.variables[:SHOWN]:
        was = f"{plain(before, 60)} -> " if before else ""
        yield f"  {plain(function, 40)}: {plain(name, 40)} = {was}{plain(after, 100)}"
    for index, was_value, now in changes.globals[:SHOWN]:
        yield f"  global {index}: {was_value} -> {now}"
    if changes.memory_bytes:
        where = ", ".join(f"{each.address:#x}+{each.size}" for each in changes.memory[:SHOWN])
        yield f"  memory: {size_text(changes.memory_bytes)} changed ({where}{', ...' * (len(changes.memory) > SHOWN)})"
    if changes.grown:
        yield f"  memory: grew by {size_text(changes.grown)}"
    for path, how in list(changes.files.items())[:SHOWN]:
        yield f"  file {plain(path)}: {how}"
    for key in changes.results[:SHOWN]:
        yield f"  reported {plain(key)}"


def _check(journey: Journey, as_json: bool) -> None:
    found = [(stay, journey.check(stay.visit)) for stay in journey.stays]
    if as_json:
        print_json([{"visit": stay.visit, "station": stay.station, "wrong": wrong} for stay, wrong in found])
        return
    for stay, wrong in found:
        verdict = f"--  {plain(wrong, 300)}" if wrong else "ok  what it did follows from what it was told"
        click.echo(f"visit {stay.visit}  {plain(stay.station):<12}  {verdict}")


def _interact(journey: Journey) -> None:
    """Step by step, until the user has seen enough."""
    index = 0
    click.echo(f"{len(journey.steps)} steps at {len(journey.stays)} stays: {HELP}\n")
    while True:
        step = journey.steps[index]
        try:
            click.echo("\n".join(_shown(journey, step, journey.state(index), journey.changes(index))))
        except PortcallError as error:
            click.echo(f"[{index}] {plain(step.line())}: {plain(str(error), 300)}")
        while True:
            try:
                line = input(f"\n{index}> ").strip()
            except (EOFError, KeyboardInterrupt):
                click.echo()
                return
            if line in ("q", "quit", "exit"):
                return
            moved = _moved(journey, index, line)
            if moved is not None:
                index = moved
                break


def _moved(journey: Journey, index: int, line: str) -> int | None:
    """Where a command leads; None if it leads nowhere."""
    word, _, rest = line.partition(" ")
    last = len(journey.steps) - 1
    match word:
        case "" | "n" | "next":
            return min(index + 1, last)
        case "p" | "prev" | "previous":
            return max(index - 1, 0)
        case "first":
            return 0
        case "last":
            return last
        case "goto" | "g" if rest.lstrip("-").isdecimal() and 0 <= int(rest) <= last:
            return int(rest)
        case "hop" if rest.isdecimal() and int(rest) < len(journey.stays):
            return journey.stays[int(rest)].first
        case "list":
            click.echo("\n".join(_listed(journey)))
        case "check":
            _check(journey, False)
        case _:
            click.echo(HELP)
    return None
