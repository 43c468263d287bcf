"""Packing: what it refuses and how it says so; what is packed comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agents
from agents import packing
from agents.engines import Limits
from agents.engines.wasmtime import assemble
from agents.errors import EngineError, InvalidModule, ModuleError, ModuleTooLarge, UnsupportedFeature
from agents.image import AgentImage
from agents.outcomes import Finished
from agents.rewrite.frames import MAX_SITES
from agents.waits import Arrived
from agents.wasm.decode import decode_module

from .agents_at_work import place

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
HEAD = '(module (import "portcall" "sleep" (func $sleep (param i32) (result i32))) (memory (export "memory") 1)'
DECODER = HEAD + '(func $counter (export "run") (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1)))))'
REWRITER = (
    HEAD
    + """(func $made (result externref) (drop (call $sleep (i32.const 1))) (ref.null extern))
    (func (export "run") (drop (call $made))))"""
)


@pytest.mark.parametrize(("text", "name"), [(DECODER, "counter"), (REWRITER, "made")])
def test_a_refusal_names_the_function(text: str, name: str) -> None:
    with pytest.raises(UnsupportedFeature) as refused:
        packing.pack(text, entry="run")
    assert f"in function 1 (${name})" in str(refused.value)
    assert refused.value.function == 1


def test_so_does_the_validator() -> None:
    code = assemble('(module (func $good) (func $wrong (export "run") (drop (i32.const 5))))')
    broken = code.replace(b"\x41\x05\x1a", b"\x1a\x41\x05")  # drops before there is something
    assert broken != code
    with pytest.raises(InvalidModule, match=r"in function 1 \(\$wrong\) at offset 0x"):
        packing.pack(broken)


def test_names_of_strangers_are_cut_and_printable() -> None:
    error = ModuleError("no", 16, 3)
    error.name("a\x1b[2J" + "x" * 1000)
    assert str(error).startswith("no in function 3 ($a?[2Jx")
    assert str(error).endswith("x) at offset 0x10")
    assert len(str(error)) < 250


def test_a_function_with_more_sites_than_engines_take_is_refused() -> None:
    text = HEAD + '(func $long (export "run")' + "(drop (call $sleep (i32.const 1)))" * (MAX_SITES + 1) + "))"
    with pytest.raises(UnsupportedFeature, match=rf"{MAX_SITES + 1} places .* in function 1 \(\$long\)"):
        packing.pack(text)


def test_the_most_suspension_sites_can_be_read_back() -> None:
    text = HEAD + '(func (export "run")' + "(drop (call $sleep (i32.const 1)))" * MAX_SITES + "))"
    image = agents.pack(text)
    assert decode_module(image.code).exports


def test_what_is_packed_can_be_unpacked_whatever_its_name() -> None:
    text = '(module (func (export "run")))'
    for name in ("x" * 300, "\N{SNOWMAN}" * 100, "\udcff"):
        image = agents.pack(text, name=name)
        assert AgentImage.unpack(image.pack()) == image
    with pytest.raises(InvalidModule, match="more than 256 bytes"):
        agents.pack(f'(module (func (export "{"x" * 257}")))')


def test_what_is_no_module_is_refused_with_what_to_give_instead(tmp_path: Path) -> None:
    """What people give instead of a module's bytes or text, or of an image."""
    with pytest.raises(EngineError, match=r"trip\.py is no module: agents\.sdk\.sources\.load_image makes"):
        agents.pack(tmp_path / "trip.py")
    with pytest.raises(EngineError, match=r"'trip\.wat' is no text of a module; .* give a pathlib\.Path"):
        agents.pack("trip.wat")
    with pytest.raises(FileNotFoundError):
        agents.pack(tmp_path / "trip.wat")
    with pytest.raises(TypeError, match=r"an AgentImage is run, not bytes: agents\.pack makes one"):
        agents.run(b"")  # type: ignore[arg-type]


@pytest.mark.parametrize(("one", "most"), [("(memory 1)", Limits().memories), ("(table 1 funcref)", Limits().tables)])
@pytest.mark.parametrize("profile", ["standard", "none"])
def test_as_many_memories_and_tables_as_run_takes(one: str, most: int, profile: Any) -> None:
    def image(count: int) -> AgentImage:
        return packing.pack("(module" + one * count + '(func (export "run") (loop)))', profile=profile)

    assert isinstance(agents.run(image(most), ambient=place()), Finished)
    with pytest.raises(ModuleTooLarge, match=f"{most + 1} (memories|tables), where an agent may have {most}"):
        image(most + 1)


@pytest.mark.parametrize("every", [None, 1, 3])
def test_an_image_that_was_packed_with_its_resume_copies_inside_goes_on(every: int | None) -> None:
    """Packed before metadata of version 2: it adds fib(n) for n below 8, and goes once for each."""
    image = AgentImage.unpack((VECTORS / "packed-metadata-1.agent").read_bytes())
    assert b"portcall.resume" in image.code
    hops: list[bytes] = []
    outcome = agents.run(image, answer=lambda wait: Arrived(), hop_every=every, on_hop=hops.append)
    assert isinstance(outcome, agents.Finished)
    assert outcome.results == (33,)
    assert bool(hops) == (every is not None)
