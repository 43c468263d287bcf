"""What the commands and the console ask of a station: each request by its name, and its answer.

A request is a method `do_NAME` of `Requests`: its arguments are the parameters, its items and its end are plain values,
that the control channel and the console pass on. Not here: who may ask, and how questions travel (`server`,
`docking.console`). Invariant: a request touches only what `Controlled` has.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, frozen

from agents.credentials.keys import PublicKey, bytes_of, text_of
from agents.errors import PortcallError
from docking.aio.threads import in_thread
from docking.aio.timeouts import within
from docking.courier import Courier, Decision
from docking.errors import AgentEnded, ControlError
from docking.handle import Agent, AgentAccess
from docking.handoff.messages import Side
from docking.launching import Launch
from docking.letters.journeys import OVER
from docking.letters.orders import OrderKind, OrderOutcome
from docking.peers.introductions import Introductions
from docking.recordings.archive import Archive
from docking.residents.launches import Launches
from docking.residents.lives import Lives
from docking.residents.options import MoveOptions
from docking.residents.portraits import portrait
from docking.residents.residents import Residents
from docking.residents.revoking import Revoking
from docking.residents.services import Services
from docking.store.backup import back_up
from docking.tracing import TraceContext
from docking.trust.admission_controller import Admitted
from docking.trust.images import Images

Answer = AsyncIterator[tuple[str, object]]
# Seconds to wait for the outcome of an order to clone an agent that is here.
CLONED_WITHIN_S = 5.0


@frozen(eq=False, repr=False)
class Controlled:
    """The parts of a station that commands may use.

    draining(yes): whether agents are let in no more
    loosened(): what its policy leaves unchecked; url(): where peers reach it, or empty
    unmet: URLs of peers that have not answered yet, and why; metrics(): in the Prometheus text format
    sessions(): the agents on their way here that run elsewhere still
    archive: what was kept of agents that passed
    home_addresses(): its addresses and docks, for passports
    lives: how often it has started, and whether it is held
    reload(): what reads its policy again, and says what it admits then; None where nobody has said how
    """

    home: Path
    key: PublicKey
    here: Residents
    agents: AgentAccess
    launches: Launches
    services: Services
    images: Images
    courier: Courier[Admitted]
    introductions: Introductions
    draining: Callable[[bool], None]
    loosened: Callable[[], Sequence[str]]
    unmet: Mapping[str, str]
    url: Callable[[], str]
    metrics: Callable[[], str]
    sessions: Callable[[], list[dict[str, object]]]
    archive: Archive | None
    home_addresses: Callable[[], Sequence[str]]
    lives: Lives
    revoking: Revoking
    reload: Callable[[], Callable[[], Awaitable[list[str]]] | None]


@define(eq=False, repr=False)
class Requests:
    """The requests to one station. Each yields ("item", value) any number of times, then ("end", value)."""

    _of: Controlled

    def answer(self, what: str, /, **arguments: Any) -> Answer:
        """The answer to a request. Raises `ControlError` for one that is unknown, TypeError for other arguments."""
        handler: Callable[..., Answer] | None = getattr(self, f"do_{what}", None)
        if handler is None:
            raise ControlError(f"the station does not know {what!r}: is it of another version?")
        return handler(**arguments)

    async def do_status(self) -> Answer:
        of, load = self._of, self._of.here.load()
        yield (
            "end",
            {
                "name": of.here.name,
                "key": of.key.text,
                "url": of.url(),
                "services": list(of.services.names),
                "agents": load.residents,
                "busy": load.busy,
                "memory": load.memory_bytes,
                "memory_limit": of.here.memory(),
                "threads": of.here.workers.threads,
                "queue": len(of.here.workers.queue),
                "volatile": of.here.store.volatile,
                "sessions": of.sessions(),
                "loosened": list(of.loosened()),
            },
        )

    async def do_stations(self, wait: int = 0) -> Answer:
        """`wait`: milliseconds to wait for more stations to appear."""
        await asyncio.sleep(wait / 1000)
        peers = self._of.here.peers
        peers.refresh()
        for peer in peers.all():
            yield (
                "item",
                {
                    "name": peer.name,
                    "key": peer.key.text,
                    "address": peer.addresses[0] if peer.addresses else "",
                    "services": list(peer.services),
                    "runs": peer.runs,
                    "seen": peer.seen,
                    "proven": peer.proven,
                    "present": peer.present or peer.configured,
                },
            )
        for peer in peers.missed():
            why = f"the station {peer.name} does not answer now. It is tried again"
            where = f"--peer {peer.addresses[0]}: " if peer.addresses else ""
            yield "item", {"name": peer.name, "key": peer.key.text, "refused": where + why}
        for name, error in peers.refused.items():
            yield "item", {"name": name, "key": error.offered, "refused": str(error)}
        said = {str(error) for error in peers.refused.values()}
        for url, why in self._of.unmet.items():
            if why not in said:
                yield "item", {"name": url, "key": "", "refused": f"--peer {url}: {why}. It is tried again"}

    async def do_meet(self, url: str) -> Answer:
        peer = await self._of.introductions.call_on(url)
        yield "end", {"name": peer.name, "key": peer.key.text}

    async def do_agents(self) -> Answer:
        async for row in self._of.agents.queries.all_rows():
            yield "item", row

    async def do_agent(self, agent: str) -> Answer:
        """What is known here of one agent: its row as of `agents`, and more."""
        found = self._of.agents.find(agent)
        yield "end", portrait(self._of.here, self._of.agents.queries, found.key)

    async def do_prepare(self, via: list[str], image: bytes = b"") -> Answer:
        """Keys for the names of an itinerary, and the facts about this home that a passport needs.

        Items: notices about these names, for people.
        """
        keys = []
        for text in via:
            key = await self._of.introductions.find(text, (), 5.0)
            keys.append(key.raw)
            if text in self._of.here.peers.refused:
                yield "item", str(self._of.here.peers.refused[text])
        have = image in self._of.images if image else False
        addresses = self._of.home_addresses()
        yield "end", {"keys": keys, "home": self._of.key.raw, "addresses": list(addresses)[:8], "image": have}

    async def do_launch(
        self, passport: bytes, opening: bytes, state: bytes, image: bytes, digest: bytes, trace: bytes = b""
    ) -> Answer:
        """`trace`: the context of the trace to which the journey is to belong."""
        if not image:
            found = self._of.images.get(digest)
            if found is None:
                raise ControlError("the station has not this image any more: try again")
            image = found[1]
        berth = await self._of.launches.begin(Launch(passport, opening, image, state), TraceContext.decode(trace))
        yield "end", {"agent": text_of(berth.agent)}

    async def do_find(self, agent: str) -> Answer:
        yield "end", {"agent": self._of.agents.find(agent).id}

    async def do_where(self, agent: str) -> Answer:
        found = self._of.agents.find(agent)
        place, standing = found.where(), found.standing
        yield "end", {"agent": found.id, "station": place, "standing": standing, "here": place == self._of.here.name}

    async def do_capsule(self, agent: str) -> Answer:
        """The trail and results that are here, and names for the stations in them."""
        yield "end", self._capsule(self._of.agents.find(agent))

    async def do_wait(self, agent: str, most: int) -> Answer:
        """Wait for the end of a journey, for `most` milliseconds; 0: without a bound.

        The end is that of `capsule` with the exit `code`; or why it has none, `ended` or `late`.
        """
        found = self._of.agents.find(agent)
        try:
            code = await found.ended(most / 1000 if most else None)
        except AgentEnded as error:
            yield "end", {"ended": str(error)}
        except asyncio.TimeoutError:
            yield "end", {"late": f"the agent is {found.standing}"}
        else:
            yield "end", {"code": code, **self._capsule(found)}

    def _capsule(self, found: Agent) -> dict[str, object]:
        capsule = found.capsule()
        names = {peer.key.text: peer.name for peer in self._of.here.peers.all()}
        names[self._of.key.text] = self._of.here.name
        return {"agent": found.id, "label": found.label, "capsule": capsule.encode(), "names": names}

    async def do_order(self, agent: str, what: str, for_ms: int = 0) -> Answer:
        """Give an agent an order. `for_ms`: how long a sleep lasts, in milliseconds; 0: until it is woken."""
        found = self._of.agents.find(agent)
        try:
            kind = OrderKind(what)
        except ValueError:
            raise ControlError("no such order") from None
        if kind is OrderKind.UPGRADE:
            raise ControlError("new code comes with its owner's statement: portcall upgrade")
        answer = {"agent": found.id}
        mark = f"{what}: "
        events = self._of.here.events.subscribe(
            lambda event: (
                event.agent == found.id
                and (event.kind == "cloned" or (event.kind == "refused" and event.text.startswith(mark)))
            )
        )
        try:
            until = self._of.here.clocks.now() + for_ms if for_ms else 0
            outcome = self._of.agents.commands.order(found.key, kind, until)
            answer["done"] = outcome.value
            if kind is OrderKind.CLONE and outcome is OrderOutcome.OBEYED:
                # The clone is made when the agent stands still, which may take long while it waits for a service.
                with contextlib.suppress(asyncio.TimeoutError):
                    event = await within(CLONED_WITHIN_S, anext(events))
                    if event.kind == "refused":
                        raise ControlError(f"the agent was not cloned: {event.text.removeprefix(mark)}")
                    answer["clone"] = event.text
        finally:
            self._of.here.events.unsubscribe(events)
        yield "end", answer

    async def do_amend(self, amendment: bytes) -> Answer:
        """Bring an amendment, signed by an agent's owner, to the agent that it names."""
        amending = self._of.agents.amending
        outcome = await amending.amend(amendment)
        yield "end", {"agent": text_of(amending.agent_of(amendment)), "done": outcome.value}

    async def do_revoke(self, statement: bytes) -> Answer:
        """Take a revocation, and pass it on."""
        yield "end", {"new": await self._of.revoking.revoke(statement)}

    async def do_revocations(self) -> Answer:
        """The revocations that are stored here. Items: each key, who revoked it and when, and whether that counts."""
        for signed in self._of.revoking.all:
            key = signed.body.key
            yield (
                "item",
                {
                    "key": key.text,
                    "label": self._of.here.peers.label(key),
                    "by": signed.signer.text,
                    "time": signed.body.time,
                    "counts": self._of.revoking.counts(signed),
                },
            )

    async def do_upgradable(self, agent: str) -> Answer:
        """What its owner needs to sign an upgrade."""
        found = self._of.agents.find(agent)
        upgrades = self._of.agents.upgrades
        ident, passport, image, visit = upgrades.image_of(found.key)
        here = upgrades.is_here(ident)
        yield "end", {"agent": ident, "passport": passport, "image": image, "visit": visit, "here": here}

    async def do_upgrade(self, agent: bytes, image: bytes, statement: bytes = b"", most: int = 10_000) -> Answer:
        """Give an agent new code by its owner's `statement`; without one, say what would be.

        The end: an `UpgradeReport`. most: milliseconds in which it has to stand still
        """
        upgrades = self._of.agents.upgrades
        if upgrades.is_here(agent):
            report = await upgrades.upgrade(agent, image, statement, min(most, 600_000) / 1000)
        elif not statement:
            raise ControlError("the agent is at another station: only that one can say whether it can go on with this")
        else:
            report = await upgrades.send(agent, image, statement)
        yield "end", report.value()

    async def do_purge(self, agents: list[str], before: int = 0) -> Answer:
        """Forget journeys that are over, with their trails and results: these, or else all. Items: each.

        before: only those that ended before this time, milliseconds since 1970; 0: whenever they did
        """
        journeys = self._of.here.journeys
        wanted = {bytes_of(each) for each in agents}
        changes = []
        for journey in journeys.all():
            mine = journey.agent in wanted if wanted else not before or journey.changed < before
            if mine and journey.standing in OVER and journey.agent not in self._of.here.berths:
                changes.append(journeys.purged(journey))
                yield "item", {"agent": text_of(journey.agent), "label": journey.label}
        if changes:
            await self._of.here.journal.write(list(changes), True)
        yield "end", {"purged": len(changes)}

    async def do_backup(self, path: str) -> Answer:
        """Copy this station's home to a file, which must not be there."""
        of = self._of
        store = of.here.store
        if store.volatile:
            raise ControlError("this station keeps its agents in memory only: there is nothing to copy")
        about = {"station": of.here.name, "key": of.key.text, "time": of.here.clocks.now(), "life": of.lives.own}
        size = await in_thread(back_up, of.home.resolve(), store.copy_to, Path(path), about)
        yield "end", {"path": path, "bytes": size, **about}

    async def do_accept(self) -> Answer:
        """A person decides that a store that was put back is the one to go on with."""
        await self._of.lives.accept()
        yield "end", {"agents": len(self._of.here.berths)}

    async def do_reload(self) -> Answer:
        """Read the policy again, as SIGHUP has a station do. The end: what it admits, in sentences."""
        reload = self._of.reload()
        if reload is None:
            raise ControlError("this station belongs to a program: Station.replace_policy gives it another policy")
        yield "end", {"said": await reload()}

    async def do_move(self, agent: str, to: str, **how: Any) -> Answer:
        """Move an agent that is here. Items: how far it is. `how`: as of `MoveOptions.told`."""
        found = self._of.agents.find(agent)
        events = self._of.here.events.subscribe(lambda event: event.agent == found.id and event.kind == "moving")
        moving = asyncio.get_running_loop().create_task(
            self._of.agents.moves.move(found.key, to, MoveOptions.of(**how))
        )
        told = asyncio.get_running_loop().create_task(anext(events))
        try:
            while not moving.done():
                await asyncio.wait({moving, told}, return_when=asyncio.FIRST_COMPLETED)
                if told.done() and not moving.done():
                    yield "item", told.result().text
                    told = asyncio.get_running_loop().create_task(anext(events))
            yield "end", moving.result().told()
        finally:
            for task in (moving, told):
                task.cancel()
            await asyncio.gather(moving, told, return_exceptions=True)
            self._of.here.events.unsubscribe(events)

    async def do_drain(self, to: list[str], off: bool = False, **how: Any) -> Answer:
        """Let nobody in any more, and move every agent away. Items: each, and what it took or why it stays.

        off: let agents in again, and do nothing else
        """
        self._of.draining(not off)
        here = self._of.here
        if not off:
            async for done in self._of.agents.moves.drain(to, MoveOptions.of(**how)):
                if isinstance(done, tuple):
                    agent, said = done
                    label = here.berths[agent].label if agent in here.berths else ""
                    yield "item", {"agent": text_of(agent), "label": label, "stays": said}
                else:
                    yield "item", done.told()
        yield "end", {"left": len(here.berths)}

    async def do_send(self, agent: str, body: bytes) -> Answer:
        try:
            key = self._of.agents.queries.find_agent(agent)
        except PortcallError:
            key = bytes_of(agent)
        outcome, written = self._of.agents.talking.send_from_station(key, body)
        if written is not None:
            await written
        yield "end", {"agent": text_of(key), "done": outcome.value}

    async def do_ask(self, agent: str, body: bytes, most: int, topic: str = "") -> Answer:
        """Ask an agent, and wait `most` milliseconds for its answer. The end has the `answer`, or why it is `late`."""
        try:
            key = self._of.agents.queries.find_agent(agent)
        except PortcallError:
            key = bytes_of(agent)
        try:
            answer = await self._of.agents.talking.ask_from_station(key, body, topic, most / 1000)
        except asyncio.TimeoutError:
            yield "end", {"agent": text_of(key), "late": f"the agent is {self._of.agents.agent(key).standing}"}
        else:
            yield "end", {"agent": text_of(key), "answer": answer}

    async def do_find_agents(self, service: str, label: str, everywhere: bool) -> Answer:
        """Agents that are here, or offer a service; items."""
        for agent, station, said, more in await self._of.agents.meeting.look(service, label, everywhere):
            yield "item", {"agent": agent, "station": station, "label": said, "attributes": more}

    async def do_publish(self, topic: str, body: bytes, everywhere: bool) -> Answer:
        """Publish to a topic; the end says how many agents here got it."""
        yield "end", {"topic": topic, "here": await self._of.agents.publish(topic, body, everywhere)}

    async def do_logs(self, agent: str, follow: bool = False) -> Answer:
        found = self._of.agents.find(agent)
        name = found.id
        subscription = self._of.here.events.subscribe(lambda event: event.agent == name) if follow else None
        try:
            for line in self._of.agents.queries.lines(found.key):
                yield "item", {"time": line.time, "level": line.level, "text": line.text, "kind": "log"}
            if subscription is not None:
                async for event in subscription:
                    yield "item", {"level": 2, **event.value()}
                    if event.kind in ("finished", "disposed", "stopped", "home"):
                        break
        finally:
            if subscription is not None:
                self._of.here.events.unsubscribe(subscription)

    async def do_stack(self, agent: str, sources: bool = False) -> Answer:
        """The stack of an agent that is here, as `agents.stack.Stack.value`.

        sources: whether to add the files in which its frames are, as far as they travel with it
        """
        found = self._of.agents.find(agent)
        stack, files = await self._of.agents.stacks.with_sources(found.key)
        value = {"agent": found.id, "station": found.where(), "standing": found.standing, "stack": stack.value()}
        if sources:
            value["sources"] = files
        yield "end", value

    async def do_recordings(self, agent: str) -> Answer:
        """What this station has recorded of an agent. The end: the agent's id, and the station's key."""
        found = self._of.agents.find(agent)
        if self._of.archive is not None:
            for each in (await in_thread(self._of.archive.visits, found.key)).values():
                yield "item", each.value()
        yield "end", {"agent": found.id, "key": self._of.key.raw}

    async def do_recording(self, agent: bytes, visit: int) -> Answer:
        """The record of one stay, as bytes; empty if there is none."""
        archive = self._of.archive
        record = None if archive is None else await in_thread(archive.read, agent, visit)
        yield "end", b"" if record is None else record.encode()

    async def do_image(self, digest: bytes) -> Answer:
        """An image that this station has, as bytes; empty if it has not."""
        found = self._of.images.get(digest)
        yield "end", b"" if found is None else found[1]

    async def do_ask_recordings(self, station: bytes, question: list[Any]) -> Answer:
        """Carry an owner's request for recordings to another station; its answer."""
        yield "end", await self._of.introductions.recordings(PublicKey(station), question)

    async def do_events(self) -> Answer:
        subscription = self._of.here.events.subscribe(lambda event: True)
        try:
            yield "item", {"kind": "subscribed"}
            async for event in subscription:
                yield "item", event.value()
        finally:
            self._of.here.events.unsubscribe(subscription)

    async def do_doubts(self) -> Answer:
        """Handoffs that wait for a decision: in doubt here, or committed to a station that lost its disk."""
        here = self._of.here
        for record in here.store.unfinished():
            doubt = here.in_doubt.get(record.hid, "")
            yield (
                "item",
                {
                    "handoff": text_of(record.hid),
                    "agent": text_of(record.agent),
                    "side": record.side.value,
                    "state": record.state.value,
                    "peer": here.peers.label(PublicKey(record.peer)),
                    "doubt": doubt,
                },
            )

    async def do_decide(self, handoff: str, what: str) -> Answer:
        """An operator's decision: `adopt` or `discard` what is held here, `reclaim` what was committed elsewhere."""
        hid = bytes_of(handoff)
        decision = next((each for each in Decision if each == what), None)
        side = Side.SOURCE if decision is Decision.RECLAIM else Side.DESTINATION
        if decision is None or self._of.here.store.record(hid, side) is None:
            raise ControlError("there is no such handoff to decide about")
        self._of.courier.decide(hid, decision)
        yield "end", {"handoff": handoff, "done": decision.value}

    async def do_metrics(self) -> Answer:
        yield "end", self._of.metrics()
