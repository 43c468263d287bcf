"""One trace: the spans of a journey, for OpenTelemetry, and the W3C trace context that travels with an agent.

The context is that of the span `launch`, unsigned, beside the agent's signed papers: every span of the journey is below
it, at every station, and so at one glance in a tracing tool. An offer also names the span of the hop, for the
destination.

Needs `opentelemetry-api` (`portcall[otel]`); without it a station passes the context on and makes no spans. What comes
from elsewhere is read by `TraceContext.read`, which gives None for everything that is not a valid context: a bad header
is no reason to refuse an agent. https://www.w3.org/TR/trace-context/

Invariants: without a context nothing is computed and nothing is sent; a context has at most `MAX_TRACE_BYTES`.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import define, evolve, field, frozen

from agents import canonical
from agents.errors import NotCanonical
from agents.version import VERSION

MAX_TRACE_BYTES = 1024  # of a context, encoded
MAX_STATE_CHARS = 512
MAX_STATE_MEMBERS = 32
_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")
_KEY = re.compile(r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})\Z")
_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]\Z")
_SPAN = re.compile(r"(?!0{16})[0-9a-f]{16}\Z")
_BOUNDS = canonical.DecodeBounds(max_bytes=MAX_TRACE_BYTES, max_depth=1, max_items=4)
Attributes = Mapping[str, object]


@frozen
class TraceContext:
    """A valid W3C trace context.

    traceparent, tracestate: as in the headers of these names; `tracestate` may be empty
    hop: the id of the span of the hop that brings the agent, 16 hexadecimal digits; empty if there is none
    """

    traceparent: str
    tracestate: str = ""
    hop: str = ""

    @classmethod
    def read(cls, traceparent: object, tracestate: object = "", hop: object = "") -> TraceContext | None:
        """A context that comes from elsewhere; None unless it is valid. An invalid `tracestate` alone is left out."""
        # A later version may have more fields, which are not ours to pass on.
        if (
            isinstance(traceparent, str)
            and len(traceparent) > 55
            and traceparent[:2] != "00"
            and traceparent[55] == "-"
        ):
            traceparent = f"00{traceparent[2:55]}"
        if not isinstance(traceparent, str) or not _PARENT.match(traceparent):
            return None
        state = tracestate if isinstance(tracestate, str) and _members(tracestate) else ""
        return cls(traceparent, state, hop if isinstance(hop, str) and _SPAN.match(hop) else "")

    def encode(self) -> bytes:
        """As bytes."""
        return canonical.encode([self.traceparent, self.tracestate, self.hop])

    @classmethod
    def decode(cls, data: canonical.Buffer | None) -> TraceContext | None:
        """The inverse of `encode`; None for everything else."""
        if data is None:
            return None
        try:
            value = canonical.decode(data, _BOUNDS)
        except NotCanonical:
            return None
        return cls.read(*value) if isinstance(value, list) and len(value) == 3 else None

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return self.traceparent[3:35]


def _members(text: str) -> bool:
    """Whether this is a list of at most 32 members, each a key and a value, no key twice."""
    if not text or len(text) > MAX_STATE_CHARS:
        return False
    keys = set()
    members = [member.strip(" \t") for member in text.split(",")]
    for key, equals, value in (member.partition("=") for member in members if member):
        if not equals or not _KEY.match(key) or not _VALUE.match(value) or key in keys:
            return False
        keys.add(key)
    return 0 < len(keys) <= MAX_STATE_MEMBERS


@define(eq=False, repr=False)
class Span:
    """A span that has begun. From any thread."""

    _span: Any

    def set(self, name: str, value: object) -> None:
        """Set an attribute."""
        self._span.set_attribute(name, value)

    def end(self, error: str = "") -> None:
        """It is over. `error`: one word, if it failed."""
        if error:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def context(self) -> TraceContext | None:
        """Its context, for what is to be below it; None if there is none, since nobody records."""
        return _written(self._span.get_span_context())

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """While this lasts, it is the current span, below which the application's own begin."""
        from opentelemetry.trace import use_span

        with use_span(self._span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            yield


def _written(context: Any) -> TraceContext | None:
    if not context.is_valid:
        return None
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
    return TraceContext.read(parent, context.trace_state.to_header())


@functools.lru_cache(maxsize=1024)
def _parent(trace: str, span: str, state: str) -> Any:
    """The context of OpenTelemetry in which the parent is this span of another process."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
    from opentelemetry.trace.span import TraceState

    flags = TraceFlags(int(trace[53:55], 16) & 1)
    of = SpanContext(int(trace[3:35], 16), int(span, 16), True, flags, TraceState.from_header([state] if state else []))
    return set_span_in_context(NonRecordingSpan(of))


@define(eq=False, repr=False)
class Tracing:
    """Makes spans, where OpenTelemetry is installed. `station`: the name of the station, on each of them; `off`: make
    none.
    """

    station: str = ""
    off: bool = False
    _tracer: Any = field(init=False, default=None)
    _kinds: Any = field(init=False, default=None)

    def begin(self) -> None:
        """Look for OpenTelemetry. Until then, no spans are made."""
        with contextlib.suppress(ImportError):
            from opentelemetry import trace

            self._tracer, self._kinds = trace.get_tracer("portcall", VERSION), trace.SpanKind

    def launch(self, given: TraceContext | None, attributes: Attributes) -> Span | None:
        """The span of a launch: below `given`, or below the application's current span if there is one."""
        if self._tracer is None or self.off:
            return None
        within = None if given is None else _parent(given.traceparent, given.traceparent[36:52], given.tracestate)
        return self._start("launch", within, "INTERNAL", attributes)

    def start(
        self,
        name: str,
        under: TraceContext | None,
        attributes: Attributes,
        kind: str = "INTERNAL",
        of_hop: bool = False,
    ) -> Span | None:
        """A span of a journey; None if it has no context, or nothing makes spans.

        `kind`: of OpenTelemetry; `of_hop`: below the hop that the context names
        """
        if under is None or self._tracer is None or self.off:
            return None
        span = under.hop if of_hop and under.hop else under.traceparent[36:52]
        return self._start(name, _parent(under.traceparent, span, under.tracestate), kind, attributes)

    def _start(self, name: str, within: Any, kind: str, attributes: Attributes) -> Span:
        said = {**attributes, "portcall.station": self.station}
        return Span(self._tracer.start_span(name, within, self._kinds[kind], said))

    def current(self) -> TraceContext | None:
        """The context of the application's current span, if there is one."""
        if self._tracer is None:
            return None
        from opentelemetry.trace import get_current_span

        return _written(get_current_span().get_span_context())


def for_hop(trace: TraceContext | None, span: Span | None) -> TraceContext | None:
    """The context as an offer has it: with the span of the hop."""
    of_hop = None if span is None else span.context()
    if trace is None:
        return None
    return evolve(trace, hop="" if of_hop is None else of_hop.traceparent[36:52])


def encoded_current() -> bytes:
    """The context of the application's current span, encoded; empty if there is none."""
    tracing = Tracing()
    tracing.begin()
    found = tracing.current()
    return b"" if found is None else found.encode()
