"""`portcall run`: an agent or a WASI program, here and alone. See `agents.run` and `docking.cli.solo`."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click

from agents.budget import Budget
from agents.engines import Engine, Limits, load
from agents.errors import CallFailed, FormatError
from agents.image import AgentImage
from agents.outcomes import Exhausted, Finished, Outcome, Trapped
from agents.runtime import Asked, Life, Spent
from agents.runtime import run as run_agent
from agents.sdk.sources import Choices
from agents.snapshot import Snapshot
from agents.waits import Go, GoAt
from agents.wasi.hostdirs import HostGrant, parse_grant
from agents.wasi.limits import Limits as WasiLimits
from agents.wasi.state import WasiState
from docking.cli import completion
from docking.cli.describe import imports
from docking.cli.output import amount
from docking.cli.solo import Solo
from docking.cli.sources import about, image_of, read_file
from docking.cli.writing import not_over, write_file

FAILED = 125  # exit code for a trap or a used-up budget: no code that the agent itself is likely to give
# A program on one's own terminal may print as much as it likes.
OWN = WasiLimits(log_bytes=1 << 62)


class Seconds(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """A number of seconds from 0 to about thirty years, which is a number of nanoseconds for everyone."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType`."""
        seconds = float(click.FLOAT.convert(value, param, ctx))
        if not 0 <= seconds <= 1e9:  # which refuses what is not a number, too
            self.fail(f"{value} is no time from 0 to 1e9 seconds", param, ctx)
        return seconds


class AgentFailed(click.ClickException):
    """The agent did not end by itself."""

    exit_code = FAILED


@click.command("run", short_help="Run an agent, or any WASI program, here and alone.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--engine",
    "engines",
    default="wasmtime",
    show_default=True,
    metavar="NAME[,NAME]",
    shell_complete=completion.engines,
    help="Engines, taken in turn at each hop.",
)
@click.option(
    "--hop-every",
    type=click.IntRange(min=1),
    metavar="N",
    help="Go on in a fresh instance at every Nth opportunity to suspend.",
)
@click.option("--hops", type=click.IntRange(min=0), metavar="M", help="At most this many such hops.")
@click.option("--dir", "dirs", multiple=True, metavar="HOST::GUEST[::ro]", help="Let it use a directory.")
@click.option("--env", "environ", multiple=True, metavar="K=V", help="Set a variable of its environment.")
@click.option("--station", default="here", show_default=True, help="The name of this place.")
@click.option("--cpu", type=Seconds(), metavar="SECONDS", help="Stop it after this much processor time.")
@click.option("--memory", type=click.IntRange(1, 1 << 20), metavar="MIB", help="Let it have this much memory.")
@click.option(
    "--suspend-to",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="End at its first go, or at Ctrl-C, and write its snapshot.",
)
@click.option("--resume-from", type=click.Path(path_type=Path), metavar="FILE", help="Go on from a snapshot.")
def run(source: Path, args: tuple[str, ...], engines: str, hop_every: int | None, hops: int | None,
        dirs: tuple[str, ...], environ: tuple[str, ...], station: str, cpu: float | None,
        memory: int | None, suspend_to: Path | None, resume_from: Path | None) -> None:  # fmt: skip
    """Run an agent, or any WASI program, here and alone.

    SOURCE is an image or what `portcall pack` takes; ARGS follow after `--`. Every station that the agent goes
    to is played by this one. With --hop-every, each Nth opportunity to suspend is taken: the agent is captured
    to bytes, and goes on from them in a fresh instance. Whatever N is, it must not notice.

    The exit code is the agent's own; 125 when it trapped or used up what it may.
    """
    if suspend_to is not None:
        not_over(source, suspend_to)
    loaded = [load(name.strip()) for name in engines.split(",")]
    image = image_of(source, Choices(profile=_profile(loaded)))
    solo = Solo(station)
    budget = Budget(None if cpu is None else int(cpu * 1e9))
    options: dict[str, Any] = {"grants": _grants(dirs), "budget": budget, "wasi_limits": OWN}
    if memory is not None:
        options["limits"] = Limits(memory=memory << 20)
    if resume_from is not None:
        if args or environ:
            raise click.UsageError("a snapshot has its own arguments and environment")
        try:
            options["snapshot"] = Snapshot.decode(read_file(resume_from))
        except FormatError as error:
            raise about(resume_from, error) from error
    elif any(name.startswith("wasi_snapshot_preview1.") for name in imports(image.code)):
        options["wasi"] = _state(image, source, args, environ, options["grants"])
    else:
        options["args"] = [_number(text) for text in args]
    try:
        if suspend_to is not None:
            outcome = _run_until_suspended(image, loaded[0], solo, hop_every, suspend_to, options)
        else:
            outcome = run_agent(
                image,
                engine=loaded,
                ambient=solo.place,
                event=_first_event(options.get("snapshot"), solo),
                hop_every=hop_every,
                hops=hops,
                answer=solo.answer,
                on_hop=solo.hopped,
                **options,
            )
    except ValueError as error:
        if "args" not in options:
            raise
        raise click.UsageError(str(error)) from None  # too few of them, or of another type
    if outcome is None:
        return
    try:
        _end(outcome)
    finally:
        if suspend_to is not None:
            click.echo(f"portcall: it ended before it was suspended: {suspend_to} is not written", err=True)
        elif hop_every is not None:
            least, most = map(amount, solo.sizes)
            click.echo(f"portcall: {solo.hops} hops, snapshots of {least} to {most}", err=True)


def _run_until_suspended(
    image: AgentImage, engine: Engine, solo: Solo, opportunity: int | None, target: Path, options: dict[str, Any]
) -> Outcome | None:
    """Run until the first departure, Ctrl-C, or the Nth opportunity; then write the snapshot and give None."""
    event = _first_event(options.get("snapshot"), solo)
    with Life(image, engine=engine, ambient=solo.place, **options) as life:

        def interrupted(number: int, frame: FrameType | None) -> None:
            if solo.wants_out:  # for the second time: it does not come to a place where it can be suspended
                life.interrupt()
            solo.wants_out = True
            life.suspend()

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            life.always = opportunity is not None
            while True:
                stop = life.advance(event)
                event = None
                if isinstance(stop, (Finished, Trapped, Exhausted, Spent)):
                    return life.outcome(stop)
                if opportunity is not None:
                    opportunity -= 1
                leaving = isinstance(stop, (Go, GoAt)) and opportunity is None
                if not leaving and opportunity != 0 and not solo.wants_out:
                    if isinstance(stop, Asked):
                        continue
                    event = solo.answer(stop)
                    if event is not None:
                        continue
                data = life.snapshot().encode()
                break
        finally:
            signal.signal(signal.SIGINT, before)
    write_file(target, data)
    click.echo(f"portcall: suspended; its snapshot is in {target} ({amount(len(data))})", err=True)
    return None


def _profile(engines: Sequence[Engine]) -> Any:
    """The profile that all these engines can run; the standard one if possible."""
    return "standard" if all("standard" in engine.profiles for engine in engines) else "portable"


def _first_event(snapshot: Snapshot | None, solo: Solo) -> Any:
    """What a snapshot's agent waits for, carried out."""
    if snapshot is None or snapshot.pending is None or snapshot.pending.wait is None:
        return None
    return solo.answer(snapshot.pending.wait)


def _state(
    image: AgentImage, source: Path, args: Sequence[str], environ: Sequence[str], grants: Mapping[str, Any]
) -> WasiState:
    """The first state of its virtual WASI: the luggage, if it has any, with arguments and input added."""
    variables = dict(_variable(text) for text in environ)
    try:
        known = image.luggage
        state = WasiState.read(known, OWN) if known else WasiState.launch([source.stem], limits=OWN)
        state.equip(args, variables, grants=grants)
    except CallFailed as error:
        raise click.ClickException(f"the program cannot begin: {error.reason}") from None
    if sys.stdin is not None:
        # A file is taken along, so that it can be read elsewhere too; a terminal or pipe is asked when needed.
        if stat.S_ISREG(os.fstat(0).st_mode):
            state.stdin.data = sys.stdin.buffer.read(state.limits.stdin_bytes)
        else:
            state.stdin.live = True
    return state


def _grants(dirs: Sequence[str]) -> dict[str, HostGrant]:
    grants = {}
    for text in dirs:
        try:
            host, guest, read_only = parse_grant(text)
            grants[guest] = HostGrant(host, guest, read_only=read_only)
        except CallFailed as error:
            raise click.BadParameter(f"{text}: {error.reason}", param_hint="--dir") from None
    return grants


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--env {text}: not NAME=VALUE")
    return name, value


def _number(text: str) -> int | float:
    try:
        return int(text, 0)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"this program takes numbers, and {text!r} is none") from None


def _end(outcome: Outcome) -> None:
    """Tells how it ended, and ends this process so. Raises `AgentFailed`."""
    match outcome:
        case Finished():
            if outcome.values:
                click.echo(" ".join(map(str, outcome.values)))
            sys.exit(outcome.exit_code)
        case Trapped(code, reason):
            raise AgentFailed(f"the agent trapped ({code}): {reason}")
        case Exhausted(what, reason):
            raise AgentFailed(f"the agent was stopped ({what}): {reason}")
    raise AgentFailed(f"the agent did not end: {type(outcome).__name__.lower()}")
