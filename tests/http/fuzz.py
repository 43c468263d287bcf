"""Damaged bytes, fed in pieces and whole: what reads both must say the same, and must always come back.

    python -m tests.http.fuzz --seconds 60 [--bytes N] [--seed N]

Each input begins as something good (a message, sealed bytes, frames, answers over a channel and by HTTP) and is mostly
damaged then; lengths are often replaced by those that matter: 0, 1, one less, one more, as much as there can be. An
input that takes longer than `PATIENCE` seconds of processor time is a reader that does not come back.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from random import Random
from types import FrameType

import click

from docking.handoff import codec
from tests.fuzz.amount import Amount, judged, options, tell
from tests.http import pieces

PATIENCE = 30.0  # of processor time: how busy the machine is does not matter
LENGTHS = (0, 1, 2, 7, 8, 31, 32, 33, 0xFF, 0xFFFF, 0x10000, 0xFFFFFFFF)


def damaged(data: bytes, rng: Random) -> bytes:
    """The bytes with something changed, sometimes nothing."""
    changed = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 5))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(7):
            case 0:
                del changed[at:]
            case 1:
                changed[at:at] = rng.randbytes(rng.randrange(40))
            case 2:
                changed[at : at + rng.randrange(9)] = b""
            case 3 if len(changed) >= 8:
                # Where the length of a head stands, or of the first frame.
                place = rng.choice((0, 4))
                changed[place : place + 4] = rng.choice(LENGTHS).to_bytes(4, "big")
            case 4:
                changed += changed[:at]
            case _ if changed:
                at = rng.randrange(len(changed))
                changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def message(rng: Random) -> int:
    """A message of the handoff."""
    data = damaged(rng.choice(MESSAGES), rng)
    if rng.random() < 0.3:
        limits = codec.MessageLimits(rng.choice(LENGTHS), rng.choice(LENGTHS))
        one, other = pieces.decoded(data, limits), pieces.read(pieces.randomly(rng)(data), limits)
        assert one == other or other is None or isinstance(one, str)
    else:
        pieces.same_message(data, rng.choice((pieces.whole, pieces.bytewise, pieces.randomly(rng))))
    return len(data)


def sealed(rng: Random) -> int:
    """Sealed bytes."""
    data = pieces.sealed(rng.choice((0, 1, 100, 65535, 65536, 65537, 140_000)))
    data = damaged(data, rng) if rng.random() < 0.7 else data
    assert pieces.opened_in(pieces.randomly(rng)(data)) == pieces.opened(data)
    return len(data)


def frames(rng: Random) -> int:
    """Frames of a channel."""
    sizes = [rng.choice((32, 33, 100, pieces.MOST + 32)) for _ in range(rng.randrange(5))]
    data = damaged(b"".join(size.to_bytes(4, "big") + rng.randbytes(size) for size in sizes), rng)
    assert pieces.framed_in(pieces.randomly(rng)(data)) == pieces.framed(data)
    return len(data)


def channel_answers(rng: Random) -> int:
    """A welcome, and answers."""
    data = pieces.channel_answers([rng.randbytes(rng.choice((0, 1, 300))) for _ in range(3)])
    data = damaged(data, rng)

    async def main() -> None:
        assert await pieces.called_in(pieces.randomly(rng), data, 3) == await pieces.called_in(pieces.whole, data, 3)

    asyncio.run(main())
    return len(data)


def http_answers(rng: Random) -> int:
    """An answer of HTTP."""
    body = rng.randbytes(rng.choice((0, 1, 300)))
    data = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    data = damaged(data, rng)

    async def main() -> None:
        assert await pieces.posted_in(pieces.randomly(rng), data) == await pieces.posted_in(pieces.whole, data)

    asyncio.run(main())
    return len(data)


MESSAGES = pieces.messages()
TARGETS = (message, message, sealed, frames, frames, channel_answers, http_answers)


def attack(rng: Random, amount: Amount) -> Counter[str]:
    """Inputs of that amount; how many of which kind. Raises `AssertionError`."""

    def too_long(number: int, frame: FrameType | None) -> None:
        raise AssertionError("a reader does not come back")

    counts = Counter[str]()
    before = signal.signal(signal.SIGVTALRM, too_long)
    try:
        while amount.more():
            target = rng.choice(TARGETS)
            signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
            amount.given += target(rng)
            counts[target.__name__] += 1
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return counts


@click.command()
@options
@click.option("--seed", type=int, help="Default: another each time.")
def main(seconds: float, least: int, seed: int | None) -> None:
    """Fuzz the readers."""
    amount = Amount(seconds, least)
    tell(amount, judged(attack, amount, seed))


if __name__ == "__main__":
    main()
