"""AgentImage: what an agent is, apart from its state. Content-addressed, and shared by many agents.

An image is code (a WebAssembly module, usually rewritten) and a manifest that says how to start it. The
digest of its encoding is its name, in a passport and everywhere. The digest of the code alone names the
compiled form, so that two images with the same interpreter inside are compiled once. *Luggage* is the
first state that an author packs beside an image (a script, files): two Python agents are one image with
two pieces of luggage.

Format only: nothing is compiled, validated or run here. An encoded image is a line with the format's
version and two CBOR byte strings: manifest, code. A packed one, as `portcall pack` writes it: another
line, then image and luggage. Nothing is compressed, since a digest must not depend on the version of a
compressor.

Invariants: `AgentImage.unpack(i.pack()) == i`; `digest(i.encode()) == i.digest`; decoding raises only
`BadImage` and bounds every size before it copies.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal, get_args

import attrs

from . import canonical
from .canonical import Bounds, digest
from .errors import BadImage, ModuleError, NotCanonical
from .rewrite.metadata import SECTION, Metadata, decode_metadata
from .wasm.decode import custom_section

IMAGE = b"portcall image 1\n"
PACKED = b"portcall packed image 1\n"
MAX_CODE = 192 << 20  # bytes of code: what a peer can make a station hold for one image
MAX_LUGGAGE = 64 << 20  # bytes of luggage, likewise
TEXT_MAX = 256  # bytes of UTF-8 in each text of the manifest
_MANIFEST_BOUNDS = Bounds(max_bytes=4096, max_depth=1, max_items=32)

Profile = Literal["standard", "portable", "none"]
Polls = Literal["none", "loops", "calls"]


@attrs.frozen
class Manifest:
    """How to start an agent.

    name: for people; entry: the export that is called first; language: what it was packed from
    profile: how it was rewritten ("none": it was not, and migrates weakly at best)
    polls: where it looks whether it shall leave; abi: version of the imports of module `portcall`
    """

    name: str = "agent"
    entry: str = "_start"
    language: str = "wasm"
    profile: Profile = "none"
    polls: Polls = "none"
    abi: int = 1


@attrs.frozen
class AgentImage:
    """Code and manifest, and the luggage that an author packed with them."""

    manifest: Manifest
    code: bytes = attrs.field(repr=False)
    luggage: bytes = attrs.field(default=b"", repr=False)

    @cached_property
    def code_digest(self) -> bytes:
        """Names the compiled form of the code: 32 bytes."""
        return digest(self.code)

    @cached_property
    def digest(self) -> bytes:
        """Names the image: 32 bytes over its encoding, luggage excluded."""
        return digest(*self._parts())

    @cached_property
    def metadata(self) -> Metadata | None:
        """What the rewriter wrote about the code; None when it was not rewritten. Raises `BadImage`."""
        try:
            section = custom_section(self.code, SECTION)
        except ModuleError as error:
            raise BadImage(f"the image's code cannot be read: {error}") from None
        return None if section is None else decode_metadata(section)

    def with_luggage(self, luggage: bytes) -> AgentImage:
        """The same image beside other luggage."""
        return attrs.evolve(self, luggage=luggage)

    def encode(self) -> bytes:
        """The bytes that the digest is over: manifest and code."""
        return b"".join(self._parts())

    def _parts(self) -> list[bytes]:
        return [IMAGE, *_string(canonical.encode(attrs.asdict(self.manifest))), *_string(self.code)]

    @classmethod
    def decode(cls, data: bytes | memoryview) -> AgentImage:
        """The image that `encode` wrote, without luggage. Raises `BadImage`."""
        manifest, code = _strings(data, IMAGE, 2)
        if len(code) > MAX_CODE:
            raise BadImage(f"{len(code)} bytes of code; at most {MAX_CODE} are accepted")
        return cls(_manifest(manifest), bytes(code))

    def pack(self) -> bytes:
        """The contents of a file: image and luggage."""
        return b"".join([PACKED, *_string(self.encode()), *_string(self.luggage)])

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> AgentImage:
        """The image in a file's contents, with luggage if it has any. Raises `BadImage`."""
        if data[: len(IMAGE)] == IMAGE:
            return cls.decode(data)
        image, luggage = _strings(data, PACKED, 2)
        if len(luggage) > MAX_LUGGAGE:
            raise BadImage(f"{len(luggage)} bytes of luggage; at most {MAX_LUGGAGE} are accepted")
        return cls.decode(image).with_luggage(bytes(luggage))


_CHOICES = {"profile": get_args(Profile), "polls": get_args(Polls)}


def _string(content: bytes) -> tuple[bytes, bytes]:
    return canonical.byte_string_head(len(content)), content


def _strings(data: bytes | memoryview, magic: bytes, count: int) -> list[memoryview]:
    view = memoryview(data)
    if view[: len(magic)] != magic:
        raise BadImage("neither an agent image nor a packed one of format version 1")
    try:
        return canonical.byte_strings(view, len(magic), count)
    except NotCanonical as error:
        raise BadImage(f"not an agent image: {error}") from None


def _manifest(data: memoryview) -> Manifest:
    try:
        value: Any = canonical.decode(data, _MANIFEST_BOUNDS)
    except NotCanonical as error:
        raise BadImage(f"the manifest of an agent image cannot be read: {error}") from None
    names = {field.name for field in attrs.fields(Manifest)}
    if not isinstance(value, dict) or set(value) != names:
        raise BadImage("the manifest's fields are not those of an agent image")
    for name, field in value.items():
        if name == "abi":
            good = type(field) is int and 0 < field < 1 << 16
        elif name in _CHOICES:
            good = field in _CHOICES[name]
        else:
            good = isinstance(field, str) and len(field.encode()) <= TEXT_MAX
        if not good:
            raise BadImage(f"the manifest's field {name} is {field!r}")
    return Manifest(**value)
