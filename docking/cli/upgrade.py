"""`portcall upgrade`: new code for an agent that lives."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from docking.cli import completion
from docking.cli.asking import JSON_OPTION, STATION_OPTION, whoever_knows
from docking.cli.output import plain, print_json
from docking.errors import ControlError
from docking.residents.options import UPGRADED_S

if TYPE_CHECKING:
    from agents.image import AgentImage

SCRIPTS = (
    "the program of this agent is a script, which its interpreter has read: its functions are data in the memory of "
    "the interpreter, and no new module reaches them. Launch the new script as an agent of its own, and let the old "
    "one send it what it knows (portcall.send)"
)


@click.command("upgrade")
@click.argument("agent", shell_complete=completion.agents)
@click.argument("new", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--check", is_flag=True, help="Only say whether it would go on, and where.")
@click.option("--owner", metavar="NAME", shell_complete=completion.keys, help="The key that signed the agent.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    metavar="S",
    help="Seconds in which the agent has to stand still (10).",
)
@STATION_OPTION
@JSON_OPTION
def upgrade(
    agent: str, new: Path, check: bool, owner: str | None, timeout: float, station: str | None, as_json: bool
) -> None:
    """Give an agent new code, with which it goes on where it is.

    NEW is a module, a source or an image file, as for portcall launch. The functions on the agent's stack have to be
    the same in it, and data have to lie where they lay: what is in the way is said by name, and the agent goes on as it
    was.
    """
    from agents import canonical
    from docking.cli.owners import owner_key
    from docking.cli.sources import image_of
    from docking.launching import signed_upgrade

    image = image_of(new)
    encoded = image.encode()
    with whoever_knows(station, agent) as line:
        line.patient(timeout + UPGRADED_S)
        facts = line.ask("upgradable", agent=agent)
        _look(image, facts)
        statement = b""
        if not check:
            key, now = owner_key(owner).key, time.time_ns() // 1_000_000
            known = facts["agent"], facts["passport"], facts["image"], facts["visit"]
            statement = signed_upgrade(*known, canonical.digest(encoded), key, now, secrets.token_bytes(16))
        most = max(1, round(1000 * timeout))
        told: dict[str, Any] = line.ask("upgrade", agent=facts["agent"], image=encoded, statement=statement, most=most)
    if as_json:
        print_json(told)
    else:
        _show(told)
    if told["done"] == "refused":
        raise SystemExit(1)


def _look(image: AgentImage, facts: dict[str, Any]) -> None:
    """Raises `ControlError` for what needs no station to see."""

    if image.digest != facts["image"]:
        return
    if image.manifest.interpreted:
        raise ControlError(SCRIPTS)
    raise ControlError("this is the code that the agent has")


def _show(told: dict[str, Any]) -> None:
    name = told["agent"][:12]
    match told["done"]:
        case "upgraded":
            click.echo(f"upgrade {name}: done, it goes on with the image {told['new'][:12]}")
        case "sent":
            click.echo(f"upgrade {name}: sent after it")
        case "possible":
            click.echo(f"upgrade {name}: possible")
        case _:
            click.echo(f"upgrade {name}: not possible")
    if told["done"] == "sent":
        return
    if not told["begun"]:
        click.echo("  it has not begun")
    elif told["weak"]:
        click.echo("  it goes on at an export, without a stack")
    for each in told["frames"]:
        times = f", {each['times']} times" if each["times"] > 1 else ""
        shown = f"site {each['site']} -> {each['to']}" if not each["why"] else plain(each["why"], 600)
        click.echo(f"  {plain(each['function'], 200)}{times}: {shown}")
    for problem in told["problems"]:
        click.echo(f"  {plain(problem, 900)}")
