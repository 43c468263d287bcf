"""Signed statements: COSE_Sign1 (RFC 9052, section 4.2) with EdDSA (RFC 9053, section 2.2) over deterministic
CBOR.

    18([ << {1: -8, 3: "application/vnd.portcall.KIND+cbor", 4: signer's public key} >>, {}, << payload >>,
    signature ])

The external data of the Sig_structure is `portcall/1`.

Not here: what the payloads mean, and whom to trust.

Invariants:
- A signature for one kind of statement is never one for another: the kind is in the protected header.
- A signature made for another protocol with the same key is never one of ours: the external data differs.
- One statement has one encoding: deterministic CBOR, an empty unprotected header, nothing optional. So a
  digest of the bytes names the statement *and* its signature, and a third party cannot make a second valid
  spelling.
- A `Signed` object exists only for a signature that was verified or just made.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import OrderedDict
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from attrs import evolve, field, frozen

from agents import canonical
from agents.credentials.fields import array, byte_string
from agents.credentials.keys import KEY_SIZE, SIGNATURE_SIZE, PublicKey, SecretKey
from agents.errors import CredentialError, MalformedCredential, NotCanonical

EXTERNAL = b"portcall/1"
_TAG_18 = b"\xd2"
_FOUR, _EMPTY_MAP = _TAG_18 + b"\x84", b"\xa0"  # the beginning of an array of four, and the unprotected header
_ALG, _CONTENT_TYPE, _KID = 1, 3, 4
_EDDSA = -8
# Memory: a statement is held whole. The largest is a passport with an itinerary of a thousand stops.
MAX_STATEMENT = 256 * 1024
BOUNDS = canonical.Bounds(max_bytes=MAX_STATEMENT, max_depth=40, max_items=20_000)
# What is remembered of statements that hold: one that is asked for again (a passport at every hop, a receipt by each
# who builds on it) is not verified again. Bounded, since anybody can make valid statements: 512 of at most 8 KiB.
REMEMBERED, REMEMBERED_SIZE = 512, 8 * 1024
_HEADER_BOUNDS = canonical.Bounds(max_bytes=256, max_depth=2, max_items=16)


class Statement(Protocol):
    """What can be signed: an attrs class with a kind, a payload, and the way back."""

    KIND: ClassVar[str]

    def payload(self) -> dict[int, Any]:
        """The fields as a map that `agents.canonical` encodes."""
        ...


class Readable(Statement, Protocol):
    """A statement that can be read back from its payload."""

    @classmethod
    def from_payload(cls: type[R], value: object) -> R:
        """The statement; `MalformedCredential` if `value` is not its payload."""
        ...


R = TypeVar("R", bound=Readable)
S_co = TypeVar("S_co", bound=Statement, covariant=True)
S = TypeVar("S", bound=Statement)


@frozen
class Signed(Generic[S_co]):
    """A statement whose signature holds. `envelope`: the exact bytes; `digest`: their digest (32 bytes)."""

    envelope: bytes = field(repr=False)
    body: S_co
    signer: PublicKey
    digest: bytes = field(repr=False)


@frozen
class Unverified:
    """An envelope that was taken apart. `kind`, `signer`: what it says of itself; nothing of it is
    verified."""

    kind: str
    signer: PublicKey
    envelope: bytes = field(repr=False)
    protected: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    body: Statement | None = field(default=None, repr=False)
    """What the payload says, if it was foreseen."""


class _Memory:
    """Statements whose signature holds, by their exact bytes; the one not asked for the longest goes first. What was
    signed here may be in it without its body: whether that can be read is then for `verify` to find out. From any
    thread.

    Only a shortcut: verification is a function of the bytes, so nothing that is said here can become wrong.
    """

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, tuple[Unverified, Signed[Any] | None]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, envelope: object) -> tuple[Unverified, Signed[Any] | None] | None:
        if type(envelope) is not bytes:
            return None
        with self._lock:
            found = self._held.get(envelope)
            if found is not None:
                self._held.move_to_end(envelope)
            return found

    def put(self, what: Unverified, signed: Signed[Any] | None) -> None:
        if type(what.envelope) is bytes and len(what.envelope) <= REMEMBERED_SIZE:
            with self._lock:
                self._held[what.envelope] = what, signed
                if len(self._held) > REMEMBERED:
                    self._held.popitem(last=False)


_MEMORY = _Memory()


# What somebody else is about to sign, by all of its bytes that come before the signature: these say all but whether it
# holds. The one foreseen longest ago goes first.
_FORESEEN: OrderedDict[bytes, Unverified] = OrderedDict()


def sign(body: S, key: SecretKey, readable: bool = False) -> Signed[S]:
    """Sign `body` with `key`. The same body and key always give the same bytes.

    `readable`: its fields are known to be within their bounds, so `verify` need not read it back to believe that."""
    protected = _protected(body.KIND, key.public)
    payload = canonical.encode(body.payload())
    signature = key.sign(_to_be_signed(protected, payload))
    envelope = _unsigned(protected, payload) + signature
    if len(envelope) > MAX_STATEMENT:
        raise MalformedCredential(f"a {body.KIND} of {len(envelope)} bytes; at most {MAX_STATEMENT} are allowed")
    signed = Signed(envelope, body, key.public, canonical.digest(envelope))
    _MEMORY.put(
        Unverified(body.KIND, key.public, envelope, protected, payload, signature), signed if readable else None
    )
    return signed


def foresee(body: Statement, signer: PublicKey) -> None:
    """`signer` is about to sign `body`, whose fields are within their bounds: then only the signature is to be
    verified. Of use where a moment is free before it comes, and nothing but a shortcut."""
    protected, payload = _protected(body.KIND, signer), canonical.encode(body.payload())
    unsigned = _unsigned(protected, payload)
    _FORESEEN[unsigned] = Unverified(body.KIND, signer, unsigned, protected, payload, b"", body)
    if len(_FORESEEN) > REMEMBERED:
        with contextlib.suppress(KeyError):  # another thread was quicker
            _FORESEEN.popitem(last=False)


def verify(cls: type[R], envelope: bytes | Unverified, signer: PublicKey | None = None) -> Signed[R]:
    """Check that `envelope` is a statement of type `cls` with a valid signature.

    `signer`: who must have signed; None takes the key the envelope names, and the caller compares it with the
    body. Raises `MalformedCredential`; `CredentialError` with code `signature` (wrong bytes) or `signer`
    (another key)."""
    what = envelope if isinstance(envelope, Unverified) else peek(envelope)
    if what.kind != cls.KIND:
        raise MalformedCredential(f"this is a {what.kind}, and a {cls.KIND} was expected")
    if signer is not None and what.signer != signer:
        raise CredentialError("signer", f"the {cls.KIND} is signed by {what.signer}, and {signer} was expected")
    known = _MEMORY.get(what.envelope)
    if known is not None and known[1] is not None and type(known[1].body) is cls:
        return known[1]
    if known is None and not what.signer.verify(what.signature, _to_be_signed(what.protected, what.payload)):
        raise CredentialError("signature", f"the signature of the {cls.KIND} by {what.signer} does not hold")
    body = what.body if type(what.body) is cls else cls.from_payload(decode(what.payload, BOUNDS, cls.KIND))
    signed = Signed(what.envelope, body, what.signer, canonical.digest(what.envelope))
    _MEMORY.put(what, signed)
    return signed


def peek(envelope: bytes) -> Unverified:
    """Take an envelope apart, without verifying anything. `MalformedCredential` if it is none."""
    known = _MEMORY.get(envelope)
    if known is not None:
        return known[0]
    # Endless statements: the size is known before anything is decoded.
    if len(envelope) > MAX_STATEMENT:
        raise MalformedCredential(f"a statement of {len(envelope)} bytes; at most {MAX_STATEMENT} are read")
    foreseen = _FORESEEN.pop(envelope[:-SIGNATURE_SIZE], None) if type(envelope) is bytes else None
    if foreseen is not None:
        return evolve(foreseen, envelope=envelope, signature=envelope[-SIGNATURE_SIZE:])
    if envelope[:1] != _TAG_18:
        raise MalformedCredential("not a COSE_Sign1 message (CBOR tag 18)")
    parts = array(decode(envelope[1:], BOUNDS, "envelope"), "envelope", 4)
    if len(parts) != 4 or parts[1] != {} or not isinstance(parts[1], dict):
        raise MalformedCredential("envelope: not four parts with an empty unprotected header")
    protected = byte_string(parts[0], "envelope: protected header", 1, 256)
    payload = byte_string(parts[2], "envelope: payload", 1, MAX_STATEMENT)
    signature = byte_string(parts[3], "envelope: signature", SIGNATURE_SIZE)
    return Unverified(*_header(protected), envelope, protected, payload, signature)


def decode(data: bytes | memoryview, bounds: canonical.Bounds, what: str) -> Any:
    """Decode deterministic CBOR; `MalformedCredential` (with the reason) instead of `NotCanonical`."""
    try:
        return canonical.decode(data, bounds)
    except NotCanonical as error:
        raise MalformedCredential(f"{what}: {error}") from error


def identify(domain: str, *parts: object) -> bytes:
    """A digest (32 bytes) of `parts` that no other domain can give: names agents, clones and handoffs."""
    return canonical.digest(canonical.encode([f"portcall {domain}", *parts]))


def _unsigned(protected: bytes, payload: bytes) -> bytes:
    """An envelope up to its signature."""
    return b"".join((_FOUR, _string(protected), _EMPTY_MAP, _string(payload), _SIGNATURE_HEAD))


def _string(data: bytes) -> bytes:
    return canonical.byte_string_head(len(data)) + data


# A station signs few kinds of statement with one key, and meets few others: bounded, since anyone can make up keys.
@functools.lru_cache(maxsize=512)
def _protected(kind: str, signer: PublicKey) -> bytes:
    header = {_ALG: _EDDSA, _CONTENT_TYPE: f"application/vnd.portcall.{kind}+cbor", _KID: signer.raw}
    return canonical.encode(header)


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return b"".join((_SIGNATURE1, _string(protected), _EXTERNAL, _string(payload)))


_SIGNATURE_HEAD = canonical.byte_string_head(SIGNATURE_SIZE)
_SIGNATURE1 = b"\x84" + canonical.encode("Signature1")
_EXTERNAL = canonical.encode(EXTERNAL)


@functools.lru_cache(maxsize=512)
def _header(protected: bytes) -> tuple[str, PublicKey]:
    value = decode(protected, _HEADER_BOUNDS, "protected header")
    # Algorithm confusion: the only algorithm is EdDSA, and a header with anything more or less is refused.
    if not isinstance(value, dict) or value.keys() != {_ALG, _CONTENT_TYPE, _KID} or value[_ALG] != _EDDSA:
        raise MalformedCredential("protected header: not EdDSA with a content type and a key")
    content = value[_CONTENT_TYPE]
    if not isinstance(content, str) or not content.startswith("application/vnd.portcall."):
        raise MalformedCredential("protected header: not a Portcall content type")
    kind = content.removeprefix("application/vnd.portcall.").removesuffix("+cbor")
    signer = PublicKey(byte_string(value[_KID], "protected header: key", KEY_SIZE))
    # One spelling only, and a kind that cannot write control characters into an error.
    if not (kind.isascii() and kind.replace("-", "").isalpha()) or protected != _protected(kind, signer):
        raise MalformedCredential("protected header: not in its one spelling")
    return kind, signer
