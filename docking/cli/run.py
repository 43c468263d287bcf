"""`portcall run`: runs an agent or a WASI program, and plays the stations for it. See `docking.simulation`."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click
from attrs import evolve

from agents.budget import TimeBudget
from agents.credentials.ways import Way
from agents.engines import Engine, Limits, load
from agents.engines.interface import interface
from agents.engines.native_stack import deepen_main
from agents.errors import CallFailed, FormatError
from agents.heap import sized
from agents.image import AgentImage
from agents.outcomes import Departing, Exhausted, Finished, Outcome, Suspended, Trapped, Waiting
from agents.runtime import Execution, Stop
from agents.sdk.sources import Choices
from agents.snapshot import MAX_WASI_BYTES, Snapshot, started_state
from agents.stack import stack_of
from agents.waits import Go, GoAt
from agents.wasi.hostdirs import HostGrant, parse_grant
from agents.wasi.limits import WasiLimits
from agents.wasi.state import WasiState
from docking.cli import completion, interrupts
from docking.cli.describe import imports
from docking.cli.luggage import FILE_OPTION, PACKAGE_OPTION, PYTHON_OPTION, DataFile, by_guest_path
from docking.cli.output import escaped, plain, size_text
from docking.cli.services import SERVICE_OPTION, SERVICES_OPTION, Offers, OneService, all_of
from docking.cli.sources import about, image_of, read_file
from docking.cli.stacks import stack_lines
from docking.cli.terminal import TerminalWorld
from docking.cli.ways import VIA_HELP, ViaType
from docking.cli.writing import not_over, write_file
from docking.launching import label_of
from docking.simulation import SimulatedAgent, Simulation, check_stop

MOST_RESULTS, MOST_RESULT_BYTES = 20, 500  # that are shown, of all and of one
SHOWN_FRAMES = 10  # of the stack of an agent that was stopped
FAILED_EXIT_CODE = 125  # exit code for a trap or an exhausted budget: one that agents are unlikely to use themselves
# A program on the user's own terminal may print any amount.
OWN_LIMITS = WasiLimits(log_bytes=1 << 62)
# Mebibytes of a file as a program's input: the default limit, and the most that fits in a snapshot.
INPUT_MIB, MAX_INPUT_MIB = OWN_LIMITS.stdin_bytes >> 20, MAX_WASI_BYTES >> 21


class Seconds(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """A number of seconds from 0 to about thirty years, so that its nanoseconds fit in 64 bits."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType`."""
        seconds = float(click.FLOAT.convert(value, param, ctx))
        if not 0 <= seconds <= 1e9:  # also refuses NaN
            self.fail(f"{value} is no time from 0 to 1e9 seconds", param, ctx)
        return seconds


class DownType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """The name of a station, and perhaps `=` and for how many seconds."""

    name = "station"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        if isinstance(value, tuple):
            return value
        name, given, seconds = value.partition("=")
        return name, Seconds().convert(seconds, param, ctx) if given else None


class AgentFailed(click.ClickException):
    """The agent did not end by itself."""

    exit_code = FAILED_EXIT_CODE


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
@click.option("--via", type=ViaType(), metavar="WAY", shell_complete=completion.way, help=VIA_HELP)
@click.option(
    "--down",
    type=DownType(),
    multiple=True,
    metavar="NAME[=SECONDS]",
    help="Let this station not answer, for some seconds: go to it fails, or waits.",
)
@SERVICE_OPTION
@SERVICES_OPTION
@FILE_OPTION
@PACKAGE_OPTION
@PYTHON_OPTION
@click.option("--message", "messages", multiple=True, metavar="TEXT", help="Send it this message before it starts.")
@click.option("--cpu", type=Seconds(), metavar="SECONDS", help="Stop it after this much processor time.")
@click.option("--memory", type=click.IntRange(1, 1 << 20), metavar="MIB", help="Let it have this much memory.")
@click.option(
    "--input-size",
    type=click.IntRange(1, MAX_INPUT_MIB),
    default=INPUT_MIB,
    show_default=True,
    metavar="MIB",
    help="Let a file that is its input have this size: it is read at once, and taken along.",
)
@click.option(
    "--suspend-to",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="End at its first go, or at Ctrl-C, and write its snapshot.",
)
@click.option("--resume-from", type=click.Path(path_type=Path), metavar="FILE", help="Go on from a snapshot.")
def run_command(source: Path, args: tuple[str, ...], engines: str, hop_every: int | None, hops: int | None,
        dirs: tuple[str, ...], environ: tuple[str, ...], station: str, via: Way | None,
        down: tuple[tuple[str, float | None], ...], single: tuple[OneService, ...], modules: tuple[Offers, ...],
        files: tuple[DataFile, ...], packages: tuple[str, ...], python: Path | None, messages: tuple[str, ...],
        cpu: float | None, memory: int | None, input_size: int, suspend_to: Path | None,
        resume_from: Path | None) -> None:  # fmt: skip
    """Run an agent, or any WASI program, here and alone.

    SOURCE is an image or what `portcall pack` takes; ARGS follow after `--`. Every station that the agent goes
    to is played by this command, and its clones run here too: no network is used, and no station is needed. With --via
    the agent goes where the way leads, and nowhere else.

    With --hop-every, each Nth opportunity to suspend is taken: the agent is captured to bytes, and goes on from them in
    a fresh instance. Whatever N is, it must not notice.

    The exit code is the agent's own; 125 when it trapped or used up what it may.
    """
    if suspend_to is not None:
        not_over(source, suspend_to)
    for service in single:
        if service.station:
            check_stop(service.station, via, station)
    simulation = Simulation(
        TerminalWorld(),
        home=station,
        via=via,
        down=dict(down),
        offers=all_of(modules, single),
        messages=[text.encode() for text in messages],
        label=label_of(source.stem),
    )
    # From here on, so that Ctrl-C before the agent starts also gives a snapshot.
    ctrl_c = CtrlC(simulation)
    if suspend_to is None and interrupts.release():
        raise KeyboardInterrupt
    with ctrl_c if suspend_to is not None else contextlib.nullcontext():
        stack = deepen_main()
        loaded = [load(name.strip(), stack=stack) for name in engines.split(",")]
        taken = by_guest_path(files)
        image = image_of(source, Choices(profile=_profile(loaded), python=python, files=taken, packages=packages))
        budget = TimeBudget(None if cpu is None else int(cpu * 1e9))
        own = evolve(OWN_LIMITS, stdin_bytes=input_size << 20)
        options: dict[str, Any] = {"grants": _grants(dirs), "budget": budget, "wasi_limits": own}
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
            takes = _takes(image)  # then the arguments are numbers for the entry, not command line arguments
            options["wasi"] = _state(image, source, () if takes else args, environ, options["grants"], own)
            if memory is not None:
                options["wasi"].args = tuple(sized(options["wasi"].args, memory << 20))
            if takes:
                options["args"] = [_number(text) for text in args]
        else:
            options["args"] = [_number(text) for text in args]
        sizes: list[int] = []
        try:
            outcome = simulation.run(
                image,
                loaded,
                hop_every=hop_every,
                hops=hops,
                on_hop=lambda encoded: sizes.append(len(encoded)),
                leave=None if suspend_to is None else _leaving(simulation, hop_every),
                begun=ctrl_c.begins,
                **options,
            )
        except ValueError as error:
            if "args" not in options:
                raise
            raise click.UsageError(str(error)) from None  # too few arguments, or of the wrong type
    if suspend_to is not None and isinstance(outcome, (Departing, Waiting, Suspended)):
        data = outcome.snapshot.encode()
        write_file(suspend_to, data)
        click.echo(f"portcall: suspended; its snapshot is in {suspend_to} ({size_text(len(data))})", err=True)
        return
    if not simulation.bound and simulation.agents and _followed_nothing(simulation):
        click.echo("portcall: it asked for the next stop of its itinerary: --via alpha,beta gives it one", err=True)
    tell_results(simulation.agents)
    try:
        _end(outcome, image)
    finally:
        if suspend_to is not None:
            click.echo(f"portcall: it ended before it was suspended: {suspend_to} is not written", err=True)
        elif hop_every is not None:
            least, most = size_text(min(sizes, default=0)), size_text(max(sizes, default=0))
            click.echo(f"portcall: {len(sizes)} hops, snapshots of {least} to {most}", err=True)


def tell_results(agents: Sequence[SimulatedAgent]) -> None:
    """Say what the agents have reported."""
    told = [(*result, at) for agent in agents for result, at in zip(agent.reports, agent.reported_at, strict=True)]
    for key, value, at in told[:MOST_RESULTS]:
        text = plain(escaped(value[:MOST_RESULT_BYTES].decode("utf-8", "backslashreplace")), MOST_RESULT_BYTES)
        click.echo(f"portcall: it reported {plain(key)}: {text}, at {plain(at.station)}", err=True)
    if len(told) > MOST_RESULTS:
        click.echo(f"portcall: and {len(told) - MOST_RESULTS} results more", err=True)


def _followed_nothing(simulation: Simulation) -> bool:
    """Whether the agent asked for its next stop in vain, and went nowhere."""
    return simulation.agents[0].lost and len(simulation.agents[0].visited) == 1


def _leaving(simulation: Simulation, opportunity: int | None) -> Callable[[Stop], bool]:
    """Whether the agent is to be suspended: at its first departure, at Ctrl-C, or at the Nth opportunity."""
    seen = itertools.count(1)

    def leave(stop: Stop) -> bool:
        here = isinstance(stop, (Go, GoAt)) if opportunity is None else next(seen) == opportunity
        return here or simulation.wants_out

    return leave


class CtrlC:
    """A context in which Ctrl-C suspends the agent, as soon as there is one, instead of ending the process.

    The second Ctrl-C interrupts an agent that does not reach a point where it can be suspended.
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._execution: Execution | None = None
        self._before: Any = None

    def __enter__(self) -> CtrlC:
        self._simulation.wants_out = interrupts.release()
        self._before = signal.signal(signal.SIGINT, self._pressed)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def begins(self, execution: Execution) -> None:
        """The agent starts: if Ctrl-C was pressed before, it is suspended at the first opportunity."""
        self._execution = execution
        if self._simulation.wants_out:
            execution.suspend()

    def _pressed(self, number: int, frame: FrameType | None) -> None:
        if self._simulation.wants_out and self._execution is None:
            raise KeyboardInterrupt
        if self._execution is not None:
            if self._simulation.wants_out:
                self._execution.interrupt()
            self._execution.suspend()
        self._simulation.wants_out = True


def _profile(engines: Sequence[Engine]) -> Any:
    """The profile that all these engines can run; the standard one if possible."""
    return "standard" if all("standard" in engine.profiles for engine in engines) else "portable"


def _takes(image: AgentImage) -> bool:
    """Whether the entry has parameters."""
    entry = interface(image.code).exports.get(image.manifest.entry)
    return entry is not None and entry.kind == "func" and bool(entry.params)


def _state(
    image: AgentImage,
    source: Path,
    args: Sequence[str],
    environ: Sequence[str],
    grants: Mapping[str, Any],
    own: WasiLimits,
) -> WasiState:
    """The first state of its virtual WASI: the luggage, if it has any, with arguments and input added."""
    variables = dict(_variable(text) for text in environ)
    try:
        started = started_state(image, granted=bool(grants))
        known = image.luggage if started is None else started.wasi
        state = WasiState.read(known, own) if known else WasiState.launch([source.stem], limits=own)
        state.equip(args, variables, grants=grants)
    except CallFailed as error:
        raise click.ClickException(f"the program cannot begin: {error.reason}") from None
    if sys.stdin is not None:
        # A file travels in the snapshot, so that it can be read elsewhere too; a terminal or pipe is read on demand.
        if stat.S_ISREG(os.fstat(0).st_mode):
            state.stdin.data = sys.stdin.buffer.read(own.stdin_bytes + 1)
            if len(state.stdin.data) > own.stdin_bytes:
                raise click.ClickException(
                    f"the input has more than {own.stdin_bytes >> 20} MiB, and is taken along whole: --input-size MIB"
                    f" allows up to {MAX_INPUT_MIB}; a pipe is read as it comes"
                )
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


def _end(outcome: Outcome, image: AgentImage) -> None:
    """Print the outcome of an agent with this image, and exit accordingly. Raises `AgentFailed`."""
    match outcome:
        case Finished():
            if outcome.values:
                click.echo(" ".join(map(str, outcome.values)))
            sys.exit(outcome.exit_code)
        case Trapped(code, reason):
            raise AgentFailed(f"the agent trapped ({code}): {reason}")
        case Exhausted(what, reason, snapshot):
            raise AgentFailed(f"the agent was stopped ({what}): {reason}{_where(image, snapshot)}")
    raise AgentFailed(f"the agent did not end: {type(outcome).__name__.lower()}")


def _where(image: AgentImage, snapshot: Snapshot | None) -> str:
    """The stack of an agent that was stopped, below a blank line; empty if there is none."""
    if snapshot is None or not snapshot.frames:
        return ""
    return "\n\n" + "\n".join(stack_lines(stack_of(image, snapshot).cut(SHOWN_FRAMES).value()))
