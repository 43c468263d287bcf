"""Digests are the same where the package blake3 is not there."""

from __future__ import annotations

import subprocess
import sys

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import blake3_fallback
from tests.patience import PATIENCE
from tests.thorough import examples

SIZES = (0, 1, 63, 64, 65, 127, 128, 1023, 1024, 1025, 2048, 2049, 3072, 3073, 4096, 5000, 8192, 8193, 31744)


@pytest.mark.parametrize("size", SIZES)
def test_it_gives_the_digests_of_the_package(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    assert blake3_fallback.blake3(data).digest() == blake3.blake3(data).digest()
    derived = blake3.blake3(data, derive_key_context="portcall test").digest(length=150)
    assert blake3_fallback.blake3(data, derive_key_context="portcall test").digest(length=150) == derived


@settings(max_examples=examples(15), deadline=None)
@given(st.lists(st.binary(max_size=1500), max_size=6))
def test_bytes_in_pieces(pieces: list[bytes]) -> None:
    mine, theirs = blake3_fallback.blake3(), blake3.blake3()
    for piece in pieces:
        assert mine.update(memoryview(piece)) is mine
        theirs.update(piece)
        assert mine.digest() == theirs.digest()


PACKS = """
import sys, threading, time
sys.modules["blake3"] = sys.modules["wasmtime"] = sys.modules["cffi"] = sys.modules["nacl"] = None

def missing(*args):
    raise OSError("as in a browser")

def no_threads(self):
    raise RuntimeError("can't start new thread")

threading.Thread.start = no_threads
time.pthread_getcpuclockid = missing
import agents
from agents.budget import UsageClock

clock = UsageClock()
clock.start()
clock.stop()
wasm = bytes.fromhex("0061736d01000000010401600000030201000707010372756e00000a0b010900034041000d000b0b")
print(agents.pack(wasm, name="turns").digest.hex(), clock.wall >= 0)
"""


def test_a_program_is_packed_to_the_same_image_where_a_browsers_python_lacks_much() -> None:
    import agents

    wasm = bytes.fromhex("0061736d01000000010401600000030201000707010372756e00000a0b010900034041000d000b0b")
    done = subprocess.run([sys.executable, "-c", PACKS], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stderr == ""
    assert done.stdout == f"{agents.pack(wasm, name='turns').digest.hex()} True\n"
