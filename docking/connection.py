"""A client to a station of this user in another process: for scripts, cron jobs, and the workers of a server.

    with docking.connect("alpha") as station:
        agent = station.launch(image, via="beta", owner=docking.keys.load("me"))
        report = agent.wait(30)

It asks over the station's control channel (`docking.control.client`), which only the user who runs the station can
open. Nothing here is async. Invariants: the owner's key stays in this process: passports are signed, and trails and
results verified and opened, here; each request has a connection of its own, so one object serves threads and forked
workers, and goes on when the station has started again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field, fields_dict, frozen

from agents import canonical
from agents.capsule import Capsule
from agents.credentials.amendments import Lease, TopUp
from agents.credentials.itinerary import Itinerary
from agents.credentials.keys import PublicKey, SecretKey, bytes_of
from agents.credentials.passport import Home
from agents.credentials.permit import Budget
from agents.credentials.ways import Way
from agents.image import AgentImage
from agents.stack import Stack
from docking.control.client import ControlAddress, ControlClient, only
from docking.errors import AgentEnded, ControlError, StationError
from docking.handle import Label, Report, Result, Stay, opened, stays
from docking.launching import HOUR_MS, Terms, amendment, image_of, prepare_launch, signed_upgrade
from docking.letters.orders import OrderKind, OrderOutcome, SendOutcome
from docking.residents.options import MOVED_S, UPGRADED_S, MoveOptions, MoveReport, OnTimeout, UpgradeReport
from docking.tracing import encoded_current

_log = logging.getLogger("portcall.connection")
T = TypeVar("T")
# Seconds to wait for an answer, beyond those that were asked for.
ANSWER_S = 30.0
# The longest wait that has a bound, seconds: the timeout of a socket is limited too.
LONGEST_S = 366 * 24 * 3600.0


@frozen
class AgentStatus:
    """What a station knows about one agent, as `Connection.agents` lists it.

    id: 52 characters, the same at every station
    label: what its owner calls it
    station: where it is, as far as is known
    standing: see `Agent.standing`; "kept" for one that cannot be resumed
    hop: how often it has moved
    since: when that began, milliseconds since 1970
    text: more, such as what it waits for or why it stopped
    here: whether it is at the station that was asked
    """

    id: str
    label: str
    station: str
    standing: str
    hop: int
    since: int
    text: str
    here: bool


def connect(station: str | Path | None = None) -> Connection:
    """Connect to a station that runs in another process of this user, on this machine.

        with docking.connect("alpha") as station:
            print([agent.label for agent in station.agents()])

    station: its name, its whole key, or the folder that is its home; None for the only one that runs

    Raises `ControlError` if there is none, or several are meant; TypeError for anything else.
    """
    if station is not None and not isinstance(station, (str, Path)):
        raise TypeError(
            f"connect takes the name or the home of a station in another process, not {type(station).__name__}; a"
            " docking.Station of this process is asked itself"
        )
    given = None if station is None else os.fspath(station)
    try:
        with only(given, "docking.connect(NAME) says which one") as line:
            return Connection(line.place)
    except ControlError:
        place = None if given is None else _at_home(Path(given))
        if place is None:
            raise
        return Connection(place)


def _at_home(home: Path) -> ControlAddress | None:
    """The address of a station by its home alone: a cron job may have no idea where running stations are noted."""
    path = home.resolve() / "control.sock"
    if not path.is_socket():
        return None
    with ControlClient(ControlAddress(home.name, "", str(path.parent), 0, str(path))) as line:
        status = line.ask("status")
    return ControlAddress(status["name"], status["key"], str(path.parent), 0, str(path))


@define(eq=False, repr=False)
class Connection:
    """A running station of this user in another process; `docking.connect` makes one.

    Its methods wait for the answer, and may be called from several threads. They raise `ControlError` when the station
    refuses or does not answer: the message says why.
    """

    _place: ControlAddress
    _asked: set[ControlClient] = field(factory=set, init=False)
    _closed: bool = field(default=False, init=False)

    def __repr__(self) -> str:
        return f"<Connection to {self.name}>"

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ask no more: what other threads still wait for raises `ControlError` there. The station is left as it is."""
        self._closed = True
        for line in tuple(self._asked):
            line.hang_up()

    @property
    def name(self) -> str:
        """What the station is called."""
        return self._place.name

    @property
    def home(self) -> Path:
        """The folder that is its home."""
        return Path(self._place.home)

    @property
    def key(self) -> PublicKey:
        """Its public key."""
        return PublicKey.from_text(self._place.key)

    @property
    def url(self) -> str:
        """Where its peers reach it; empty if it listens nowhere."""
        return str(self._ask("status")["url"])

    @property
    def services(self) -> tuple[str, ...]:
        """The services that it offers, by name."""
        return tuple(self._ask("status")["services"])

    def launch(
        self,
        image: AgentImage | bytes,
        via: str | Way | Sequence[str | PublicKey] = (),
        *,
        owner: SecretKey,
        itinerary: Itinerary | None = None,
        terms: Terms | None = None,
        args: Sequence[str] = (),
    ) -> RemoteAgent:
        """Sign an agent here, and start it at the station, which is its home.

            agent = station.launch(agents.pack(Path("hello.wasm")), via="beta", owner=docking.keys.load("me"))

        image: the agent's image, or the contents of an image file
        via: where it may go: a way such as `"beta,(gamma|delta)*3"`, or stations in this order; without any, it stays
        owner: the key that signs its passport and opens its results; it is not sent to the station
        itinerary: instead of `via`, if it is made already, see `docking.itinerary`
        terms: its permit, how long and how far it may travel; see `docking.Terms`
        args: command line arguments, after the program's own name

        Returns a handle. Raises `ControlError`, `WayError`, `CredentialError`, `FormatError`, TypeError for
        arguments of another kind.
        """
        image = image_of(image)
        way = Way.read(via) if isinstance(via, str) and via else via
        names = list(way.names) if isinstance(way, Way) else [_text(each) for each in way]
        with self._line() as line:
            facts = _noted(line.items("prepare", via=names, image=image.digest))
            home, keys = PublicKey(facts["home"]), [PublicKey(each) for each in facts["keys"]]
            if itinerary is None and isinstance(way, Way):
                itinerary = way.itinerary(dict(zip(names, keys, strict=True)))
            elif itinerary is None:
                itinerary = Itinerary.via(keys or [home])
            made = prepare_launch(
                image,
                owner,
                Home(home, tuple(facts["addresses"])),
                itinerary,
                terms or Terms(),
                time.time_ns() // 1_000_000,
                secrets.token_bytes,
                args,
            )
            answer = line.ask(
                "launch",
                passport=made.passport,
                opening=made.opening,
                state=made.state,
                image=b"" if facts["image"] else made.image,  # the station has it already
                digest=image.digest,
                trace=encoded_current(),
            )
        return RemoteAgent(self, answer["agent"], owner)

    def agent(self, text: str, owner: SecretKey | None = None) -> RemoteAgent:
        """A handle on an agent that is at the station, or was launched there.

        text: its id, the beginning of one (4 letters or more), or its label
        owner: the key that opens its results; without it they cannot be read

        Raises `ControlError` for an unknown one.
        """
        return RemoteAgent(self, self._ask("find", agent=text)["agent"], owner)

    def agents(self) -> list[AgentStatus]:
        """The agents that are at the station, and those that were launched there."""
        with self._line() as line:
            rows = list(line.items("agents"))
        # A station tells the command more than this.
        known = [name for name in fields_dict(AgentStatus) if name != "id"]
        return [AgentStatus(id=row["agent"], **{name: row[name] for name in known}) for row in rows]

    def find_agents(
        self, service: str = "", *, label: str = "", everywhere: bool = False
    ) -> list[tuple[str, str, str, str]]:
        """The agents that are at the station, or that offer a service there.

        service: that they offer; empty for any agent
        label: what their owners call them; empty for any
        everywhere: also those at the other stations that are present, and answer within 2 seconds

        Returns of each its id, station, label, and what it says of the service.
        """
        with self._line() as line:
            rows = list(line.items("find_agents", service=service, label=label, everywhere=everywhere))
        return [(row["agent"], row["station"], row["label"], row["attributes"]) for row in rows]

    def publish(self, topic: str, body: bytes | str, *, everywhere: bool = True) -> int:
        """Send a message to all agents that subscribe to a topic.

        topic: 1 to 256 printable bytes
        body: bytes, or text, which is sent in UTF-8; at most 1 MiB
        everywhere: also at the other stations that are present; False: only at this one

        Returns how many agents at the station got it.
        """
        data = body.encode() if isinstance(body, str) else body
        return int(self._ask("publish", topic=topic, body=data, everywhere=everywhere)["here"])

    def _ask(self, what: str, /, patience_s: float | None = ANSWER_S, **arguments: object) -> Any:
        with self._line() as line:
            line.patient(patience_s)
            return line.ask(what, **arguments)

    @contextlib.contextmanager
    def _line(self) -> Iterator[ControlClient]:
        """A connection for one request."""
        with self._opened() as line:
            self._asked.add(line)
            try:
                if self._closed:
                    raise ControlError(f"the connection to {self.name} is closed: docking.connect makes another")
                yield line
            finally:
                self._asked.discard(line)

    def _opened(self) -> ControlClient:
        try:
            return ControlClient(self._place, ANSWER_S)
        except ControlError as error:
            # It may have started again, at another port.
            try:
                with only(self._place.key) as line:
                    self._place = line.place
            except ControlError:
                raise error from None
            return ControlClient(self._place, ANSWER_S)


def _noted(answer: Generator[Any, None, Any]) -> Any:
    """The end of an answer, whose items are notices for people."""
    while True:
        try:
            _log.warning("%s", next(answer))
        except StopIteration as end:
            return end.value


def _text(station: str | PublicKey) -> str:
    return station.text if isinstance(station, PublicKey) else station


@define(eq=False, repr=False)
class RemoteAgent:
    """A handle on one agent, for programs in another process than its station; `Connection.launch` and
    `Connection.agent` return one.

    Its methods are those of `docking.Agent`, and wait for the answer. They raise `ControlError` where the station knows
    nothing of the agent, or does not answer.

    id: 52 characters, the same at every station
    """

    _connection: Connection
    id: str
    _owner: SecretKey | None = None

    def __repr__(self) -> str:
        return f"<RemoteAgent {self.id}>"

    @property
    def label(self) -> str:
        """What its owner calls it."""
        return str(self._ask("capsule")["label"])

    @property
    def standing(self) -> str:
        """Its state, as far as the station knows; see `docking.Agent.standing`."""
        return str(self._ask("where")["standing"])

    def where(self) -> str:
        """The station where it is, as far as the station that is asked knows."""
        return str(self._ask("where")["station"])

    def wait(self, timeout: float | None = None) -> Report:
        """Wait until its journey is over and its home, which must be the station that is asked, knows that.

        timeout: seconds; None waits forever

        Returns the report, verified and opened in this process. Raises `AgentEnded` if it was stopped or disposed of,
        `TimeoutError`, `ControlError` if the station ends before that, `StationError` without the owner's key.
        """
        bound = None if timeout is None else max(0.0, min(float(timeout), LONGEST_S))
        most = 0 if bound is None else max(1, math.ceil(bound * 1000))
        answer = self._ask("wait", None if bound is None else bound + ANSWER_S, most=most)
        if "ended" in answer:
            raise AgentEnded(answer["ended"])
        if "late" in answer:
            raise TimeoutError(f"{answer['late']} after {timeout} s: its journey is not over")
        return Report(answer["code"], tuple(self._results(answer)), _read(answer, stays))

    def trail(self) -> tuple[Stay, ...]:
        """Its finished visits, verified in this process. Raises `CredentialError` if anything does not hold."""
        return _read(self._ask("capsule"), stays)

    def results(self) -> list[Result]:
        """Its results, verified and opened in this process. Raises `StationError` without the owner's key."""
        return self._results(self._ask("capsule"))

    def _results(self, answer: dict[str, Any]) -> list[Result]:
        return _read(answer, lambda capsule, label, now: opened(capsule, self._owner, label, now))

    def logs(self) -> list[str]:
        """The latest lines that it printed and logged at the station, if it is there or was recently."""
        with self._connection._line() as line:
            return [str(row["text"]) for row in line.items("logs", agent=self.id)]

    def stack(self) -> Stack:
        """What it is doing, if it is at the station; see `docking.Agent.stack`."""
        return Stack.of(self._ask("stack")["stack"])

    def send(self, body: bytes | str) -> SendOutcome:
        """Send it a message from the station.

        body: bytes, or text, which is sent in UTF-8; at most 1 MiB

        Returns the outcome, as `docking.Agent.send` does.
        """
        data = body.encode() if isinstance(body, str) else body
        if not isinstance(data, bytes):
            raise TypeError(f"a message is bytes or text, not {type(body).__name__}")
        return SendOutcome(self._ask("send", body=data)["done"])

    def ask(self, body: bytes | str, timeout: float = 30.0, *, topic: str = "") -> bytes:
        """Ask it, from the station, and wait for its answer.

        body: bytes, or text, which is sent in UTF-8; at most 1 MiB
        timeout: seconds; an answer that comes later is dropped
        topic: what the question is about; agents can select by it

        Returns the bytes of the answer. Raises `TimeoutError` where none came in time.
        """
        data = body.encode() if isinstance(body, str) else body
        if not isinstance(data, bytes):
            raise TypeError(f"a question is bytes or text, not {type(body).__name__}")
        bound = max(0.0, min(float(timeout), LONGEST_S))
        answer = self._ask("ask", bound + ANSWER_S, body=data, topic=topic, most=math.ceil(bound * 1000))
        if "late" in answer:
            raise TimeoutError(f"{answer['late']} after {timeout} s: it has not answered")
        return bytes(answer["answer"])

    def retract(self) -> OrderOutcome:
        """Call it home, where it continues: its pending `go` is refused.

        Returns `OrderOutcome.OBEYED` where the agent is there, `SENT` where the order travels after it. So do the other
        orders.
        """
        return self._order(OrderKind.RETRACT)

    def dispose(self) -> OrderOutcome:
        """End its journey where it is. Its results come home."""
        return self._order(OrderKind.DISPOSE)

    def sleep(self, seconds: float | None = None) -> OrderOutcome:
        """Suspend it until it is woken, across restarts too.

        seconds: after which it wakes by itself; None for never
        """
        return self._order(OrderKind.SLEEP, for_ms=0 if seconds is None else max(1, round(1000 * seconds)))

    def wake(self) -> OrderOutcome:
        """Resume it, even before its own `sleep` is over."""
        return self._order(OrderKind.WAKE)

    def clone(self) -> OrderOutcome:
        """Clone it, if its permit allows that; the clone continues from the same point."""
        return self._order(OrderKind.CLONE)

    def top_up(self, more: Budget | None = None, *, hops: int = 0, owner: SecretKey | None = None) -> OrderOutcome:
        """Give it more than its permit, also where it has stopped because its budget was used up.

        more, hops, owner: as of `docking.Agent.top_up`; it is signed in this process
        """
        return self._amend(TopUp(more or Budget(), hops), owner)

    def renew(self, hours: float, *, owner: SecretKey | None = None) -> OrderOutcome:
        """Give it more time: its passport is valid for so long from now, if it would end before.

        hours: from now
        owner: as of `top_up`
        """
        return self._amend(Lease(time.time_ns() // 1_000_000 + round(hours * HOUR_MS)), owner)

    def _amend(self, change: TopUp | Lease, owner: SecretKey | None) -> OrderOutcome:
        key = owner or self._owner
        if key is None:
            raise StationError("an agent is changed by its owner: give the owner's key")
        agent, passport = bytes_of(self.id), bytes_of(self._ask("agent")["passport"])
        now = time.time_ns() // 1_000_000
        signed = amendment(agent, passport, change, key, now, secrets.token_bytes)
        return OrderOutcome(self._connection._ask("amend", amendment=signed)["done"])

    def upgrade(
        self, image: AgentImage | bytes, *, owner: SecretKey | None = None, check: bool = False, timeout: float = 10.0
    ) -> UpgradeReport:
        """Give it new code, with which it goes on where it is.

        image: the new image, or the contents of an image file
        owner: the key that signed its passport; not needed to `check`
        check: only say what would be
        timeout: seconds in which it has to stand still, where it is at the station

        Returns what became of it: `done` is "upgraded", or "sent" where it is at another station, to which the order
        follows it; of a check, "possible" or "refused". Raises `ControlError`, with what is in the way.
        """
        encoded = image_of(image).encode()
        facts = self._ask("upgradable")
        statement = b""
        if not check:
            if owner is None:
                raise StationError("an upgrade is signed by the agent's owner: give the owner's key")
            known = facts["agent"], facts["passport"], facts["image"], facts["visit"]
            now = time.time_ns() // 1_000_000
            statement = signed_upgrade(*known, canonical.digest(encoded), owner, now, secrets.token_bytes(16))
        told = self._connection._ask(
            "upgrade",
            timeout + UPGRADED_S,
            agent=facts["agent"],
            image=encoded,
            statement=statement,
            most=max(1, round(1000 * timeout)),
        )
        return UpgradeReport.of(told)

    def move(
        self,
        to: str,
        *,
        downtime_ms: float = 20.0,
        timeout_s: float = 60.0,
        on_timeout: OnTimeout = "cancel",
        precopy: bool = True,
    ) -> MoveReport:
        """Move it from the station to another one, while it runs.

        to: the station: a name, a key, `host:port`, "next" or "home"
        downtime_ms, timeout_s, on_timeout, precopy: as of `docking.Agent.move`

        Returns what it took. Raises `ControlError` where it stays, with the reason.
        """
        how = MoveOptions(downtime_ms, timeout_s, on_timeout, precopy)
        return MoveReport.of(self._ask("move", timeout_s + MOVED_S, to=to, **how.told()))

    def _order(self, what: OrderKind, **more: int) -> OrderOutcome:
        return OrderOutcome(self._ask("order", what=what.value, **more)["done"])

    def _ask(self, what: str, /, patience_s: float | None = ANSWER_S, **arguments: object) -> Any:
        return self._connection._ask(what, patience_s, agent=self.id, **arguments)


def _read(answer: dict[str, Any], how: Callable[[Capsule, Label, int], T]) -> T:
    """What `how` reads in the capsule of an answer, with the station's names for keys."""
    names: dict[str, str] = answer["names"]
    now = time.time_ns() // 1_000_000
    return how(Capsule.decode(answer["capsule"]), lambda key: names.get(key.text, key.id), now)
