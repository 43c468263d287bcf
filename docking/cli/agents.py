"""The commands about agents: show where they are and what they did, and send them orders and messages."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from docking.cli import completion
from docking.cli.asking import JSON_OPTION, STATION_OPTION, every, when, whoever_knows
from docking.cli.choosing import DurationType, chosen, known_agents
from docking.cli.output import escaped, plain, print_fields, print_json, print_table, size_text
from docking.cli.stacks import stack_lines
from docking.cli.ways import shown_way
from docking.cli.writing import write_file
from docking.errors import ControlError


@click.command("agents")
@click.option("--stack", "stack_of", metavar="AGENT", help="Show what this one is doing: functions, lines, variables.")
@click.option("--running", is_flag=True, help="Only those whose journey is not over.")
@click.option("--mine", is_flag=True, help="Only those whose owner is a key of this user.")
@click.option(
    "--since", type=DurationType(), metavar="TIME", help="Only those of which something is new: 90s, 10m, 2h, 3d."
)
@STATION_OPTION
@JSON_OPTION
def agents(
    stack_of: str | None, running: bool, mine: bool, since: float | None, station: str | None, as_json: bool
) -> None:
    """List the agents that are here, or were launched here.

    With --stack, show where one of them is in its program. It need not wait: one that runs is suspended for a moment.
    """
    if stack_of is not None:
        _show_stack(stack_of, station, as_json)
        return
    rows = chosen(known_agents(station), running=running, mine=mine, since=since)
    doubts = [{"at": name, **row} for name, row in every(station, "doubts") if row["doubt"]]
    if as_json:
        print_json({"agents": rows, "in_doubt": doubts})
        return
    if not rows and not doubts:
        click.echo("no agents; portcall launch SOURCE --via A,B begins one")
    if rows:
        print_table(
            ["agent", "label", "station", "standing", "hop", "since", ""],
            [
                [r["agent"][:12], r["label"], r["station"], r["standing"], r["hop"], when(r["since"]), r["text"]]
                for r in rows
            ],
        )
    for row in doubts:
        click.echo(f"\nIN DOUBT: {doubt(row)}")


def _show_stack(agent: str, station: str | None, as_json: bool) -> None:
    with whoever_knows(station, agent) as line:
        found = line.ask("stack", agent=agent)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found['agent'][:12]} at {plain(found['station'])}: {found['standing']}\n")
    click.echo("\n".join(stack_lines(found["stack"])))


def doubt(row: dict[str, Any]) -> str:
    """A handoff that waits for an operator's decision, and the possible decisions."""
    agent, peer, handoff = row["agent"][:12], plain(row["peer"]), row["handoff"][:16]
    if row["side"] == "source":
        return (
            f"the agent {agent} was handed over by {row['at']} to {peer}, which knows nothing of it: it seems to have"
            f" lost its disk. If it has: portcall decide reclaim {handoff} lets the agent go on at {row['at']}, from"
            " where it was stored last"
        )
    return (
        f"the agent {agent} from {peer} is held at {row['at']}, and does not run: its source does not answer. If it"
        f" never will: portcall decide adopt {handoff} (or discard, if it lives at {peer})"
    )


@click.command("logs")
@click.argument("agent", shell_complete=completion.agents)
@click.option("-f", "--follow", is_flag=True, help="Go on, until the agent has left or ended here.")
@STATION_OPTION
@JSON_OPTION
def logs(agent: str, follow: bool, station: str | None, as_json: bool) -> None:
    """Print what an agent has printed and logged, at the stations of this user."""
    with whoever_knows(station, agent) as line:
        ident = line.ask("find", agent=agent)["agent"]
    if not follow:
        rows = []
        for name, row in _logs_everywhere(station, ident):
            rows.append({"station": name, **row})
        rows.sort(key=lambda row: row["time"])
        if as_json:
            print_json(rows)
        for row in [] if as_json else rows:
            click.echo(f"{when(row['time'])}  {row['station']:<10} {plain(row['text'], 2000)}")
        return
    _follow(ident, station, as_json)


def _logs_everywhere(station: str | None, agent: str) -> list[tuple[str, Any]]:
    from docking.control.client import connections

    found, known, problem = [], False, None
    for line in connections(station):
        with line:
            try:
                found += [(line.place.name, item) for item in line.items("logs", agent=agent)]
                known = True  # even if there are no lines
            except ControlError as error:
                problem = error
    if not known and problem is not None:
        raise ControlError(f"{problem}; portcall agents lists those that are known")
    return found


def _follow(ident: str, station: str | None, as_json: bool) -> None:
    """Print lines of all stations of this user as they arrive, until the journey is over."""
    import queue
    import threading

    from docking.control.client import connections

    told: queue.Queue[tuple[str, dict[str, Any] | None]] = queue.Queue()

    def listen(line: Any) -> None:
        try:
            with line:
                line.patient()
                for event in line.items("events"):
                    told.put((line.place.name, event))
        except ControlError:
            told.put((line.place.name, None))

    listening = connections(station)
    for each in listening:
        threading.Thread(target=listen, args=(each,), daemon=True).start()
    left = silent = len(listening)
    early = []
    while silent:  # until each station has subscribed us: then no event is missed
        name, event = told.get()
        early.append((name, event))
        silent -= event is None or event["kind"] == "subscribed"
    over = _is_over(station, ident)  # if not, its last event is still to come
    for each_told in early:
        told.put(each_told)
    shown = set()
    for name, row in sorted(_known_lines(station, ident), key=lambda item: int(item[1]["time"])):
        shown.add((name, row["time"], row["text"]))
        _print_event(name, {"kind": "log", "place": name, **row}, as_json)
    while left and not over:
        name, event = told.get()
        if event is None:
            left -= 1
            continue
        if event.get("agent") != ident or (name, event["time"], event["text"]) in shown:
            continue
        _print_event(name, event, as_json)
        if event["kind"] in ("home", "stopped", "disposed"):
            return


def _is_over(station: str | None, agent: str) -> bool:
    """Whether the journey is over, also for its home, if that is here: it hears of the end a moment later."""
    from docking.control.client import connections

    standings = []
    for line in connections(station):
        with line, suppress(ControlError):  # a station that has forgotten it raises
            standings.append(line.ask("where", agent=agent)["standing"])
    return not {"finished", "stopped", "disposed"}.isdisjoint(standings) and "travelling" not in standings


def _known_lines(station: str | None, agent: str) -> list[tuple[str, Any]]:
    try:
        return _logs_everywhere(station, agent)
    except ControlError:
        return []


_WORDS = {
    "launched": "begins here",
    "leaving": "wants to go to {place}",
    "moved": "was moved to {place}: {text}",
    "left": "has left for {place}",
    "arrived": "has arrived from {place}",
    "refused": "was refused by {place}: {text}",
    "serving": "waits for requests of clients",
    "call": "called {place} {text}",
    "finished": "has ended with exit code {text}",
    "stopped": "was stopped: {text}",
    "disposed": "was disposed of",
    "told": "is at {place} {text}",
    "home": "is over; its trail is home from {place}",
    "cloned": "was cloned: {text}",
}


def _print_event(name: str, event: dict[str, Any], as_json: bool) -> None:
    if as_json:  # one per line: this is a stream
        click.echo(json.dumps({"station": name, **event}, ensure_ascii=False))
    elif event["kind"] == "log":
        click.echo(f"{when(event['time'])}  {name:<10} {plain(event['text'], 2000)}")
    elif event["kind"] in _WORDS:
        words = _WORDS[event["kind"]].format(place=plain(event["place"]), text=plain(event["text"]))
        click.echo(f"{when(event['time'])}  {name:<10} -- {words}")


def _capsule(station: str | None, agent: str) -> dict[str, Any]:
    with whoever_knows(station, agent) as line:
        found: dict[str, Any] = line.ask("capsule", agent=agent)
        return found


@click.command("trail")
@click.argument("agent", shell_complete=completion.agents)
@click.option("--verify", is_flag=True, help="Say what was checked; the exit code is 1 if anything fails.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it to a file as well.")
@STATION_OPTION
@JSON_OPTION
def trail(agent: str, verify: bool, output: Path | None, station: str | None, as_json: bool) -> None:
    """Show where an agent has been, as the stations signed it."""
    from agents import audit as auditing
    from agents.capsule import Capsule
    from docking.control.trails import upgrades_of, visits_of

    found = _capsule(station, agent)
    if output is not None:
        write_file(output, found["capsule"])
    audit = auditing.audit(Capsule.decode(found["capsule"]))
    names = found["names"]
    visits = visits_of(audit, names)
    upgrades = upgrades_of(audit, names)
    holds = audit.code is None
    text, way = ("", {}) if audit.passport is None else shown_way(audit.passport.itinerary, names)
    if as_json:
        values = {"agent": found["agent"], "holds": holds, "code": audit.code, "itinerary": text, "way": way}
        values |= {"visits": visits, "upgrades": upgrades}
        print_json(values | {"checks": dict(audit.checks), "ended": audit.ended})
    else:
        print_table(
            ["visit", "station", "arrived", "stayed", "computed", "carried", "results"],
            [
                [
                    v["visit"],
                    v["station"],
                    when(int(str(v["arrived"]))),
                    f"{(int(str(v['departed'])) - int(str(v['arrived']))) / 1000:.3f} s",
                    f"{int(str(v['cpu_us'])) / 1000:.1f} ms",
                    size_text(int(str(v["carried"]))) if v["next"] else "-",
                    v["results"],
                ]
                for v in visits
            ],
        )
        click.echo(f"\nits way: {plain(text, 2000)}")
        for each in upgrades:
            click.echo(f"new code in visit {each['visit']}, at {each['station']}: image {each['image'][:12]}")
        if verify or not holds:
            words = {True: "holds", False: "FAILS", None: "not reached"}
            click.echo()
            print_fields((name, words[verdict]) for name, verdict in audit.checks)
            if not holds:
                click.echo(f"\n{audit.code}: {plain(str(audit.reason), 600)}")
    if not holds:
        raise SystemExit(1)


@click.command("results")
@click.argument("agent", shell_complete=completion.agents)
@click.option("--owner", metavar="NAME", shell_complete=completion.keys, help="The key that opens them.")
@STATION_OPTION
@JSON_OPTION
def results(agent: str, owner: str | None, station: str | None, as_json: bool) -> None:
    """Show what an agent reported, verified, and opened with its owner's key."""
    from agents import audit as auditing
    from agents.capsule import Capsule
    from docking.cli.owners import owner_key

    found = _capsule(station, agent)
    capsule = Capsule.decode(found["capsule"])
    audit = auditing.audit(capsule)
    if audit.code is not None:
        raise click.ClickException(f"the results are not shown, since they do not hold: {audit.code}: {audit.reason}")
    key = owner_key(owner).key
    if audit.passport is not None and audit.passport.results != key.public.box():
        raise click.ClickException(f"the results are sealed to the owner {audit.passport.owner}: name its key, --owner")
    names = found["names"]
    rows = [
        {
            "visit": report.entry.index,
            "station": names.get(report.entry.station.text, report.entry.station.id),
            "time": report.entry.time,
            "key": report.key,
            "value": report.value.decode("utf-8", "backslashreplace"),
            "hex": report.value.hex(),  # for programs: `value` is ambiguous for bytes that are not text
        }
        for report in auditing.reports(capsule, key.box())
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(
            ["visit", "station", "key", "value"],
            [[r["visit"], r["station"], r["key"], escaped(r["value"])] for r in rows],
        )
    else:
        click.echo("it has reported nothing yet")


@click.command("where")
@click.argument("agent", shell_complete=completion.agents)
@STATION_OPTION
@JSON_OPTION
def where(agent: str, station: str | None, as_json: bool) -> None:
    """Say where an agent is, as far as is known here."""
    with whoever_knows(station, agent) as line:
        found = line.ask("where", agent=agent)
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['station']}  ({found['standing']})")


@click.command("decide")
@click.argument("what", type=click.Choice(["adopt", "discard", "reclaim"]))
@click.argument("handoff", shell_complete=completion.doubts)
@STATION_OPTION
def decide(what: str, handoff: str, station: str | None) -> None:
    """Decide about an agent whose handoff is in doubt, because the other station is gone for good.

    adopt: it shall live here. discard: it shall not. reclaim: it was handed over, and that station has lost it.
    """
    from docking.control.client import connections

    for line in connections(station):
        with line:
            for row in line.items("doubts"):
                # Both stations of a handoff may be on this machine: each has its own decisions.
                mine = row["side"] == ("source" if what == "reclaim" else "destination")
                if mine and row["handoff"].startswith(handoff) and len(handoff) >= 8:
                    line.ask("decide", handoff=row["handoff"], what=what)
                    click.echo(f"{what}: done at {line.place.name}")
                    return
    raise ControlError(f"no handoff {handoff!r} waits for a decision; portcall agents shows those in doubt")
