"""The published vectors of the handoff's messages: this implementation still speaks what it spoke."""

from __future__ import annotations

import json

import pytest

from docking.errors import MalformedMessage
from docking.handoff import codec
from tests.vectors import write_messages

VECTORS = json.loads(write_messages.FILE.read_text("utf-8"))


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["name"])
def test_a_message_has_these_bytes(vector: dict[str, str]) -> None:
    message = write_messages.messages()[vector["name"]]
    assert b"".join(codec.encode_message(message)).hex() == vector["bytes"]
    assert codec.decode_message(bytes.fromhex(vector["bytes"])) == message


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_these_bytes_are_refused_with_this_code(vector: dict[str, str]) -> None:
    with pytest.raises(MalformedMessage) as caught:
        codec.decode_message(bytes.fromhex(vector["bytes"]))
    assert caught.value.code == vector["code"]


def test_the_file_is_what_the_script_writes() -> None:
    assert write_messages.document() == VECTORS
