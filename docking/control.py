"""The local control channel of a station: what the commands ask, and how it answers.

Not for the network: see `docking.running` for the channel. Whoever can open it is the user who runs the station, so it
is asked no further; what comes in is bounded all the same. Invariant: a question that fails is answered with a
sentence, and the station goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from agents import canonical
from agents.credentials.keys import PublicKey, bytes_of, text_of
from agents.errors import NotCanonical, PortcallError
from docking.agent import Agent
from docking.errors import ControlError
from docking.handoff.messages import Side
from docking.launching import Launch
from docking.running import BOUNDS, LENGTH, MAX_FRAME, MAX_PATH, Place, running_folder

if TYPE_CHECKING:
    from docking.serve import Station

_log = logging.getLogger(__name__)
Answer = AsyncIterator[Any]
# Bytes that are read of one who has not said the secret, and seconds that it is waited for: else other users of the
# machine could fill this process.
MAX_SECRET, SECRET_WITHIN = 256, 10.0


@define(eq=False)
class Control:
    """The open channel of one station."""

    _station: Station
    _place: Place
    _notes: list[Path]
    _server: asyncio.AbstractServer | None = None
    _tasks: set[asyncio.Task[None]] = field(factory=set)

    @classmethod
    async def start(cls, station: Station) -> Control:
        """Open the channel, and note where it is."""
        assert station.home is not None
        home = station.home.resolve()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = home / "control.sock"
        if hasattr(socket, "AF_UNIX") and len(str(path).encode()) <= MAX_PATH:
            place = Place(station.name, station.key.text, str(home), os.getpid(), socket=str(path))
        else:
            place = Place(station.name, station.key.text, str(home), os.getpid(), token=secrets.token_hex(32))
        control = cls(station, place, [])
        await control._listen(path)
        return control

    async def _listen(self, path: Path) -> None:
        if self._place.socket:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()  # of an earlier life: the store's lock says that we are the only one
            old = os.umask(0o177)
            try:
                self._server = await asyncio.start_unix_server(self._connected, str(path))
            finally:
                os.umask(old)
        else:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            port = self._server.sockets[0].getsockname()[1]
            self._place = evolve(self._place, port=port)
        note = running_folder() / f"{self._place.name}-{self._station.key.id[:8]}.json"
        try:
            self._place.write(note)
        except OSError as error:  # a service may have no home; its agents do not need one
            _log.warning("commands cannot find this station, since %s cannot be written: %s", note, error.strerror)
            return
        self._notes.append(note)

    async def close(self) -> None:
        """Close the channel, and take the note back."""
        for note in self._notes:
            with contextlib.suppress(OSError):
                note.unlink()
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._place.socket:
            with contextlib.suppress(OSError):
                os.unlink(self._place.socket)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
                    # A listener that hangs up ends its answer: nothing is told to nobody for ever.
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
        """Whether who has come to the port knows the secret: any user of the machine can come."""
        try:
            said = await asyncio.wait_for(_read(reader, most=MAX_SECRET), SECRET_WITHIN)
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
            return  # whoever asked has hung up
        except Exception:
            # Never silence: whoever asked waits for an answer.
            _log.exception("a question on the control channel failed")
            await _write(writer, ["error", "the station failed to answer; its log says why"])

    # What can be asked. Each yields ("item", value) and at last ("end", value).

    async def _do_status(self) -> Answer:
        office, station = self._station.office, self._station
        load = office.load()
        yield (
            "end",
            {
                "name": station.name,
                "key": station.key.text,
                "url": station.url if station.port is not None else "",
                "services": list(office.pages.names),
                "agents": load.residents,
                "busy": load.busy,
                "memory": load.memory,
                "volatile": office.store.volatile,
                "loosened": list(station.policy.loosened()),
            },
        )

    async def _do_stations(self, wait: int = 0) -> Answer:
        """`wait`: milliseconds in which more may be seen."""
        await asyncio.sleep(wait / 1000)
        peers = self._station.office.peers
        peers.refresh()
        for peer in peers.all():
            yield (
                "item",
                {
                    "name": peer.name,
                    "key": peer.key.text,
                    "address": peer.addresses[0] if peer.addresses else "",
                    "services": list(peer.services),
                    "seen": peer.seen,
                    "proven": peer.proven,
                    "present": peer.present or peer.configured,
                },
            )
        for name, error in peers.refused.items():
            yield "item", {"name": name, "key": error.offered, "refused": str(error)}
        said = {str(error) for error in peers.refused.values()}
        for url, why in self._station.unmet.items():
            if why not in said:
                yield "item", {"name": url, "key": "", "refused": f"--peer {url}: {why}. It is tried again"}

    async def _do_meet(self, url: str) -> Answer:
        peer = await self._station.contacts.call_on(url)
        yield "end", {"name": peer.name, "key": peer.key.text}

    async def _do_agents(self) -> Answer:
        for row in self._station.office.steering.rows():
            yield "item", row

    async def _do_prepare(self, via: list[str], image: bytes = b"") -> Answer:
        """Keys for the names of an itinerary, and what a passport needs to know of this home.

        Items: what a person should know of these names.
        """
        keys = []
        for text in via:
            key = await self._station.contacts.find(text, (), 5.0)
            keys.append(key.raw)
            if text in self._station.office.peers.refused:
                yield "item", str(self._station.office.peers.refused[text])
        have = image in self._station.office.images if image else False
        addresses = self._station.contacts.addresses()
        yield "end", {"keys": keys, "home": self._station.key.raw, "addresses": list(addresses)[:8], "image": have}

    async def _do_launch(self, passport: bytes, opening: bytes, state: bytes, image: bytes, digest: bytes) -> Answer:
        if not image:
            found = self._station.office.images.get(digest)
            if found is None:
                raise ControlError("the station has not this image any more: try again")
            image = found[1]
        agent = await self._station.begin(Launch(passport, opening, image, state))
        yield "end", {"agent": agent.id}

    async def _do_find(self, agent: str) -> Answer:
        yield "end", {"agent": self._station.agent(agent).id}

    async def _do_where(self, agent: str) -> Answer:
        found = self._station.agent(agent)
        place, standing = found.where(), found.standing
        yield "end", {"agent": found.id, "station": place, "standing": standing, "here": place == self._station.name}

    async def _do_capsule(self, agent: str) -> Answer:
        """Trail and results, as far as they are here; and names for the stations in them."""
        found = self._station.agent(agent)
        capsule = found.capsule()
        names = {peer.key.text: peer.name for peer in self._station.office.peers.all()}
        names[self._station.key.text] = self._station.name
        yield "end", {"agent": found.id, "label": found.label, "capsule": capsule.encode(), "names": names}

    async def _do_order(self, agent: str, what: str) -> Answer:
        found = self._station.agent(agent)
        yield "end", {"agent": found.id, "done": self._station.office.steering.order(found.key, what)}

    async def _do_send(self, agent: str, body: bytes) -> Answer:
        try:
            key = self._station.office.steering.find_agent(agent)
        except PortcallError:
            key = bytes_of(agent)
        yield "end", {"agent": text_of(key), "done": Agent(self._station.office, key).send(body)}

    async def _do_logs(self, agent: str, follow: bool = False) -> Answer:
        found = self._station.agent(agent)
        name = found.id
        subscription = self._station.subscribe(lambda event: event.agent == name) if follow else None
        try:
            berth = self._station.office.steering.berth_of(found.key)
            for line in [] if berth is None else list(berth.lines):
                yield "item", {"time": line.time, "level": line.level, "text": line.text, "kind": "log"}
            if subscription is not None:
                async for event in subscription:
                    yield "item", {"level": 2, **event.value()}
                    if event.kind in ("finished", "disposed", "stopped", "home"):
                        break
        finally:
            if subscription is not None:
                self._station.office.events.unsubscribe(subscription)

    async def _do_events(self) -> Answer:
        subscription = self._station.subscribe(lambda event: True)
        try:
            yield "item", {"kind": "subscribed"}
            async for event in subscription:
                yield "item", event.value()
        finally:
            self._station.office.events.unsubscribe(subscription)

    async def _do_doubts(self) -> Answer:
        """Handoffs that wait for a decision: in doubt here, or promised to a station that lost its disk."""
        office = self._station.office
        for record in office.store.unfinished():
            doubt = office.in_doubt.get(record.hid, "")
            yield (
                "item",
                {
                    "handoff": text_of(record.hid),
                    "agent": text_of(record.agent),
                    "side": record.side.value,
                    "state": record.state.value,
                    "peer": office.peers.label(PublicKey(record.peer)),
                    "doubt": doubt,
                },
            )

    async def _do_decide(self, handoff: str, what: str) -> Answer:
        """A person decides: `adopt` or `discard` what is held here, `reclaim` what was promised elsewhere."""
        office = self._station.office
        hid = bytes_of(handoff)
        side = Side.SOURCE if what == "reclaim" else Side.DESTINATION
        if office.store.record(hid, side) is None or what not in ("adopt", "discard", "reclaim"):
            raise ControlError("there is no such handoff to decide about")
        getattr(office.courier, what)(hid)
        yield "end", {"handoff": handoff, "done": what}

    async def _do_metrics(self) -> Answer:
        yield "end", self._station.metrics()


async def _read(reader: asyncio.StreamReader, begun: bytes = b"", most: int = MAX_FRAME) -> Any:
    (size,) = LENGTH.unpack(begun + await reader.readexactly(LENGTH.size - len(begun)))
    if size > most:
        raise ControlError("a question that is too long")
    return canonical.decode(await reader.readexactly(size), BOUNDS)


async def _write(writer: asyncio.StreamWriter, value: Any) -> None:
    data = canonical.encode(value)
    writer.write(LENGTH.pack(len(data)) + data)
    await writer.drain()
