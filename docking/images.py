"""Images that are here: in the store, and those in use in memory; compiled by the engine when first admitted.

Invariant: an image is in the store only if it was validated here, compiled and linked included; so its digest alone
says that it may run.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from attrs import define, field

from agents.binding import bind, prepare
from agents.engines import Engine
from agents.errors import BadImage
from agents.image import AgentImage
from docking.store import Store

# Encoded images kept in memory, in bytes, for the next departure or arrival.
KEPT = 64 << 20


@define(eq=False)
class Images:
    """The images of one station. From any thread; `in` says whether a digest may run here."""

    _store: Store
    _engine: Engine
    _kept: OrderedDict[bytes, tuple[AgentImage, bytes]] = field(factory=OrderedDict)
    _lock: threading.Lock = field(factory=threading.Lock)

    def __contains__(self, digest: object) -> bool:
        return digest in self._kept or (isinstance(digest, bytes) and self._store.has_part(digest))

    def validate(self, encoded: bytes | memoryview) -> AgentImage:
        """The image in these bytes, if it can run here. Raises `BadImage`, `EngineError`. Takes its time."""
        image = AgentImage.decode(encoded)
        metadata = image.metadata
        if metadata is not None and metadata.profile not in self._engine.profiles:
            raise BadImage(f"the image's profile {metadata.profile} does not run on {self._engine.name}")
        program = self._engine.program(image.code, image.code_digest)
        bind(program, prepare(program, metadata), {})
        self.keep(image, bytes(encoded))
        return image

    def keep(self, image: AgentImage, encoded: bytes) -> None:
        """Have it at hand."""
        with self._lock:
            self._kept[image.digest] = (image, encoded)
            self._kept.move_to_end(image.digest)
            total = sum(len(data) for _, data in self._kept.values())
            while total > KEPT and len(self._kept) > 1:
                total -= len(self._kept.popitem(last=False)[1][1])

    def get(self, digest: bytes) -> tuple[AgentImage, bytes] | None:
        """The image of this digest, and its bytes."""
        with self._lock:
            found = self._kept.get(digest)
            if found is not None:
                self._kept.move_to_end(digest)
                return found
        encoded = self._store.part(digest)
        if encoded is None:
            return None
        image = AgentImage.decode(encoded)
        self.keep(image, encoded)
        return image, encoded
