"""AgentImage: what an agent is, apart from its state. Content-addressed, and shared by many agents.

An image is code (a WebAssembly module, usually rewritten) and a manifest that says how to start it. The
digest of its encoding identifies it, in a passport and everywhere else. The digest of the code alone identifies the
compiled form, so two images with the same interpreter inside are compiled once. *Luggage* is the
first state that an author packs beside an image (a script, files): two Python agents are one image with
two pieces of luggage.

Format only: nothing is compiled, validated or run here. An encoded image is a line with the format's
version and two CBOR byte strings: manifest, code. A packed one, as `portcall pack` writes it, is another
line, then image and luggage, and in version 2 the state of an interpreter that has started. Nothing is
compressed, since a digest must not depend on the version of a compressor (docs/adr/digests-of-plain-bytes).

Invariants: `AgentImage.unpack(i.pack()) == i`; `digest(i.encode()) == i.digest`; decoding raises only
`BadImage` and bounds every size before it copies.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal, get_args
from weakref import WeakValueDictionary

import attrs

from . import canonical
from .canonical import Buffer, DecodeBounds, digest
from .errors import BadImage, ModuleError, NotCanonical
from .rewrite.metadata import METADATA_SECTION, RESUME_SECTION, Metadata, decode_metadata
from .rewrite.options import Polls
from .wasm.decode import custom_section

IMAGE_MAGIC = b"portcall image 1\n"
PACKED_MAGIC = b"portcall packed image 1\n"
STARTED_MAGIC = b"portcall packed image 2\n"  # of a packed image with a state that has started
IMAGE_MAGICS = (IMAGE_MAGIC, PACKED_MAGIC, STARTED_MAGIC)
MAX_CODE_BYTES = 192 << 20  # bytes of code: what a peer can make a station hold for one image
MAX_LUGGAGE_BYTES = 64 << 20  # bytes of luggage, likewise
MAX_TEXT_BYTES = 256  # bytes of UTF-8 in each text of the manifest
_MANIFEST_BOUNDS = DecodeBounds(max_bytes=4096, max_depth=1, max_items=32)

ImageProfile = Literal["standard", "portable", "none"]


@attrs.frozen
class Manifest:
    """How to start an agent.

    name: for people ("agent")
    entry: the export to call first ("_start")
    language: what it was packed from ("wasm")
    profile: how it was rewritten; "none": not at all, so it migrates weakly at best
    polls: where it checks whether it has to leave: "loops", "calls" or "none"
    abi: version of the imports of the module `portcall` (1)
    """

    name: str = "agent"
    entry: str = "_start"
    language: str = "wasm"
    profile: ImageProfile = "none"
    polls: Polls = "none"
    abi: int = 1

    @property
    def interpreted(self) -> bool:
        """Whether it is an interpreter, which cannot be called again over its old memory: no `go_at`, no tasks."""
        return self.language in ("python", "javascript")


@attrs.frozen
class AgentImage:
    """An agent before it runs: code and manifest, and the luggage that its author packed with them.

    manifest: how to start it
    code: the module, rewritten by `agents.pack`
    luggage: the first state of its files, arguments and variables, encoded; empty if it has none
    started: the snapshot of its interpreter, when it has started with this luggage; empty if there is none
    """

    manifest: Manifest
    code: bytes = attrs.field(repr=False)
    luggage: bytes = attrs.field(default=b"", repr=False)
    started: bytes = attrs.field(default=b"", repr=False)

    @cached_property
    def code_digest(self) -> bytes:
        """Identifies the compiled form of the code: 32 bytes."""
        return digest(self.code)

    @cached_property
    def digest(self) -> bytes:
        """Identifies the image: 32 bytes over its encoding, luggage excluded."""
        return digest(*self._parts())

    @cached_property
    def metadata(self) -> Metadata | None:
        """What the rewriter recorded about the code; None if it was not rewritten. Raises `BadImage`."""
        try:
            section = custom_section(self.code, METADATA_SECTION)
        except ModuleError as error:
            raise BadImage(f"the image's code cannot be read: {error}") from None
        return None if section is None else decode_metadata(section)

    @cached_property
    def resumption(self) -> bytes | None:
        """The module that continues the agent's frames; None if there is none beside the code. Raises `BadImage`."""
        try:
            return custom_section(self.code, RESUME_SECTION)
        except ModuleError as error:
            raise BadImage(f"the image's code cannot be read: {error}") from None

    @cached_property
    def resumption_digest(self) -> bytes:
        """Identifies the compiled form of `resumption`."""
        return digest(self.resumption or b"")

    def with_luggage(self, luggage: bytes, started: bytes = b"") -> AgentImage:
        """The same image with other `luggage`, and what it `started` with it."""
        return attrs.evolve(self, luggage=luggage, started=started)

    def encode(self) -> bytes:
        """The bytes that the digest covers: manifest and code."""
        return b"".join(self._parts())

    def _parts(self) -> list[bytes]:
        return [IMAGE_MAGIC, *_string(canonical.encode(attrs.asdict(self.manifest))), *_string(self.code)]

    @classmethod
    def decode(cls, data: Buffer) -> AgentImage:
        """The image that `encode` wrote as `data`, without luggage. Raises `BadImage`.

        Where the same image is in use already, it is that one: its code is in memory, and read, once.
        """
        manifest, code = _strings(data, IMAGE_MAGIC, 2)
        if len(code) > MAX_CODE_BYTES:
            raise BadImage(f"{len(code)} bytes of code; at most {MAX_CODE_BYTES} are accepted")
        made = cls(_manifest(manifest), bytes(code))
        return _in_use.setdefault(made.digest, made)

    def pack(self) -> bytes:
        """The contents of an image file: image and luggage, and the state that has started, if there is one."""
        first = [*_string(self.encode()), *_string(self.luggage)]
        if not self.started:
            return b"".join([PACKED_MAGIC, *first])
        return b"".join([STARTED_MAGIC, *first, *_string(self.started)])

    @classmethod
    def unpack(cls, data: Buffer) -> AgentImage:
        """The image in `data`, the contents of an image file, with its luggage if any. Raises `BadImage`."""
        if data[: len(IMAGE_MAGIC)] == IMAGE_MAGIC:
            return cls.decode(data)
        if data[: len(STARTED_MAGIC)] == STARTED_MAGIC:
            image, *states = _strings(data, STARTED_MAGIC, 3)
        else:
            image, *states = _strings(data, PACKED_MAGIC, 2)
        for state in states:
            if len(state) > MAX_LUGGAGE_BYTES:
                raise BadImage(f"{len(state)} bytes of luggage; at most {MAX_LUGGAGE_BYTES} are accepted")
        return cls.decode(image).with_luggage(*map(bytes, states))


_in_use: WeakValueDictionary[bytes, AgentImage] = WeakValueDictionary()  # by their digests
_CHOICES = {"profile": get_args(ImageProfile), "polls": get_args(Polls)}


def _string(content: bytes) -> tuple[bytes, bytes]:
    return canonical.byte_string_head(len(content)), content


def _strings(data: Buffer, magic: bytes, count: int) -> list[memoryview]:
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
            good = isinstance(field, str) and len(field.encode()) <= MAX_TEXT_BYTES
        if not good:
            raise BadImage(f"the manifest's field {name} is {field!r}")
    return Manifest(**value)
