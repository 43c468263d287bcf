"""The registrations and subscriptions that exist, and the file that keeps them across restarts.

Not here: what follows from them. Invariants: there are never more than the settings allow; a change that was answered
is on disk, if there is a file; a change that could not be written is undone; a file that cannot be read is an error
that says what to do, and is never overwritten.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from agents import canonical
from agents.brief import brief
from docking.aio.threads import in_thread
from docking.errors import StoreError, StoreUnusable
from docking.mec.models import REGISTRATION, SUBSCRIPTION, AnySubscription, RegistrationInfo, checked
from docking.mec.problems import Problem, conflict, not_found, too_many

FORMAT = "portcall-mec/1"
# Bytes of all records, and of the largest file that is read.
MAX_KEPT_BYTES = 8 << 20
MAX_FILE_BYTES = 2 * MAX_KEPT_BYTES


@frozen
class Service:
    """A registered application mobility service.

    `owner`: whose token made it; `expires`: ms since 1970, 0 for never; `made`: its place in the order of records.
    """

    id: str
    info: RegistrationInfo = field(repr=brief)
    owner: str
    expires: int
    made: int

    def value(self) -> dict[str, Any]:
        """As it is told to clients."""
        return self.info.complete().json_value()

    @property
    def instance(self) -> str | None:
        """The application instance that it is about."""
        return self.info.serviceConsumerId.appInstanceId


@frozen
class Subscribed:
    """A subscription.

    `root`: the API's root as its client addressed it; `requester`: the address that it came from; `expires`: ms since
    1970, 0 for never; `told`: its subscriber was told that it expires.
    """

    id: str
    body: AnySubscription = field(repr=brief)
    owner: str
    root: str
    requester: str
    expires: int
    made: int
    told: bool = False

    def value(self) -> dict[str, Any]:
        """As it is told to clients."""
        return self.body.json_value()


Record = TypeVar("Record", Service, Subscribed)


def etag(value: object) -> str:
    """The entity tag of a representation."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f'"{canonical.digest(text.encode()).hex()[:32]}"'


@define(eq=False, repr=False)
class Table(Generic[Record]):
    """The records of one kind. `what`: what people call one; `most`: how many there may be."""

    what: str
    most: int
    _written: Callable[[], Any]
    _room: Callable[[int], None]
    _records: dict[str, Record] = field(factory=dict)
    _rows: dict[str, bytes] = field(factory=dict)
    size: int = 0
    """Bytes of all rows."""

    def all(self, owner: str | None = None) -> list[Record]:
        """The records in the order in which they were made; of one owner, or of all."""
        return [each for each in self._records.values() if owner is None or each.owner == owner]

    def find(self, ident: str, owner: str | None = None) -> Record:
        """The record with this identifier. Raises `Problem` (404)."""
        found = self._records.get(ident)
        if found is None or (owner is not None and found.owner != owner):
            raise not_found(f"there is no such {self.what}")
        return found

    def get(self, ident: str) -> Record | None:
        """The record with this identifier, or None."""
        return self._records.get(ident)

    def new_id(self) -> str:
        """An identifier that is not in use."""
        return secrets.token_hex(16)

    async def add(self, record: Record) -> None:
        """Add a record. Raises `Problem` (409, 429), `StoreError`."""
        if record.id in self._records:
            raise conflict(f"there is a {self.what} with this identifier")
        if len(self._records) >= self.most:
            raise too_many(f"there are {self.most} of this kind: no more are taken")
        self._room(len(_row(record)))
        self._put(record.id, record)
        await self._settle(record.id, record, None)

    async def replace(self, record: Record) -> None:
        """Put a record in the place of the one with its identifier. Raises `Problem` (404), `StoreError`."""
        old = self.find(record.id)
        self._room(len(_row(record)) - len(self._rows[record.id]))
        self._put(record.id, record)
        await self._settle(record.id, record, old)

    async def remove(self, ident: str) -> Record:
        """Remove a record. Raises `Problem` (404), `StoreError`."""
        old = self.find(ident)
        self._put(ident, None)
        await self._settle(ident, None, old)
        return old

    def _put(self, ident: str, record: Record | None) -> None:
        self.size -= len(self._rows.get(ident, b""))
        if record is None:
            del self._records[ident], self._rows[ident]
            return
        self._records[ident] = record
        self._rows[ident] = row = _row(record)
        self.size += len(row)

    def rows(self) -> bytes:
        """All records as an array in JSON."""
        return b"[" + b",".join(self._rows.values()) + b"]"

    async def _settle(self, ident: str, new: Record | None, old: Record | None) -> None:
        try:
            await self._written()
        except StoreError:
            # Unless it was changed again meanwhile.
            if self._records.get(ident) is new:
                self._put(ident, old)
            raise

    def take(self, records: Iterable[Record]) -> None:
        """Begin with these."""
        for each in records:
            self._put(each.id, each)


@define(eq=False, repr=False)
class Book:
    """All records. `path`: the file that keeps them; None: nothing is kept."""

    path: Path | None
    services: Table[Service] = field(init=False)
    subscriptions: Table[Subscribed] = field(init=False)
    _lock: asyncio.Lock | None = None
    _asked: int = 0
    _done: int = 0
    _made: int = 0

    @classmethod
    def open(cls, path: Path | None, services: int, subscriptions: int) -> Book:
        """Read the file, if there is one. Raises `StoreUnusable`."""
        book = cls(path)
        book.services = Table("application mobility service", services, book.written, book.room)
        book.subscriptions = Table("subscription", subscriptions, book.written, book.room)
        if path is not None and path.exists():
            book._read(path)
        return book

    def room(self, size: int) -> None:
        """Raises `Problem` (429) if there is no room for so many bytes more: each change writes all of them."""
        if size > 0 and self.services.size + self.subscriptions.size + size > MAX_KEPT_BYTES:
            raise too_many("what is registered already takes all the room that there is")

    def next_made(self) -> int:
        """The next place in the order of records."""
        self._made += 1
        return self._made

    async def written(self) -> None:
        """Wait until all changes so far are on disk; those at one time are one write. Raises `StoreError`."""
        if self.path is None:
            return
        self._asked += 1
        mine = self._asked
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            if self._done >= mine:
                return
            asked, data = self._asked, self._encoded()
            try:
                await in_thread(_replace, self.path, data)
            except OSError as error:
                raise StoreError(f"{self.path} cannot be written: {error.strerror or error}") from error
            self._done = asked

    def _encoded(self) -> bytes:
        head = f'{{"format":"{FORMAT}","services":'.encode()
        return head + self.services.rows() + b',"subscriptions":' + self.subscriptions.rows() + b"}"

    def _read(self, path: Path) -> None:
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError
            value = json.loads(path.read_bytes())
            if value["format"] != FORMAT:
                raise ValueError
            self.services.take([self._service(each) for each in value["services"]])
            self.subscriptions.take([self._subscription(each) for each in value["subscriptions"]])
        except OSError as error:
            raise StoreUnusable(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Problem) as error:
            raise StoreUnusable(
                f"{path} does not hold the registrations and subscriptions of an application mobility service:"
                " restore it from a copy, or move it away and have clients register again"
            ) from error

    def _service(self, row: dict[str, Any]) -> Service:
        info = checked(REGISTRATION, row["info"])
        return Service(str(row["id"]), info, str(row["owner"]), int(row["expires"]), self.next_made())

    def _subscription(self, row: dict[str, Any]) -> Subscribed:
        return Subscribed(
            str(row["id"]),
            checked(SUBSCRIPTION, row["body"]),
            str(row["owner"]),
            str(row["root"]),
            str(row["requester"]),
            int(row["expires"]),
            self.next_made(),
            bool(row["told"]),
        )


def _row(record: Service | Subscribed) -> bytes:
    """A record as it is kept."""
    row: dict[str, Any] = {"id": record.id, "owner": record.owner, "expires": record.expires}
    if isinstance(record, Service):
        row["info"] = record.info.json_value()
    else:
        row |= {"root": record.root, "requester": record.requester, "told": record.told, "body": record.value()}
    return json.dumps(row, separators=(",", ":")).encode()


def _replace(path: Path, data: bytes) -> None:
    """Write a file, atomically and durably, readable by its user only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
