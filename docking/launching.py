"""The owner's side of a launch: passport, opening of the results, first state. Pure: times and randomness come in.

Not the launch itself (the station does that), and not the packing. Invariant: what is prepared here is what the owner
signed: image, state, itinerary and permit hang together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from agents import canonical
from agents.credentials.itinerary import Itinerary
from agents.credentials.keys import SecretKey
from agents.credentials.passport import MAX_LABEL, NONCE_SIZE, Clones, Home, Passport, issue
from agents.credentials.permit import Budget, Permit
from agents.credentials.results import begin_results
from agents.errors import BadSnapshot, CallFailed
from agents.image import AgentImage
from agents.snapshot import Snapshot
from agents.wasi.state import WasiState
from docking.config import DEFAULT_BUDGET, GIB
from docking.errors import StationError

HOUR = 3_600_000
DEFAULT_PERMIT = Permit(
    Budget(cpu=60 * 10**6, memory=DEFAULT_BUDGET.memory, carried=4 * GIB, messages=100_000),
    ("dir:*", "host:*", "service:*"),
)
DEFAULT_HOPS = 10_000
DEFAULT_CLONES = Clones(16, 2)


@frozen
class Terms:
    """What an owner allows. `lifetime`: ms; `hops`: the most moves; `label`: what people call the agent."""

    permit: Permit = DEFAULT_PERMIT
    lifetime: int = 24 * HOUR
    hops: int = DEFAULT_HOPS
    clones: Clones = DEFAULT_CLONES
    label: str = ""


@frozen
class Launch:
    """All that a station needs to begin an agent. `passport`, `opening`: envelopes; `image`, `state`: encoded."""

    passport: bytes
    opening: bytes
    image: bytes
    state: bytes


def first_state(image: AgentImage, args: Sequence[str] = (), entry: str | None = None) -> bytes:
    """The state in which an agent begins. `args`: command line arguments, after the program's own name.

    Raises `StationError` if the luggage cannot be read.
    """
    wasi = image.luggage
    if args:
        try:
            state = WasiState.read(wasi) if wasi else WasiState.launch([image.manifest.name])
            state.equip(args)
        except BadSnapshot as error:
            raise StationError(f"the luggage of the image cannot be read: {error}") from error
        except CallFailed as error:
            raise StationError(f"the agent cannot begin: {error.reason}") from error
        wasi = canonical.encode(state.encode())
    return Snapshot(image.digest, entry or image.manifest.entry, wasi=wasi).encode()


def label_of(text: str) -> str:
    """`text`, a file's name perhaps, as a passport takes it: printable, of 1 to `MAX_LABEL` bytes of UTF-8."""
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return shown.encode()[:MAX_LABEL].decode(errors="ignore") or "agent"


def prepare(
    image: AgentImage,
    owner: SecretKey,
    home: Home,
    itinerary: Itinerary,
    terms: Terms,
    now: int,
    random: Callable[[int], bytes],
    args: Sequence[str] = (),
) -> Launch:
    """Sign an agent. `now`: ms. Raises `CredentialError` for what cannot be signed, `StationError`."""
    state = first_state(image, args)
    passport = Passport(
        owner=owner.public,
        nonce=random(NONCE_SIZE),
        image=image.digest,
        state=canonical.digest(state),
        home=home,
        not_before=now,
        expires=now + terms.lifetime,
        itinerary=itinerary,
        hops=terms.hops,
        clones=terms.clones,
        permit=terms.permit,
        results=owner.public.box(),
        label=label_of(terms.label or image.manifest.name),
    )
    signed = issue(passport, owner)
    opening = begin_results(signed, random(NONCE_SIZE), owner)
    return Launch(signed.envelope, opening.envelope, image.encode(), state)


__all__ = ["DEFAULT_PERMIT", "HOUR", "Launch", "Terms", "first_state", "label_of", "prepare"]
