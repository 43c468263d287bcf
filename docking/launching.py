"""The owner's side of a launch: passport, opening of the results, first state. Pure: times and random bytes are passed.

Not here: the launch itself (the station does that), and packing. Invariant: a prepared launch is consistent and signed
by the owner: image, state, itinerary and permit belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import evolve, field, frozen

from agents import canonical
from agents.brief import brief
from agents.credentials.amendments import AMENDMENT_NONCE_SIZE, Amendment, Change, Upgrade, sign_amendment
from agents.credentials.itinerary import Itinerary
from agents.credentials.keys import SecretKey
from agents.credentials.passport import MAX_LABEL_BYTES, PASSPORT_NONCE_SIZE, Clones, Home, Passport, issue
from agents.credentials.permit import Budget, Permit
from agents.credentials.results import begin_results
from agents.errors import BadSnapshot, CallFailed
from agents.heap import sized
from agents.image import AgentImage
from agents.renamed import renamed
from agents.snapshot import Snapshot, started_state
from agents.wasi.state import WasiState
from agents.wasm.decode import decode_module
from docking.errors import StationError, TasksRefused
from docking.trust.policy import DEFAULT_BUDGET, GIB

HOUR_MS = 3_600_000
DEFAULT_PERMIT = Permit(
    Budget(cpu=60 * 10**6, memory=DEFAULT_BUDGET.memory, carried=4 * GIB, messages=100_000),
    ("dir:*", "host:*", "service:*"),
)
DEFAULT_HOPS = 10_000
DEFAULT_CLONES = Clones(16, 2)


@renamed(lifetime="lifetime_ms")
@frozen
class Terms:
    """What an owner allows an agent, to be signed into its passport.

    permit: capabilities and budget, see `docking.Permit`; the default allows all that stations offer, and a minute of
        CPU time, 64 MiB of memory, 4 GiB carried and 100,000 messages
    lifetime_ms: milliseconds from the launch until the passport expires (a day); the old name `lifetime` works too
    hops: the maximum number of moves (10,000)
    clones: the maximum number of clones of one agent, and how deep they may nest (16, 2)
    label: a name for people, up to 64 bytes; empty for the name of its image
    lease_ms: milliseconds that it may live without a renewal by its home; 0: until its passport expires
    """

    permit: Permit = DEFAULT_PERMIT
    lifetime_ms: int = 24 * HOUR_MS
    hops: int = DEFAULT_HOPS
    clones: Clones = DEFAULT_CLONES
    label: str = ""
    lease_ms: int = 0


@frozen
class Launch:
    """What a station needs to start an agent. `passport`, `opening`: envelopes; `image`, `state`: encoded."""

    passport: bytes = field(repr=brief)
    opening: bytes = field(repr=brief)
    image: bytes = field(repr=brief)
    state: bytes = field(repr=brief)


def first_state(
    image: AgentImage, args: Sequence[str] = (), entry: str | None = None, memory: int | None = None
) -> bytes:
    """An agent's first state. `args`: command line arguments, after the program's own name.

    `memory`: the owner's memory limit in bytes, for interpreters that need to know it; None if not specified.
    Raises `StationError` if the luggage cannot be read.
    """
    try:
        started = started_state(image, entry=entry)
    except BadSnapshot as error:
        raise StationError(f"the interpreter in the image cannot be taken up: {error}") from error
    wasi = image.luggage if started is None else started.wasi
    if args or (wasi and memory is not None):
        try:
            state = WasiState.read(wasi) if wasi else WasiState.launch([image.manifest.name])
            if memory is not None:
                state.args = tuple(sized(state.args, memory))
            state.equip(args)
        except BadSnapshot as error:
            raise StationError(f"the luggage of the image cannot be read: {error}") from error
        except CallFailed as error:
            raise StationError(f"the agent cannot begin: {error.reason}") from error
        wasi = canonical.encode(state.encode())
    if started is not None:
        return evolve(started, wasi=wasi).encode()
    return Snapshot(image.digest, entry or image.manifest.entry, wasi=wasi).encode()


def label_of(text: str) -> str:
    """`text`, such as a file name, made a valid passport label: printable, 1 to `MAX_LABEL_BYTES` bytes of UTF-8."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown.encode()[:MAX_LABEL_BYTES].decode(errors="ignore") or "agent"


def image_of(image: AgentImage | bytes) -> AgentImage:
    """An image, or the one in the contents of an image file. Raises `FormatError`, TypeError for anything else."""
    if isinstance(image, AgentImage):
        return image
    if not isinstance(image, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"image is what agents.pack(Path(...)) made, or the bytes of an image file, not {type(image).__name__}"
        )
    return AgentImage.unpack(image)


def _check_tasks(image: AgentImage, itinerary: Itinerary) -> None:
    """Raises `TasksRefused` for a task that the agent does not have."""
    wanted = itinerary.all_tasks
    if not wanted:
        return
    if image.manifest.interpreted:
        itself = "portcall.tour(FUNCTION)" if image.manifest.language == "python" else "portcall.go('next')"
        raise TasksRefused(
            "no-tasks",
            "the agent is a script, and stations call only exports of WebAssembly modules: let the script go along its "
            f"way by itself, with {itself}, and name its stops without tasks",
        )
    if image.metadata is None:
        raise TasksRefused("no-tasks", "the agent was packed so that nothing can suspend it: it cannot travel by tasks")
    module = decode_module(image.code)
    kinds = {each.name: each for each in module.exports if each.kind == "func"}
    for task in sorted(wanted):
        if task not in kinds:
            own = sorted(name for name in kinds if not name.startswith("portcall."))
            known = ", ".join(own)[:300]
            said = f"the agent exports no function {task!r}, which its itinerary names as a task: {known}"
            raise TasksRefused("no-such-task", said)
        if module.func_type(kinds[task].index).params:
            said = f"the task {task!r} takes parameters: a task is an export without any"
            raise TasksRefused("task-parameters", said)


def prepare_launch(
    image: AgentImage,
    owner: SecretKey,
    home: Home,
    itinerary: Itinerary,
    terms: Terms,
    now: int,
    random: Callable[[int], bytes],
    args: Sequence[str] = (),
    encoded: bytes | None = None,
) -> Launch:
    """Sign an agent. `now`: ms; `encoded`: the image's encoding, where it is at hand.

    Raises `CredentialError` for what cannot be signed, `StationError`, TypeError.
    """
    if not isinstance(owner, SecretKey):
        raise TypeError(
            f"owner is the docking.SecretKey that signs the agent, not {type(owner).__name__}: docking.keys.load(NAME)"
        )
    if isinstance(args, (str, bytes)):
        raise TypeError(f"args is a list of arguments, not {type(args).__name__}: args=[{args!r}]")
    memory = terms.permit.budget.memory
    _check_tasks(image, itinerary)
    # Where the itinerary begins elsewhere, nothing is called at home.
    first = next(iter(sorted(itinerary.tasks(itinerary.begin(home.station, now)))), None)
    state = first_state(image, args, first, memory=None if memory == DEFAULT_PERMIT.budget.memory else memory)
    passport = Passport(
        owner=owner.public,
        nonce=random(PASSPORT_NONCE_SIZE),
        image=image.digest,
        state=canonical.digest(state),
        home=home,
        not_before=now,
        expires=now + terms.lifetime_ms,
        itinerary=itinerary,
        hops=terms.hops,
        clones=terms.clones,
        permit=terms.permit,
        results=owner.public.box(),
        label=label_of(terms.label or image.manifest.name),
        lease=terms.lease_ms,
    )
    signed = issue(passport, owner)
    opening = begin_results(signed, random(PASSPORT_NONCE_SIZE), owner)
    return Launch(signed.envelope, opening.envelope, encoded or image.encode(), state)


def amendment(
    agent: bytes,
    passport: bytes,
    change: Change,
    signer: SecretKey,
    now: int,
    random: Callable[[int], bytes],
) -> bytes:
    """Sign a change of an agent that was launched, as its owner or home.

    agent: its id; passport: the digest of its passport
    change: a `TopUp` or a `Lease`, see `agents.credentials.amendments`
    now: milliseconds since 1970

    Raises `MalformedCredential` for what cannot be signed, TypeError.
    """
    if not isinstance(signer, SecretKey):
        raise TypeError(f"an amendment is signed with a docking.SecretKey, not {type(signer).__name__}")
    return sign_amendment(Amendment(agent, passport, random(AMENDMENT_NONCE_SIZE), now, change), signer).envelope


def signed_upgrade(
    agent: bytes, passport: bytes, old: bytes, visit: int, new: bytes, owner: SecretKey, now: int, nonce: bytes
) -> bytes:
    """The owner's statement that an agent goes on with the image `new`, for an hour from `now` (ms).

    agent, passport, old, visit: its id, the digests of passport and image, and its visit; see `Upgrades.image_of`
    nonce: 16 random bytes
    """
    change = Upgrade(old, new, visit, now + HOUR_MS)
    return sign_amendment(Amendment(agent, passport, nonce, now, change), owner).envelope


__all__ = [
    "DEFAULT_PERMIT",
    "HOUR_MS",
    "Launch",
    "Terms",
    "amendment",
    "first_state",
    "image_of",
    "label_of",
    "prepare_launch",
    "signed_upgrade",
]
