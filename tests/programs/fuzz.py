"""Random programs in Python as agents, against CPython: with hops, for as long as you like.

    python -m tests.programs.fuzz --seconds 60 [--seed N]

MicroPython collects at nearly every allocation of these programs, so a value that its collector does not see is soon
another's. What is printed must be what CPython prints.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import attrs
import click

from agents.ambient import StandaloneHost
from agents.engines import Limits, load
from agents.execution import Execution
from agents.image import AgentImage
from agents.outcomes import Asked, Finished
from agents.sdk import micropython
from agents.sdk.sources import load_image, user_cache
from agents.waits import Arrived, Go

from .pythons import Writer


@attrs.define
class Printing(StandaloneHost):
    """A place that keeps what is printed."""

    printed: bytearray = attrs.field(factory=bytearray)

    def output(self, fd: int, data: bytes) -> None:
        self.printed += data


def interpreter() -> AgentImage:
    """The image that all agents in Python share, with some script."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "agent.py"
        script.write_text("")
        return load_image(script, cache=user_cache())


def in_cpython(program: str) -> str:
    """What a program prints here."""
    out = io.StringIO()
    # Here `import portcall` finds nothing that an agent could use, and the program goes without.
    with redirect_stdout(out), patch.dict(sys.modules, {"portcall": None}):
        exec(compile(program, "agent.py", "exec"), {"__name__": "__main__"})
    return out.getvalue()


SMALL = Limits(memory=3 << 20)  # bytes: MicroPython's collector takes the longer, the larger the heap


def as_agent(image: AgentImage, program: str, stretch: int = 0, limits: Limits | None = None) -> str:
    """What it prints as an agent, and how it ended if not well.

    Where it goes elsewhere it moves, and after each such move takes `stretch` opportunities to move again.
    """
    place = Printing(lambda: 10**18, lambda: 10**9, lambda size: bytes(size))
    loaded = image.with_luggage(micropython.luggage("agent.py", program.encode()))
    left, event = 0, None
    with Execution(loaded, engine=load("wasmtime"), ambient=place, limits=limits) as life:
        while True:
            stop = life.advance(event)
            event = None
            if isinstance(stop, Go):
                left, event = stretch, Arrived()
            elif not isinstance(stop, Asked):
                ended = "" if isinstance(stop, Finished) and not stop.exit_code else f"ended with {stop}"
                return place.printed.decode() + ended
            left -= 1
            life.always = left > 0
            life.hop()


@click.command()
@click.option("--seconds", default=30.0, help="How long to go on.")
@click.option("--seed", default=0, help="Where to begin.")
def main(seconds: float, seed: int) -> None:
    """Fuzz agents in Python."""
    end = time.monotonic() + seconds
    image = interpreter()
    count = 0
    while time.monotonic() < end:
        program = Writer(seed).program()
        expected = in_cpython(program)
        for stretch in (0, 150):
            found = as_agent(image, program, stretch, SMALL)
            if found != expected:
                raise SystemExit(f"seed {seed}, with stretches of {stretch} hops: {found!r} is not {expected!r}")
        count, seed = count + 1, seed + 1
    click.echo(f"{count} programs in Python, each with some hops and with stretches of 150, 0 differ from CPython")


if __name__ == "__main__":
    main()
