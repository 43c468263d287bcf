"""The commands that speak with agents: send them messages, and ask them."""

from __future__ import annotations

import math

import click

from docking.cli import completion
from docking.cli.asking import ANSWER_TIMEOUT_S, JSON_OPTION, STATION_OPTION, one, whoever_knows
from docking.cli.output import escaped, plain, print_json, print_table
from docking.errors import ControlError


@click.command("send")
@click.argument("agent", shell_complete=completion.agents)
@click.argument("message")
@STATION_OPTION
@JSON_OPTION
def send_command(agent: str, message: str, station: str | None, as_json: bool) -> None:
    """Send an agent a message."""
    with whoever_knows(station, agent) as line:
        answer = line.ask("send", agent=agent, body=message.encode(errors="surrogateescape"))
        if answer["done"] == "unknown":
            standing = line.ask("where", agent=agent)["standing"]
            raise ControlError(f"nobody takes the message: the agent is {standing}, as far as is known here")
    if as_json:
        print_json(answer)
    else:
        click.echo(answer["done"])


@click.command("ask")
@click.argument("agent", shell_complete=completion.agents)
@click.argument("message")
@click.option("--timeout", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to wait.")
@click.option("--topic", default="", help="What it is about: an agent may select by it.")
@STATION_OPTION
@JSON_OPTION
def ask_command(agent: str, message: str, timeout: float, topic: str, station: str | None, as_json: bool) -> None:
    """Ask an agent, and print its answer.

    It may move before it answers. An answer that comes after the timeout is dropped.
    """
    with whoever_knows(station, agent) as line:
        line.patient(timeout + ANSWER_TIMEOUT_S)
        body = message.encode(errors="surrogateescape")
        found = line.ask("ask", agent=agent, body=body, topic=topic, most=math.ceil(timeout * 1000))
    if "late" in found:
        raise ControlError(f"no answer within {timeout:g} s: {found['late']}, as far as is known here")
    text = found["answer"].decode("utf-8", "backslashreplace")
    if as_json:
        print_json({"agent": found["agent"], "answer": text, "hex": found["answer"].hex()})
    else:
        click.echo(escaped(text))


@click.command("publish")
@click.argument("topic")
@click.argument("message")
@click.option("--here", is_flag=True, help="Only to the agents at this station.")
@STATION_OPTION
@JSON_OPTION
def publish_command(topic: str, message: str, here: bool, station: str | None, as_json: bool) -> None:
    """Send a message to all agents that subscribe to a topic."""
    with one(station) as line:
        body = message.encode(errors="surrogateescape")
        found = line.ask("publish", topic=topic, body=body, everywhere=not here)
    if as_json:
        print_json(found)
    else:
        said = "" if here else ", and to the other stations"
        click.echo(f"given to {found['here']} agents here{said}")


@click.command("find")
@click.argument("service", default="")
@click.option("--label", default="", help="Only agents that their owners call so.")
@click.option("--everywhere", is_flag=True, help="At the other stations that are present too.")
@STATION_OPTION
@JSON_OPTION
def find_command(service: str, label: str, everywhere: bool, station: str | None, as_json: bool) -> None:
    """List the agents that are here, or that offer a service.

    Only agents whose permit covers host:meet are shown.
    """
    with one(station) as line:
        rows = list(line.items("find_agents", service=service, label=label, everywhere=everywhere))
    if as_json:
        print_json(rows)
    elif rows:
        shown = [[r["agent"][:12], plain(r["label"]), plain(r["station"]), plain(r["attributes"])] for r in rows]
        print_table(["agent", "label", "station", "attributes"], shown)
    else:
        click.echo(f"no agent offers {service}" if service else "no agent is here")
