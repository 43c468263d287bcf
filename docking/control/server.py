"""The local control channel of a station: the requests of the commands, and the answers.

Not for the network: `docking.control.client` describes the channel. Only the user who runs the station can open it, so
nothing else is checked; input is bounded all the same. Invariant: a failing request is answered with an error message,
and the station keeps running.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, evolve, field, frozen

from agents import canonical
from agents.credentials.keys import PublicKey, bytes_of, text_of
from agents.errors import NotCanonical, PortcallError
from docking.aio.failures import log_failure
from docking.aio.timeouts import ended, within
from docking.control.client import (
    FRAME_BOUNDS,
    LENGTH,
    MAX_FRAME_BYTES,
    MAX_SOCKET_PATH_BYTES,
    ControlAddress,
    running_folder,
)
from docking.courier import Courier, Decision
from docking.errors import AgentEnded, ControlError
from docking.handle import Agent, AgentAccess
from docking.handoff.messages import Side
from docking.launching import Launch
from docking.letters.orders import OrderKind, OrderOutcome
from docking.peers.introductions import Introductions
from docking.residents.launches import Launches
from docking.residents.options import MoveOptions
from docking.residents.residents import Residents
from docking.residents.services import Services
from docking.trust.admission_controller import Admitted
from docking.trust.images import Images

_log = logging.getLogger(__name__)
Answer = AsyncIterator[tuple[str, object]]
# Seconds to wait for the outcome of an order to clone an agent that is here.
CLONED_WITHIN_S = 5.0
# Limits before the client has shown the secret: bytes read, and seconds to wait. Without them, other users of the
# machine could exhaust this process.
MAX_SECRET_BYTES, SECRET_TIMEOUT_S = 256, 10.0


@frozen(eq=False, repr=False)
class Controlled:
    """The parts of a station that commands may use.

    draining(yes): whether agents are let in no more
    loosened(): what its policy leaves unchecked; url(): where peers reach it, or empty
    unmet: URLs of peers that have not answered yet, and why; metrics(): in the Prometheus text format
    sessions(): the agents on their way here that run elsewhere still
    home_addresses(): its addresses and docks, for passports
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
    home_addresses: Callable[[], Sequence[str]]


@define(eq=False, repr=False)
class Control:
    """The open channel of one station."""

    _of: Controlled
    _place: ControlAddress
    _notes: list[Path] = field(factory=list)
    _server: asyncio.AbstractServer | None = None
    _tasks: set[asyncio.Task[None]] = field(factory=set)

    @classmethod
    async def start(cls, of: Controlled) -> Control:
        """Open the channel, and write its address file."""
        home = of.home.resolve()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = home / "control.sock"
        place = ControlAddress(of.here.name, of.key.text, str(home), os.getpid())
        if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
            place = evolve(place, socket=str(path))
        else:
            place = evolve(place, token=secrets.token_hex(32))
        control = cls(of, place)
        await control._listen(path)
        return control

    async def _listen(self, path: Path) -> None:
        if self._place.socket:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # left by an earlier process: the store's lock guarantees that we are the only one
            old = os.umask(0o177)
            try:
                self._server = await asyncio.start_unix_server(self._connected, str(path))
            finally:
                os.umask(old)
        else:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            port = self._server.sockets[0].getsockname()[1]
            self._place = evolve(self._place, port=port)
        note = running_folder() / f"{self._place.name}-{self._of.key.id[:8]}.json"
        try:
            self._place.write(note)
        except OSError as error:  # a service may have no home; its agents do not need one
            _log.warning("commands cannot find this station, since %s cannot be written: %s", note, error.strerror)
            return
        self._notes.append(note)

    async def close(self) -> None:
        """Close the channel, and remove the address file."""
        for note in self._notes:
            with contextlib.suppress(OSError):
                note.unlink()
        if self._server is not None:
            self._server.close()
        await ended(self._tasks)
        if self._place.socket:
            with contextlib.suppress(OSError):
                os.unlink(self._place.socket)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._place.token and not await self._knows(reader):
                return
            begun = b""
            while True:
                question = await _read(reader, begun)
                asking = asyncio.get_running_loop().create_task(self._answer(question, writer))
                more = asyncio.get_running_loop().create_task(reader.read(1))
                try:
                    # Stop answering when the client hangs up: do not stream forever to nobody.
                    await asyncio.wait({asking, more}, return_when=asyncio.FIRST_COMPLETED)
                    if not asking.done():
                        return
                finally:
                    for task in (asking, more):
                        task.cancel()
                    await asyncio.gather(asking, more, return_exceptions=True)
                begun = b"" if more.cancelled() else more.result()
        except (asyncio.IncompleteReadError, ConnectionError, NotCanonical, ControlError):
            return
        finally:
            writer.close()

    async def _knows(self, reader: asyncio.StreamReader) -> bool:
        """Whether the client of the port knows the secret: any user of the machine can connect to it."""
        try:
            said = await within(SECRET_TIMEOUT_S, _read(reader, most=MAX_SECRET_BYTES))
        except asyncio.TimeoutError:
            return False
        return isinstance(said, str) and hmac.compare_digest(said.encode(), self._place.token.encode())

    async def _answer(self, question: Any, writer: asyncio.StreamWriter) -> None:
        try:
            what, arguments = question
            handler: Callable[..., Answer] | None = getattr(self, f"_do_{what}", None)
            if handler is None:
                raise ControlError(f"the station does not know {what!r}: is it of another version?")
            end = None
            async for kind, value in handler(**arguments):
                if kind == "end":
                    end = value
                else:
                    await _write(writer, ["item", value])
            await _write(writer, ["end", end])
        except PortcallError as error:
            await _write(writer, ["error", str(error)])
        except (TypeError, ValueError) as error:
            _log.warning("a question on the control channel cannot be answered: %s", error)
            await _write(writer, ["error", f"the question has another shape: {error}"])
        except ConnectionError:
            return  # the client has hung up
        except Exception:
            # Always answer: the client waits.
            _log.exception("a question on the control channel failed")
            await _write(writer, ["error", "the station failed to answer; its log says why"])

    # The requests. Each yields ("item", value) any number of times, then ("end", value).

    async def _do_status(self) -> Answer:
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
                "volatile": of.here.store.volatile,
                "sessions": of.sessions(),
                "loosened": list(of.loosened()),
            },
        )

    async def _do_stations(self, wait: int = 0) -> Answer:
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

    async def _do_meet(self, url: str) -> Answer:
        peer = await self._of.introductions.call_on(url)
        yield "end", {"name": peer.name, "key": peer.key.text}

    async def _do_agents(self) -> Answer:
        for row in self._of.agents.queries.rows():
            yield "item", row

    async def _do_prepare(self, via: list[str], image: bytes = b"") -> Answer:
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

    async def _do_launch(self, passport: bytes, opening: bytes, state: bytes, image: bytes, digest: bytes) -> Answer:
        if not image:
            found = self._of.images.get(digest)
            if found is None:
                raise ControlError("the station has not this image any more: try again")
            image = found[1]
        berth = await self._of.launches.begin(Launch(passport, opening, image, state))
        yield "end", {"agent": text_of(berth.agent)}

    async def _do_find(self, agent: str) -> Answer:
        yield "end", {"agent": self._of.agents.find(agent).id}

    async def _do_where(self, agent: str) -> Answer:
        found = self._of.agents.find(agent)
        place, standing = found.where(), found.standing
        yield "end", {"agent": found.id, "station": place, "standing": standing, "here": place == self._of.here.name}

    async def _do_capsule(self, agent: str) -> Answer:
        """The trail and results that are here, and names for the stations in them."""
        yield "end", self._capsule(self._of.agents.find(agent))

    async def _do_wait(self, agent: str, most: int) -> Answer:
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

    async def _do_order(self, agent: str, what: str) -> Answer:
        found = self._of.agents.find(agent)
        try:
            kind = OrderKind(what)
        except ValueError:
            raise ControlError("no such order") from None
        answer = {"agent": found.id}
        mark = f"{what}: "
        events = self._of.here.events.subscribe(
            lambda event: (
                event.agent == found.id
                and (event.kind == "cloned" or (event.kind == "refused" and event.text.startswith(mark)))
            )
        )
        try:
            outcome = self._of.agents.commands.order(found.key, kind)
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

    async def _do_move(self, agent: str, to: str, **how: Any) -> Answer:
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

    async def _do_drain(self, to: list[str], off: bool = False, **how: Any) -> Answer:
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

    async def _do_send(self, agent: str, body: bytes) -> Answer:
        try:
            key = self._of.agents.queries.find_agent(agent)
        except PortcallError:
            key = bytes_of(agent)
        outcome, written = self._of.agents.talking.send_from_station(key, body)
        if written is not None:
            await written
        yield "end", {"agent": text_of(key), "done": outcome.value}

    async def _do_logs(self, agent: str, follow: bool = False) -> Answer:
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

    async def _do_stack(self, agent: str) -> Answer:
        """The stack of an agent that is here, as `agents.stack.Stack.value`."""
        found = self._of.agents.find(agent)
        stack = await found.stack()
        yield (
            "end",
            {"agent": found.id, "station": found.where(), "standing": found.standing, "stack": stack.value()},
        )

    async def _do_events(self) -> Answer:
        subscription = self._of.here.events.subscribe(lambda event: True)
        try:
            yield "item", {"kind": "subscribed"}
            async for event in subscription:
                yield "item", event.value()
        finally:
            self._of.here.events.unsubscribe(subscription)

    async def _do_doubts(self) -> Answer:
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

    async def _do_decide(self, handoff: str, what: str) -> Answer:
        """An operator's decision: `adopt` or `discard` what is held here, `reclaim` what was committed elsewhere."""
        hid = bytes_of(handoff)
        decision = next((each for each in Decision if each == what), None)
        side = Side.SOURCE if decision is Decision.RECLAIM else Side.DESTINATION
        if decision is None or self._of.here.store.record(hid, side) is None:
            raise ControlError("there is no such handoff to decide about")
        self._of.courier.decide(hid, decision)
        yield "end", {"handoff": handoff, "done": decision.value}

    async def _do_metrics(self) -> Answer:
        yield "end", self._of.metrics()


async def _read(reader: asyncio.StreamReader, begun: bytes = b"", most: int = MAX_FRAME_BYTES) -> Any:
    (size,) = LENGTH.unpack(begun + await reader.readexactly(LENGTH.size - len(begun)))
    if size > most:
        raise ControlError("a question that is too long")
    return canonical.decode(await reader.readexactly(size), FRAME_BOUNDS)


async def _write(writer: asyncio.StreamWriter, value: object) -> None:
    data = canonical.encode(value)
    writer.write(LENGTH.pack(len(data)) + data)
    await writer.drain()
