"""The doors of a station: what peers may ask of it, and how another application has it inside.

Nothing is decided here. Invariant: who comes through a door of `Doors` has proven its key, and nothing more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.credentials.keys import PublicKey
from docking.errors import LocalProtocolError, StoreError
from docking.handoff.messages import Offer

if TYPE_CHECKING:
    from docking.serve import Station
    from docking.station import Office


class Doors:
    """What peers may ask of the station."""

    def __init__(self, station: Station) -> None:
        self.name = station.name
        self._station = station

    def _office(self) -> Office:
        """Raises `LocalProtocolError` where nothing can be promised any more: whoever asks is sent away for now."""
        if self._station.failure:
            raise LocalProtocolError("this station cannot write to its store, and must be started again")
        return self._station.office

    async def handoff(self, sender: PublicKey, message: Any) -> Any:
        """See `docking.http.reception.Doors`."""
        office = self._office()
        if isinstance(message, Offer):
            office.see_off(message.agent)
        try:
            return await office.courier.handle(sender.raw, office.deltas.completed(sender.raw, message))
        except StoreError as error:
            raise LocalProtocolError("this station cannot read its store") from error

    async def letter(self, sender: PublicKey, value: Any) -> Any:
        """See `docking.http.reception.Doors`."""
        return await self._office().letters.receive(sender, value)

    async def hello(self, sender: PublicKey, value: Any) -> Any:
        """See `docking.http.reception.Doors`."""
        self._office()
        self._station.contacts.introduced(sender, value)
        return self._station.contacts.card()

    def metrics(self) -> str:
        """See `docking.http.reception.Doors`."""
        return self._station.metrics()


class Mounted:
    """A station as an ASGI application."""

    def __init__(self, station: Station) -> None:
        self._station = station

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI: a lifespan is the station's, other scopes are its application's."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            application = await self._station.application()
            await application(scope, receive, send)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            await self._station.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._station.close()
        await send({"type": "lifespan.shutdown.complete"})
