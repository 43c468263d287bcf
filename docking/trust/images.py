"""Images at this station: all of them in the store, those in use in memory. The engine compiles one on first admission.

What continues a suspended agent is a module of its own in the image (the resume module). It is compiled before the
first agent with that image arrives or is recovered; an agent that is launched needs it when it first goes on, and pays
then.

Invariant: an image is in the store only if it was validated here, including compiling and linking, so its digest alone
shows that it may run; what arrives was validated with its resume module.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from attrs import define, field

from agents.binding import bind, prepare_program
from agents.budget import spent_ns
from agents.canonical import Buffer
from agents.engines import CompileLimits, Engine
from agents.errors import BadImage, ModuleError
from agents.image import AgentImage
from docking.aio.threads import Daemons, in_thread
from docking.store.store import Store
from docking.trust.policy import Policy

T = TypeVar("T")
# Bytes of encoded images kept in memory for the next departure or arrival.
KEPT_IMAGE_BYTES = 64 << 20
# Bytes of address space that a compiler needs, whatever it compiles.
COMPILER_BYTES = 768 << 20
# Images for which it is remembered what they cost, until an agent comes that pays.
COSTS = 256
# Images that are compiled or wait for that at once, unless that takes little: who brings more is asked to come again.
COMPILING = 8
# Images of which it is remembered that their resume modules were compiled.
RESUMABLE = 4096
# Bytes of an image of which it is looked at how long it may take to compile.
LITTLE = 64 << 10


def _limits(policy: Policy, cpu_us: int) -> CompileLimits:
    """What compiling may take: as much as running, by the policy."""
    most = CompileLimits()
    memory = max(COMPILER_BYTES, min(policy.memory, most.memory))
    return CompileLimits(cpu_ns=min(1000 * cpu_us, most.cpu_ns), memory=memory)


@define(eq=False, repr=False)
class Images:
    """The images of one station. Thread-safe; `digest in images` says whether that image may run here."""

    _store: Store
    _engine: Engine
    _kept: OrderedDict[bytes, tuple[AgentImage, bytes]] = field(factory=OrderedDict)
    _cost: dict[bytes, int] = field(factory=dict)
    _resumable: set[bytes] = field(factory=set)
    _compiling: Daemons = field(factory=lambda: Daemons(COMPILING, "portcall-compile"))
    _lock: threading.Lock = field(factory=threading.Lock)

    def __contains__(self, digest: object) -> bool:
        return digest in self._kept or (isinstance(digest, bytes) and self._store.has_part(digest))

    def validate(self, encoded: Buffer, policy: Policy, cpu_us: int | None = None) -> AgentImage:
        """The image in these bytes, if it can run here. Compiling may take as much as running, by the policy or less.

        Raises `BadImage`, `EngineError`.
        """
        began = spent_ns()
        image = AgentImage.decode(encoded)
        metadata = image.metadata
        if metadata is not None and metadata.profile not in self._engine.profiles:
            raise BadImage(f"the image's profile {metadata.profile} does not run on {self._engine.name}")
        limits = _limits(policy, policy.budget.cpu if cpu_us is None else cpu_us)
        program = self._engine.program(image.code, image.code_digest, limits=limits)
        bind(program, prepare_program(program, metadata), {})
        self.keep(image, bytes(encoded))
        self._costs(image, began)
        return image

    def validate_resuming(self, image: AgentImage, policy: Policy) -> None:
        """Whether suspended agents with this image, which is valid, can go on here. Limits and errors of `validate`."""
        if image.digest in self._resumable:
            return
        code = image.resumption
        if code is not None:
            began = spent_ns()
            limits = _limits(policy, policy.budget.cpu)
            program = self._engine.program(image.code, image.code_digest, limits=limits)
            self._engine.extension(program, code, image.resumption_digest, limits=limits)
            self._costs(image, began)
        with self._lock:
            if len(self._resumable) >= RESUMABLE:
                self._resumable.clear()
            self._resumable.add(image.digest)

    def _costs(self, image: AgentImage, began: int) -> None:
        """Remember what was done for the agent that brings an image, since `began`."""
        with self._lock:
            if len(self._cost) >= COSTS:
                self._cost.clear()
            self._cost[image.digest] = self._cost.get(image.digest, 0) - ((began - spent_ns()) // 1000)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """The result of a function that compiles an image. Raises `NoThread`: too many do so at once."""
        return await self._compiling.run(function, *args)

    def aside(self, digest: bytes, encoded: Buffer | None) -> Callable[..., Awaitable[Any]] | None:
        """What runs a function that validates this image for an arrival outside the event loop; None if it is valid
        already, or neither here nor in `encoded`.

        One that takes little waits for none that takes long: these have threads of their own.
        """
        if digest in self._resumable and digest in self:
            return None
        try:
            image = None
            if digest in self:
                found = self.get(digest)
                image = None if found is None else found[0]
            elif encoded is None:
                return None
            elif len(encoded) <= LITTLE:
                image = AgentImage.decode(bytes(encoded))
            little = image is not None and all(map(self._engine.quick, filter(None, (image.code, image.resumption))))
        except (BadImage, ModuleError):
            little = True  # it is refused
        return in_thread if little else self.run

    def cost_us(self, digest: bytes) -> int:
        """What validating this image took, in microseconds: told once, for the agent that brought it."""
        with self._lock:
            return self._cost.pop(digest, 0)

    def keep(self, image: AgentImage, encoded: bytes) -> None:
        """Keep it in memory."""
        with self._lock:
            self._kept[image.digest] = (image, encoded)
            self._kept.move_to_end(image.digest)
            total = sum(len(data) for _, data in self._kept.values())
            while total > KEPT_IMAGE_BYTES and len(self._kept) > 1:
                total -= len(self._kept.popitem(last=False)[1][1])

    def get(self, digest: bytes) -> tuple[AgentImage, bytes] | None:
        """The image with this digest and its encoded bytes, or None."""
        with self._lock:
            found = self._kept.get(digest)
            if found is not None:
                self._kept.move_to_end(digest)
                return found
        encoded = self._store.part(digest)
        if encoded is None:
            return None
        image = AgentImage.decode(encoded)
        if image.digest != digest:
            raise BadImage("the image was damaged in the store")
        self.keep(image, encoded)
        return image, encoded
