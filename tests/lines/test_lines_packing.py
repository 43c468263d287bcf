"""Packing makes the table of source lines, and nothing else changes: not the code, not what an image depends on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agents
from agents.canonical import DecodeBounds
from agents.image import AgentImage
from agents.lines import LINES_SECTION, lines_of
from agents.sdk.sources import Choices, load_image
from agents.sdk.toolchains import compile_c, without_debug
from agents.wasm import opcodes as op
from agents.wasm.decode import CUSTOM, decode_module, sections
from agents.wasm.encode import encode_module
from agents.wasm.syntax import Instr
from tests.patience import PATIENCE
from tests.thorough import examples

needs_zig = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
SOURCE = """#include <portcall.h>
#include <stdio.h>

__attribute__((noinline)) int visit(const char *name) {
    printf("to %s\\n", name);
    return portcall_go(name);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (visit(argv[i]) < 0)
            portcall_sleep(1000);
    printf("%s\\n", argv[0]);
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The module of SOURCE, with its debug information."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    source = tmp_path_factory.mktemp("program") / "beach.c"
    source.write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agents.sdk.toolchains.COMPILE_TIMEOUT_S", PATIENCE)
        return compile_c(source)


def told(image: AgentImage) -> set[tuple[str, int]]:
    """The files and lines of all sites."""
    assert image.metadata is not None
    lines = lines_of(image.code)
    return {
        (place.file, place.line)
        for number, resume in enumerate(image.metadata.resumes)
        for site in range(1, len(resume.sites) + 1)
        for place in lines.places(number, site)
    }


def all_but_customs(code: bytes) -> list[tuple[int, bytes]]:
    return [(section, bytes(content)) for section, _, content in sections(code) if section != CUSTOM]


@pytest.mark.parametrize("profile", ["standard", "portable"])
def test_the_code_is_the_same_with_and_without_the_table(program: bytes, profile: str) -> None:
    image, bare = (agents.pack(wasm, profile=profile) for wasm in (program, without_debug(program)))  # type: ignore[arg-type]
    assert all_but_customs(image.code) == all_but_customs(bare.code)
    names = [[custom.name for custom in decode_module(each.code).customs] for each in (image, bare)]
    assert names[0] == [*names[1], LINES_SECTION]
    assert image.resumption == bare.resumption
    assert {("beach.c", 11), ("beach.c", 12)} <= told(image)
    assert told(bare) == set()
    assert image == agents.pack(program, profile=profile)  # type: ignore[arg-type]


def test_a_site_takes_few_bytes(program: bytes) -> None:
    image = agents.pack(program)
    section = decode_module(image.code).custom(LINES_SECTION)
    assert section is not None
    assert image.metadata is not None
    sites = sum(len(resume.sites) for resume in image.metadata.resumes)
    texts = sum(len(text) for lines in [lines_of(image.code)] for text in (*lines.files, *lines.names))
    assert len(section) - texts < 10 * sites


def test_lines_survive_what_is_done_before_the_rewriting(program: bytes) -> None:
    plain, spilled = agents.pack(program), agents.pack(program, spill_pointers=True)
    assert all_but_customs(plain.code) != all_but_customs(spilled.code)
    assert told(plain) == told(spilled)


@needs_zig
def test_without_rewriting_there_is_neither_a_table_nor_debug_information(tmp_path: Path) -> None:
    source = tmp_path / "beach.c"
    source.write_text(SOURCE)
    image = load_image(source, Choices(profile="none"))
    assert [
        each.name for each in decode_module(image.code).customs if "debug" in each.name or "lines" in each.name
    ] == []


def damaged(program: bytes, section: str, place: float, value: int) -> bytes:
    module = decode_module(program)
    customs = []
    for custom in module.customs:
        if custom.name == section:
            content = bytearray(custom.data)
            content[int(place * (len(content) - 1))] = value
            custom = attrs.evolve(custom, data=bytes(content))
        customs.append(custom)
    return encode_module(attrs.evolve(module, customs=tuple(customs)))


@settings(max_examples=examples(10), deadline=None)
@given(
    st.sampled_from([".debug_info", ".debug_abbrev", ".debug_line"]),
    st.floats(0, 1) | st.floats(0, 0.01),
    st.sampled_from([0, 1, 0x80, 0xFF]) | st.integers(0, 255),
)
def test_damaged_debug_information_never_fails_packing(program: bytes, section: str, place: float, value: int) -> None:
    warnings: list[str] = []
    image = agents.pack(damaged(program, section, place, value), warn=warnings.append)
    assert all_but_customs(image.code) == all_but_customs(agents.pack(without_debug(program)).code)
    if warnings:
        assert image == agents.pack(without_debug(program))


def test_debug_information_of_code_that_was_changed_is_left_out_with_a_warning(program: bytes) -> None:
    warnings: list[str] = []
    module = decode_module(program)
    longer = tuple(attrs.evolve(func, body=(Instr(op.NOP), *func.body)) for func in module.funcs)
    changed = encode_module(attrs.evolve(module, funcs=longer))
    image = agents.pack(changed, warn=warnings.append)
    assert "it is of other code" in warnings[0]
    assert told(image) == set()


def test_a_table_that_would_be_too_large_is_left_out_with_a_warning(
    program: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("agents.lines.building.LINES_BOUNDS", DecodeBounds(max_bytes=100))
    assert agents.pack(program, warn=warnings.append) == agents.pack(without_debug(program))
    assert "the table of its lines would take" in warnings[0]


def test_debug_information_that_cannot_be_read_is_left_out_with_a_warning(program: bytes) -> None:
    warnings: list[str] = []
    image = agents.pack(damaged(program, ".debug_info", 0, 0xFF), warn=warnings.append)
    assert image == agents.pack(without_debug(program)) == agents.pack(damaged(program, ".debug_info", 0, 0xFF))
    assert len(warnings) == 1
    assert "shown without source lines" in warnings[0]
