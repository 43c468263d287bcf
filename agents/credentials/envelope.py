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

from attrs import field, frozen

from agents import canonical
from agents.credentials.fields import array, byte_string
from agents.credentials.keys import KEY_SIZE, SIGNATURE_SIZE, PublicKey, SecretKey, public_key
from agents.errors import CredentialError, MalformedCredential, NotCanonical
from agents.evolve import evolve

EXTERNAL_DATA = b"portcall/1"
_TAG_18 = b"\xd2"
_FOUR, _EMPTY_MAP = _TAG_18 + b"\x84", b"\xa0"  # the beginning of an array of four, and the unprotected header
_ALG, _CONTENT_TYPE, _KID = 1, 3, 4
_EDDSA = -8
# Bounds memory: a statement is held whole. The largest is a result of 1 MiB; a passport with an itinerary of a thousand
# stops has a quarter of that.
MAX_STATEMENT_BYTES = 1280 * 1024
STATEMENT_BOUNDS = canonical.DecodeBounds(max_bytes=MAX_STATEMENT_BYTES, max_depth=40, max_items=20_000)
# A cache of verified statements: one that comes again (a passport at every hop, a receipt at each verifier of what
# builds on it) is not verified again. Bounded, since anybody can make valid statements: 512 of at most 8 KiB.
REMEMBERED_STATEMENTS, REMEMBERED_STATEMENT_BYTES = 512, 8 * 1024
_HEADER_BOUNDS = canonical.DecodeBounds(max_bytes=256, max_depth=2, max_items=16)


class Statement(Protocol):
    """Something that can be signed: an attrs class with a kind, a payload, and the inverse."""

    KIND: ClassVar[str]

    def payload(self) -> dict[int, Any]:
        """The fields as a map that `agents.canonical` encodes. Its keys ascend, and those of maps in it."""
        ...


class Readable(Statement, Protocol):
    """A statement that can be read back from its payload."""

    @classmethod
    def from_payload(cls: type[R], value: object) -> R:
        """The statement. Raises `MalformedCredential` if `value` is not its payload."""
        ...


R = TypeVar("R", bound=Readable)
S_co = TypeVar("S_co", bound=Statement, covariant=True)
S = TypeVar("S", bound=Statement)


@frozen
class Signed(Generic[S_co]):
    """A statement with a valid signature. `envelope`: the exact bytes; `digest`: their digest (32 bytes)."""

    envelope: bytes = field(repr=False)
    body: S_co
    signer: PublicKey
    digest: bytes = field(repr=False)

    @property
    def kind(self) -> str:
        """The statement's kind."""
        return self.body.KIND


@frozen
class Unverified:
    """A parsed envelope. `kind`, `signer`: what it claims; nothing of it is verified."""

    kind: str
    signer: PublicKey
    envelope: bytes = field(repr=False)
    protected: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    body: Statement | None = field(default=None, repr=False)
    """The statement in the payload, if it was foreseen."""


class _Memory:
    """A cache of statements with valid signatures, by their exact bytes; evicts the least recently used. Thread-safe.

    What was signed here may be in it without its body: whether that can be read is then for `verify` to find out.
    The cache is only a shortcut: verification is a function of the bytes, so no entry can become wrong.
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
        if type(what.envelope) is bytes and len(what.envelope) <= REMEMBERED_STATEMENT_BYTES:
            with self._lock:
                self._held[what.envelope] = what, signed
                if len(self._held) > REMEMBERED_STATEMENTS:
                    self._held.popitem(last=False)


_MEMORY = _Memory()


# What somebody else is about to sign, by all bytes before the signature: these determine everything but whether the
# signature is valid. Evicts the oldest.
_FORESEEN: OrderedDict[bytes, Unverified] = OrderedDict()


def sign(body: S, key: SecretKey, readable: bool = False) -> Signed[S]:
    """Sign `body` with `key`. The same body and key always give the same bytes.

    `readable`: its fields are known to be within their bounds, so `verify` need not read it back to check."""
    protected = _protected(body.KIND, key.public)
    payload = canonical.encode(body.payload(), ordered=True)
    signature = key.sign(_to_be_signed(protected, payload))
    envelope = _unsigned(protected, payload) + signature
    if len(envelope) > MAX_STATEMENT_BYTES:
        raise MalformedCredential(f"a {body.KIND} of {len(envelope)} bytes; at most {MAX_STATEMENT_BYTES} are allowed")
    signed = Signed(envelope, body, key.public, canonical.digest(envelope))
    _MEMORY.put(
        Unverified(body.KIND, key.public, envelope, protected, payload, signature), signed if readable else None
    )
    return signed


def foresee(body: Statement, signer: PublicKey) -> None:
    """Prepare for `signer` to sign `body`, whose fields are within their bounds: later only the signature is verified.

    Useful when there is idle time before it comes; only a shortcut (docs/adr/begun-at-once-and-looked-out-for)."""
    protected, payload = _protected(body.KIND, signer), canonical.encode(body.payload(), ordered=True)
    unsigned = _unsigned(protected, payload)
    _FORESEEN[unsigned] = Unverified(body.KIND, signer, unsigned, protected, payload, b"", body)
    if len(_FORESEEN) > REMEMBERED_STATEMENTS:
        with contextlib.suppress(KeyError):  # another thread was faster
            _FORESEEN.popitem(last=False)


def verify(cls: type[R], envelope: bytes | Unverified | Signed[Any], signer: PublicKey | None = None) -> Signed[R]:
    """Check that `envelope` is a statement of type `cls` with a valid signature.

    `envelope`: as bytes, or as returned by `look`. `signer`: who must have signed; None takes the key that the envelope
    names, and the caller compares it with the body. Raises `MalformedCredential`; `CredentialError` with code
    `signature` (wrong bytes) or `signer` (another key)."""
    what = envelope if isinstance(envelope, Unverified | Signed) else look(envelope)
    read = isinstance(what, Signed) and type(what.body) is cls
    if not read and what.kind != cls.KIND:
        raise MalformedCredential(f"this is a {what.kind}, and a {cls.KIND} was expected")
    if signer is not None and what.signer != signer:
        raise CredentialError("signer", f"the {cls.KIND} is signed by {what.signer}, and {signer} was expected")
    if isinstance(what, Signed):
        if read:
            return what
        what = peek(what.envelope)
    known = _MEMORY.get(what.envelope)
    if known is not None and known[1] is not None and type(known[1].body) is cls:
        return known[1]
    if known is None and not what.signer.verify(what.signature, _to_be_signed(what.protected, what.payload)):
        raise CredentialError("signature", f"the signature of the {cls.KIND} by {what.signer} does not hold")
    body = (
        what.body
        if type(what.body) is cls
        else cls.from_payload(decode_signed(what.payload, STATEMENT_BOUNDS, cls.KIND))
    )
    signed = Signed(what.envelope, body, what.signer, canonical.digest(what.envelope))
    _MEMORY.put(what, signed)
    return signed


def peek(envelope: bytes) -> Unverified:
    """Parse an envelope without verifying anything. Raises `MalformedCredential`."""
    known = _MEMORY.get(envelope)
    return known[0] if known is not None else _apart(envelope)


def look(envelope: bytes) -> Unverified | Signed[Any]:
    """The statement, if it is in the cache of valid ones and was read; otherwise as `peek`."""
    known = _MEMORY.get(envelope)
    return _apart(envelope) if known is None else known[1] or known[0]


def _apart(envelope: bytes) -> Unverified:
    # Check the size before anything is decoded.
    if len(envelope) > MAX_STATEMENT_BYTES:
        raise MalformedCredential(f"a statement of {len(envelope)} bytes; at most {MAX_STATEMENT_BYTES} are read")
    foreseen = _FORESEEN.pop(envelope[:-SIGNATURE_SIZE], None) if type(envelope) is bytes else None
    if foreseen is not None:
        return evolve(foreseen, envelope=envelope, signature=envelope[-SIGNATURE_SIZE:])
    if envelope[:1] != _TAG_18:
        raise MalformedCredential("not a COSE_Sign1 message (CBOR tag 18)")
    parts = array(decode_signed(envelope[1:], STATEMENT_BOUNDS, "envelope"), "envelope", 4)
    if len(parts) != 4 or parts[1] != {} or not isinstance(parts[1], dict):
        raise MalformedCredential("envelope: not four parts with an empty unprotected header")
    protected = byte_string(parts[0], "envelope: protected header", 1, 256)
    payload = byte_string(parts[2], "envelope: payload", 1, MAX_STATEMENT_BYTES)
    signature = byte_string(parts[3], "envelope: signature", SIGNATURE_SIZE)
    return Unverified(*_header(protected), envelope, protected, payload, signature)


def decode_signed(data: canonical.Buffer, bounds: canonical.DecodeBounds, what: str) -> Any:
    """Decode deterministic CBOR; raises `MalformedCredential`, with the reason, instead of `NotCanonical`."""
    try:
        return canonical.decode(data, bounds)
    except NotCanonical as error:
        raise MalformedCredential(f"{what}: {error}") from error


def identify(domain: str, *parts: object) -> bytes:
    """A digest (32 bytes) of `parts` that no other domain can produce: identifies agents, clones and handoffs."""
    return canonical.digest(canonical.encode([f"portcall {domain}", *parts]))


def _unsigned(protected: bytes, payload: bytes) -> bytes:
    """An envelope up to its signature."""
    return b"".join((_FOUR, _string(protected), _EMPTY_MAP, _string(payload), _SIGNATURE_HEAD))


def _string(data: bytes) -> bytes:
    size = len(data)
    if 256 <= size < 65536:  # most payloads, and most protected headers
        return b"\x59" + size.to_bytes(2, "big") + data
    return b"\x58" + size.to_bytes(1, "big") + data if 24 <= size < 256 else canonical.byte_string_head(size) + data


# A station signs few kinds of statement with one key, and meets few others. Bounded: anyone can make up keys.
@functools.lru_cache(maxsize=512)
def _protected(kind: str, signer: PublicKey) -> bytes:
    header = {_ALG: _EDDSA, _CONTENT_TYPE: f"application/vnd.portcall.{kind}+cbor", _KID: signer.raw}
    return canonical.encode(header)


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return b"".join((_SIGNATURE1, _string(protected), _EXTERNAL, _string(payload)))


_SIGNATURE_HEAD = canonical.byte_string_head(SIGNATURE_SIZE)
_SIGNATURE1 = b"\x84" + canonical.encode("Signature1")
_EXTERNAL = canonical.encode(EXTERNAL_DATA)


@functools.lru_cache(maxsize=512)
def _header(protected: bytes) -> tuple[str, PublicKey]:
    value = decode_signed(protected, _HEADER_BOUNDS, "protected header")
    # Against algorithm confusion: the only algorithm is EdDSA, and any other set of header fields is refused.
    if not isinstance(value, dict) or value.keys() != {_ALG, _CONTENT_TYPE, _KID} or value[_ALG] != _EDDSA:
        raise MalformedCredential("protected header: not EdDSA with a content type and a key")
    content = value[_CONTENT_TYPE]
    if not isinstance(content, str) or not content.startswith("application/vnd.portcall."):
        raise MalformedCredential("protected header: not a Portcall content type")
    kind = content.removeprefix("application/vnd.portcall.").removesuffix("+cbor")
    signer = public_key(byte_string(value[_KID], "protected header: key", KEY_SIZE))
    # Only one encoding, and a kind that cannot put control characters into an error message.
    if not (kind.isascii() and kind.replace("-", "").isalpha()) or protected != _protected(kind, signer):
        raise MalformedCredential("protected header: not in its one spelling")
    return kind, signer
