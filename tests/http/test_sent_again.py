"""A request whose kept connection turned out to be closed is sent again, the same."""

from __future__ import annotations

import pytest

from agents import canonical
from agents.credentials.keys import SecretKey
from agents.credentials.sealing import PIECE_BYTES
from docking.http.sealing import SALT_BYTES, SharedKeys, opener, seal_request

SENDER, RECEIVER = SecretKey(canonical.digest(b"sender")), SecretKey(canonical.digest(b"receiver"))


@pytest.mark.parametrize("size", [0, 10, PIECE_BYTES, 3 * PIECE_BYTES + 1])
def test_a_request_can_be_made_again_and_is_the_same(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    secrets, salt = SharedKeys(SENDER), bytes(range(SALT_BYTES))
    ephemeral = secrets.ephemeral(RECEIVER.public, lambda size: bytes(size), 0.0)
    length, pieces, mark = seal_request(secrets, RECEIVER.public, "letter", [body], ephemeral, salt)
    once = b"".join(pieces())
    begun = pieces()
    next(begun)  # a connection that broke in the middle
    assert b"".join(pieces()) == once
    assert (len(once), salt + once[: len(mark) - SALT_BYTES]) == (length, mark)
    reader = opener(SharedKeys(RECEIVER), SENDER.public, "letter", salt)
    found = b"".join(bytes(piece) for piece in reader.feed(once))
    assert found + reader.finish() == body
