"""Damaged messages against stations that run, from peers whose keys are genuine, as long as you like.

    python -m tests.station.fuzz --seconds 60 [--seed N]

What two stations say to each other on real journeys is recorded; then one of them gets it damaged, as bytes and as
values that are encoded properly, with digests that fit again and statements that are signed again by who signed them,
over channels and by HTTP, from the genuine sender and from a stranger; requests in frames that are sealed and numbered
as they must be; and channels and requests that are damaged themselves. What must hold: the station answers an honest
question all the while, and logs no error, which is what becomes of an exception that nobody declared. What was answered
is counted, by codes: what everything is refused for is where the fuzzer does not get behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any
from urllib.parse import urlsplit

import click

from agents import canonical
from agents.credentials import envelope
from agents.credentials.keys import PublicKey, SecretKey
from agents.errors import NotCanonical
from agents.waits import Accept
from docking import Station
from docking.errors import AgentEnded, CarrierError
from docking.handoff import codec
from docking.handoff.messages import Refuse, Side, Status
from docking.http import channel
from docking.http.agent_messages import write_request
from docking.http.client import Client
from docking.http.dispatch import REQUEST_KINDS
from docking.http.sealing import SharedKeys
from tests.bench.live_requests import service
from tests.fuzz.amount import Amount, judged, options, tell
from tests.patience import PATIENCE
from tests.station.harbour import OWNER, begin, harbour, journey, key_of, packed, program

STRANGER = SecretKey(canonical.digest(b"a stranger"))
# Who signs what is recorded: the owner, and the stations of a harbour.
KEYS = {
    key.public.raw: key
    for key in (OWNER, *(SecretKey(canonical.digest(b"test station " + name)) for name in (b"alpha", b"beta")))
}
# Talks, reports, is cloned, waits, and comes home.
BUSY = program(
    """(call $tell (i32.const 97) (i32.const 1))
       (drop (call $go (s 0)))
       (call $tell_here)
       (drop (call $clone (i32.const 300) (i32.const 100)))
       (drop (call $call (s 2) (s 1) (i32.const 400) (i32.const 100)))
       (drop (call $sleep (i32.const 5)))
       (drop (call $go (s 1)))
       (call $tell_here)
       (drop (call $go (s 0)))""",
    "beta|alpha|echo",
)
SLEEPS = program("(drop (call $go (s 0))) (drop (call $recv (i32.const 300) (i32.const 100) (i32.const -1)))", "beta")
ODD: tuple[Any, ...] = (
    *(
        0,
        1,
        -1,
        23,
        24,
        2**31,
        2**32,
        2**63,
        2**64 - 1,
        True,
        False,
        None,
        b"",
        b"x",
        bytes(32),
        bytes(33),
        bytes(5000),
    ),
    *("", "x", "\x00", "\u202e", "x" * 300, [], {}, [[]], {0: 0}, [b""] * 100, {"a": 1}),
)


def bent(value: Any, rng: Random) -> Any:
    """The value with one thing in it changed."""
    if isinstance(value, list) and value and rng.random() < 0.9:
        value = list(value)
        at = rng.randrange(len(value))
        match rng.randrange(8):
            case 0:
                del value[at]
            case 1:
                value.insert(at, value[rng.randrange(len(value))])
            case 2:
                value.append(rng.choice(ODD))
            case _:
                value[at] = bent(value[at], rng)
        return value
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return {**value, key: bent(value[key], rng)}
    if isinstance(value, bytes) and value and rng.random() < 0.7:
        return inside(value, rng)
    return rng.choice(ODD)


def inside(data: bytes, rng: Random) -> bytes:
    """Bytes, perhaps with a value in them, with something changed."""
    if rng.random() < 0.6:
        with contextlib.suppress(NotCanonical):
            return canonical.encode(bent(canonical.decode(data), rng))
        if data[:1] == b"\xd2":  # a statement: what it says, signed again, or its parts
            with contextlib.suppress(NotCanonical, ValueError, TypeError):
                if rng.random() < 0.8:
                    return signed_again(data, rng)
                return b"\xd2" + canonical.encode(bent(canonical.decode(data[1:]), rng))
    changed = bytearray(data)
    match rng.randrange(4):
        case 0:
            del changed[rng.randrange(len(changed)) :]
        case 1:
            changed += rng.randbytes(rng.randrange(1, 40))
        case 2:
            at = rng.randrange(len(changed))
            changed[at : at + rng.randrange(8)] = rng.randbytes(rng.randrange(8))
        case _:
            for _ in range(rng.randrange(1, 5)):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def signed_again(data: bytes, rng: Random) -> bytes:
    """A statement with something changed in what it says, signed by who had signed it; or by another, in its name."""
    protected, unprotected, payload, _ = canonical.decode(data[1:])
    payload = canonical.encode(bent(canonical.decode(payload), rng))
    key = KEYS.get(canonical.decode(protected)[4], STRANGER)
    signature = key.sign(canonical.encode(["Signature1", protected, envelope.EXTERNAL_DATA, payload]))
    return b"\xd2" + canonical.encode([protected, unprotected, payload, signature])


def verdict(what: str, answer: bytes | None) -> str:
    """What a station said, in a word or two."""
    if answer is None:
        return "nothing"
    if what == "handoff":
        said = codec.decode_message(answer)
        return f"refused {said.code}" if isinstance(said, Refuse) else type(said).__name__
    value = canonical.decode(answer)
    if what in ("session", "serve"):
        return " ".join(each for each in value[:2] if isinstance(each, str))
    if what == "letter" and isinstance(value, list):
        return " ".join(each for each in value[:2] if isinstance(each, str)) if value[0] == "refused" else str(value[0])
    return "a card"


def handoff(data: bytes, rng: Random) -> bytes:
    """A message of the handoff with something changed; digests and sizes of its parts fit again."""
    end = codec.FRAME_PREFIX_SIZE + int.from_bytes(data[4:8], "big")
    head = canonical.decode(data[codec.FRAME_PREFIX_SIZE : end])
    bodies = data[end:]
    if head[0] == 1 and head[11] and rng.random() < 0.7:
        found, at = [], 0
        for index in head[11]:
            found.append(bodies[at : at + head[10][index][2]])
            at += len(found[-1])
        chosen = rng.randrange(len(found))
        found[chosen] = inside(found[chosen], rng)
        part = head[10][head[11][chosen]]
        part[1], part[2] = canonical.digest(found[chosen]), len(found[chosen])
        bodies = b"".join(found)
    else:
        head = bent(head, rng)
    encoded = canonical.encode(head)
    return data[:4] + len(encoded).to_bytes(4, "big") + encoded + bodies


async def recorded() -> list[tuple[str, str, str, bytes]]:
    """What stations say to each other: from, to, what, and the bytes."""
    said: list[tuple[str, str, str, bytes]] = []
    async with harbour("alpha", "beta") as (alpha, beta):
        beta.offer("echo", lambda request: request)
        names = {each.key: each.name for each in (alpha, beta)}
        real = Client.ask

        async def ask(client: Client, peer: PublicKey, what: str, bodies: Any) -> Any:
            said.append((names[client.secrets.me], names[peer], what, b"".join(bytes(body) for body in bodies)))
            return await real(client, peer, what, bodies)

        Client.ask = ask  # type: ignore[method-assign]
        try:
            await alpha.introductions.greet(beta.key)
            for _ in range(2):
                await journey(alpha, BUSY, "beta", "alpha", "beta")
            await served_and_moved(alpha)
            agent = await begin(alpha, SLEEPS, "beta")
            while agent.key not in beta.core.here.berths:
                await asyncio.sleep(0.01)
            agent.send(b"hello")
            agent.dispose()
            with contextlib.suppress(AgentEnded):
                await agent.wait(PATIENCE)
        finally:
            Client.ask = real  # type: ignore[method-assign]
    return said


async def served_and_moved(alpha: Station) -> None:
    """An agent moves while it runs, and the request of a client is passed on to where it went."""
    image = packed(service(1), entry="run")
    agent = await alpha.launch(image, ["beta"], owner=OWNER)
    while not isinstance(alpha.core.here.berths[agent.key].wait, Accept):
        await asyncio.sleep(0.01)
    report = await agent.move("beta")
    assert report.rounds > 0
    serving = alpha.core.serving
    ident = serving.new_ident()
    await serving.ask(agent.key, ident, write_request(ident, b"GET", b"/", [], b""), 60.0)


class _Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))


async def damaged_channel(there: Station, rng: Random, said: Sequence[tuple[str, str, str, bytes]]) -> int:
    """A channel, or a request, that is damaged itself, or in frames that are as they must be. How many bytes."""
    given = 0
    parts = urlsplit(there.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    own = channel.EphemeralKey(rng.randbytes(32))
    head = channel.greeting("x", STRANGER.public.text.encode(), there.key, own.public)
    if rng.random() < 0.4:
        head = inside(head, rng)
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
        writer.write(head)
        welcome = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 0.2)
        fresh = channel.read_welcome(welcome[:-4])
        if fresh is not None:
            ends = channel.calling(SharedKeys(STRANGER), there.key, fresh, own)
            contents = [b""]
            for number in range(rng.randrange(4)):
                _, _, what, body = rng.choice(said)
                request = (
                    number.to_bytes(4, "big") + bytes([REQUEST_KINDS.index(what)]) + inside(body[:100_000] or b"x", rng)
                )
                contents.append(request if rng.random() < 0.6 else rng.randbytes(rng.choice((0, 1, 4, 5, 6, 100))))
            data = b"".join(ends.send.seal([content]) for content in contents)
            data = inside(data, rng) if rng.random() < 0.5 else data
            given = len(data)
            writer.write(data)
            await asyncio.wait_for(reader.read(1000), 0.02)
    writer.close()
    return len(head) + given


async def attack(rng: Random, amount: Amount) -> tuple[Counter[str], Counter[str]]:
    """Damage what was recorded, in that amount; how the station answered, and what exactly.

    Raises `AssertionError`.
    """
    said, verdicts = await recorded(), Counter[str]()
    errors, counts = _Errors(), Counter[str]()
    logging.getLogger().addHandler(errors)
    try:
        async with harbour("alpha", "beta") as stations:
            by_name = {each.name: each for each in stations}
            keys = {each.name: key_of(each.name) for each in stations}
            clients = {
                name: Client(SharedKeys(key), rng.randbytes, lambda peer: urls[peer], lambda peer, url: None)
                for name, key in {**keys, "stranger": STRANGER}.items()
            }
            urls = {each.key: [each.url] for each in stations}
            while amount.more():
                if rng.random() < 0.2:
                    amount.given += await damaged_channel(by_name["beta"], rng, said)
                    counts["damaged connections"] += 1
                    continue
                name, to, what, data = rng.choice(said)
                sender = name if rng.random() < 0.8 else "stranger"
                mutated = handoff(data, rng) if what == "handoff" and rng.random() < 0.8 else inside(data, rng)
                amount.give(mutated)
                asked = what if rng.random() < 0.95 else rng.choice(REQUEST_KINDS)
                # Below a path, as where it is mounted, a station is asked by HTTP.
                there = by_name[to]
                urls[there.key] = [there.url + ("/x" if rng.random() < 0.3 else "")]
                try:
                    answer = await clients[sender].ask(there.key, asked, [mutated])
                    counts[f"{what}: answered" if answer else f"{what}: nothing"] += 1
                    if asked == what:
                        verdicts[f"{what}: {verdict(what, answer)}"] += 1
                except CarrierError:
                    counts[f"{what}: refused"] += 1
                assert not errors.seen, errors.seen[0]
            for each in stations:
                honest = Status(bytes(32), Side.SOURCE, bytes(16))
                answer = await asyncio.wait_for(clients["stranger"].exchange(each.key.raw, honest), PATIENCE)
                assert answer is not None
            for client in clients.values():
                client.close()
        assert not errors.seen, errors.seen[0]
    finally:
        logging.getLogger().removeHandler(errors)
    return counts, verdicts


@click.command()
@options
@click.option("--seed", type=int, help="Default: another each time.")
def main(seconds: float, least: int, seed: int | None) -> None:
    """Fuzz a station."""
    amount = Amount(seconds, least)
    counts, verdicts = judged(lambda *given: asyncio.run(attack(*given)), amount, seed)
    tell(amount, counts)
    for said, count in verdicts.most_common():
        click.echo(f"  {count:6} {said}")


if __name__ == "__main__":
    main()
