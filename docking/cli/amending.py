"""The commands with which an owner changes what an agent may do: top-up and renew.

What they sign follows the agent. Invariant: the owner's key stays in this process.
"""

from __future__ import annotations

import time
from typing import Any

import click

from docking.cli import completion
from docking.cli.asking import JSON_OPTION, STATION_OPTION, whoever_knows
from docking.cli.choosing import DurationType
from docking.cli.output import print_json
from docking.errors import ControlError

OWNER_OPTION = click.option(
    "--owner", metavar="NAME", shell_complete=completion.keys, help="The key that signs; else the agent's owner's."
)


def _amend(agent: str, station: str | None, owner: str | None, change: Any) -> dict[str, Any]:
    """Sign a change of an agent, and send it after it. Raises `ControlError`, `KeyFileError`, `CredentialError`."""
    import secrets

    from agents.credentials.keys import bytes_of
    from docking.cli.credentials import ask_passphrase, existing
    from docking.folders import key_folder
    from docking.launching import amendment
    from docking.trust.identity import list_keys, load_key

    with whoever_knows(station, agent) as line:
        known = line.ask("agent", agent=agent)
        if not known["passport"]:
            raise ControlError(f"the agent {known['agent'][:12]} is kept, and cannot be taken up: {known['text']}")
        if owner is not None:
            path = existing(owner)
        else:
            mine = [path for path, _, public, _ in list_keys(key_folder()) if public.text == known["owner"]]
            if not mine:
                raise ControlError(f"no key of yours is the agent's owner, {known['owner']}: say which signs, --owner")
            path = mine[0]
        ids = bytes_of(known["agent"]), bytes_of(known["passport"])
        now = time.time_ns() // 1_000_000
        signed = amendment(*ids, change, load_key(path, ask_passphrase).key, now, secrets.token_bytes)
        answer: dict[str, Any] = line.ask("amend", amendment=signed)
        return {"label": known["label"], **answer}


def _show(what: str, answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    done = "done" if answer["done"] == "obeyed" else "sent after it"
    click.echo(f"{what} {answer['agent'][:12]}: {done}")


@click.command("top-up")
@click.argument("agent", shell_complete=completion.agents)
@click.option("--cpu", metavar="TIME", help="More processor time: 500ms, 30s, 2min.")
@click.option("--memory", metavar="SIZE", help="More memory: 16MiB.")
@click.option("--carried", metavar="SIZE", help="More to be carried from station to station: 1GiB.")
@click.option("--messages", type=click.IntRange(1, 2**53), metavar="N", help="More messages and calls.")
@click.option("--hops", type=click.IntRange(1, 2**32 - 1), metavar="N", help="More moves.")
@OWNER_OPTION
@STATION_OPTION
@JSON_OPTION
def top_up(
    agent: str,
    cpu: str | None,
    memory: str | None,
    carried: str | None,
    messages: int | None,
    hops: int | None,
    owner: str | None,
    station: str | None,
    as_json: bool,
) -> None:
    """Give an agent more than its permit.

    Also one that stopped because its budget was used up: it goes on. What its owner signs follows it, and counts at
    every station that it comes to.
    """
    from agents.credentials.amendments import TopUp
    from agents.credentials.permit import Budget
    from docking.trust.policy import SIZES, TIMES, parse_amount

    amounts = {
        name: parse_amount(text, units, f"--{name}")
        for name, text, units in (("cpu", cpu, TIMES), ("memory", memory, SIZES), ("carried", carried, SIZES))
        if text is not None
    }
    change = TopUp(Budget(**amounts, messages=messages or 0), hops or 0)
    if change == TopUp():
        raise click.UsageError("say of what: --cpu, --memory, --carried, --messages or --hops")
    _show("top-up", _amend(agent, station, owner, change), as_json)


@click.command("renew")
@click.argument("agent", shell_complete=completion.agents)
@click.option("--hours", type=click.IntRange(1, 24 * 366), metavar="N", help="For so many hours from now.")
@click.option("--for", "seconds", type=DurationType(), metavar="TIME", help="For 90s, 10m, 2h, 3d from now.")
@OWNER_OPTION
@STATION_OPTION
@JSON_OPTION
def renew(
    agent: str, hours: int | None, seconds: float | None, owner: str | None, station: str | None, as_json: bool
) -> None:
    """Give an agent more time.

    Its passport is valid for so long from now, if it would end before; and so is its lease.
    """
    from agents.credentials.amendments import Lease

    if (hours is None) == (seconds is None):
        raise click.UsageError("say for how long: --hours N or --for TIME")
    left = 3600 * hours if hours is not None else seconds or 0.0
    change = Lease(round((time.time() + left) * 1000))
    _show("renew", _amend(agent, station, owner, change), as_json)
