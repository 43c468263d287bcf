"""What peers may ask of a station, and how another application has it inside.

Nothing is decided here. Invariant: who reaches `PeerApi` has proven its key, and nothing more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import define

from agents.credentials.keys import PublicKey, text_of
from docking.courier import Courier
from docking.errors import LocalProtocolError, StoreError
from docking.handoff.codec import DEFAULT_LIMITS
from docking.handoff.messages import Message, Offer
from docking.http.agent_requests import Receive, Scope, Send
from docking.http.app import App
from docking.live.sessions import Sessions
from docking.live.wire import read_request, write_answer
from docking.peers.introductions import Introductions
from docking.recordings.requests import RecordingRequests
from docking.residents.deltas import Deltas
from docking.residents.inbound import Inbound
from docking.residents.notices import Notices
from docking.residents.residents import Residents
from docking.residents.serving import Serving
from docking.tracing import Span, TraceContext, Tracing
from docking.trust.admission_controller import Admitted


@define(eq=False, repr=False, slots=False)
class PeerApi:
    """The requests of peers; see `docking.http.dispatch.PeerRequests`. `metrics()`: what a scraper is told."""

    _here: Residents
    _courier: Courier[Admitted]
    _deltas: Deltas
    _notices: Notices
    _inbound: Inbound
    _serving: Serving
    _introductions: Introductions
    _sessions: Sessions
    _recordings: RecordingRequests
    _tracing: Tracing
    metrics: Callable[[], str]

    @property
    def name(self) -> str:
        """The station's name."""
        return self._here.name

    async def handoff(self, sender: PublicKey, message: Message) -> Message | None:
        """A message of a handoff; its answer. Raises `LocalProtocolError`."""
        self._check()
        span = None
        if isinstance(message, Offer):
            self._notices.see_off(message.agent)
            span = self._admission(message)
        try:
            return await self._courier.handle(sender.raw, self._deltas.completed(sender.raw, message))
        except StoreError as error:
            raise LocalProtocolError("this station cannot read its store") from error
        finally:
            if span is not None:
                span.end()

    def _admission(self, offer: Offer) -> Span | None:
        """The span of what this station does about an offer, below the hop at its source."""
        index = next((i for i, part in enumerate(offer.parts) if part.kind == "trace"), None)
        if index is None:
            return None
        body = next((body.data for body in offer.bodies if body.index == index), None)
        said = {"portcall.agent.id": text_of(offer.agent), "portcall.visit": offer.hop + 1}
        return self._tracing.start("handoff admit", TraceContext.decode(body), said, "SERVER", of_hop=True)

    async def letter(self, sender: PublicKey, value: object) -> object:
        """A letter; its answer. Raises `LocalProtocolError`."""
        self._check()
        self._here.outbox.heard_from(sender)
        return await self._inbound.receive(sender, value)

    async def letter_of_dock(self, sender: PublicKey, value: object) -> list[object]:
        """A letter that a dock has kept; its answer. Raises `LocalProtocolError`."""
        self._check()
        return await self._inbound.receive(sender, value)

    async def session(self, sender: PublicKey, value: object) -> object:
        """A request of a live move; its answer. Raises `LocalProtocolError`, `MalformedMessage`."""
        self._check()
        return write_answer(await self._sessions.handle(sender.raw, read_request(value, DEFAULT_LIMITS)))

    async def serve(self, sender: PublicKey, value: object) -> object:
        """The request of a client, or the answer to one; its answer. Raises `ProtocolError`."""
        self._check()
        return await self._serving.receive(sender, value)

    async def recordings(self, sender: PublicKey, value: object) -> object:
        """An owner's request for recordings; its answer. Raises `LocalProtocolError`."""
        self._check()
        return await self._recordings.receive(value)

    async def hello(self, sender: PublicKey, value: object, address: str) -> object:
        """A greeting from an address; who is here. Raises `LocalProtocolError`."""
        self._check()
        self._here.outbox.heard_from(sender)
        self._introductions.introduced(sender, value, address)
        return self._introductions.card(sender)

    def _check(self) -> None:
        """Where nothing can be promised any more, whoever asks is sent away for now."""
        if self._here.failure:
            raise LocalProtocolError("this station cannot write to its store, and must be started again")


class Mounted:
    """A station as an ASGI application.

    start, close: of the station, called by the server's lifespan
    application: the application that answers peers; starts the station if nothing has yet
    agent: the agent whose clients are answered, and nobody else
    """

    def __init__(
        self,
        start: Callable[[], Awaitable[None]],
        close: Callable[[], Awaitable[None]],
        application: Callable[[], Awaitable[App]],
        agent: str | None = None,
    ) -> None:
        self._start, self._close, self._application, self._agent = start, close, application, agent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI: a lifespan is the station's, other scopes are its application's."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            application = await self._application()
            if self._agent is None or application.clients is None or scope["type"] != "http":
                await application(scope, receive, send)
            else:
                await application.clients.mounted(self._agent, scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._close()
        await send({"type": "lifespan.shutdown.complete"})
