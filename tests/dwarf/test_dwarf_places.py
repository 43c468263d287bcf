"""Where addresses come from: of debug information written by hand, in each version; damaged; made to take long."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.dwarf import SourcePlace
from agents.dwarf.cursor import Budget
from agents.dwarf.places import shown_path, source_places
from agents.errors import BadDwarf, ToolchainMissing
from agents.sdk.toolchains import compile_rust, compile_zig, find_ziglang
from agents.wasm import opcodes as op
from agents.wasm.decode import CODE, decode_module, instruction_offsets
from agents.wasm.decode import sections as sections_of
from tests.patience import PATIENCE
from tests.sdk.languages import missing
from tests.thorough import examples
from tests.wasm.tools import run_tool, wasm_tools

from . import made

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOURCE = """#include <stdio.h>
#include <stdlib.h>
static inline int twice(int n) { return 2 * atoi(getenv("N")) + n; }
__attribute__((noinline)) int middle(int n) { return twice(n) + twice(n + 1); }
int main(int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        printf("%d\\n", middle(i));
}
"""


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_each_version_tells_the_same(version: int) -> None:
    found = source_places(made.sections(version), [*made.PLACES, *made.NOWHERE])
    assert found == made.PLACES


def test_debug_information_of_other_code_is_refused() -> None:
    sections = made.sections()
    assert source_places(sections, made.PLACES, [(1, 2), (0x0F, 0x11), (0x41, 0x43)]) == made.PLACES
    for functions in ([], [(0x0E, 0x0F), (0x41, 0x43)], [(0x11, 0x12)]):
        with pytest.raises(BadDwarf, match="of other code"):
            source_places(sections, made.PLACES, functions)


def test_without_debug_information_nothing_is_told() -> None:
    assert source_places({}, [16]) == {}
    assert source_places(made.sections(), []) == {}


@pytest.mark.parametrize(
    ("compiled_in", "folder", "name", "shown"),
    [
        ("/home/ann/trip", "", "main.c", "main.c"),
        ("/home/ann/trip", "src", "main.c", "src/main.c"),
        ("/home/ann/trip", "/home/ann/trip/src", "./main.c", "src/main.c"),
        ("/home/ann/trip", "../secret", "main.c", "main.c"),
        ("/home/ann/trip", "/usr/include", "stdio.h", "stdio.h"),
        ("/", "home/ann", "main.c", "main.c"),
        (".", "", "main.c", "main.c"),
        ("", "../../ann", "main.c", "main.c"),
        ("/x", "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/core/src", "fmt.rs", "library/core/src/fmt.rs"),
        ("C:\\ann\\trip", "src", "main.c", "src/main.c"),
        ("C:\\ann\\trip", "C:\\ann\\other", "main.c", "main.c"),
    ],
)
def test_no_folder_of_the_author_is_shown(compiled_in: str, folder: str, name: str, shown: str) -> None:
    assert shown_path(compiled_in, folder, name) == shown


# --- against another reader ------------------------------------------------------------------------------------------


@pytest.mark.skipif(wasm_tools() is None, reason="the program wasm-tools is not installed")
@pytest.mark.parametrize("language", ["c", "c-dwarf-5", "zig", "rust"])
def test_each_call_and_loop_is_where_wasm_tools_says(
    language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.sdk.toolchains.COMPILE_TIMEOUT_S", PATIENCE)
    wasm = compiled(language, tmp_path)
    module = decode_module(wasm)
    start = next(offset for section, offset, _ in sections_of(wasm) if section == CODE)
    addresses = []
    for function, func in enumerate(module.funcs, module.imported("func")):
        offsets = instruction_offsets(module, function)
        assert offsets is not None
        marked = (op.CALL, op.CALL_INDIRECT, op.LOOP)
        addresses += [offsets[n] - start for n, instr in enumerate(func.body) if instr.code in marked]
    found = source_places({each.name: each.data for each in module.customs}, addresses)
    assert len(found) > len(addresses) / 2
    told = by_wasm_tools(wasm, addresses)
    for address in addresses:
        places = found.get(address, ())
        assert [(Path(place.file).name, place.line) for place in places] == [each[1:] for each in told[address]]
        if language != "rust":  # whose arguments of generic functions are not in our names
            assert [place.function for place in places[:-1]] == [each[0] for each in told[address][:-1]]


def compiled(language: str, folder: Path) -> bytes:
    """A module with its debug information."""
    try:
        if language == "zig":
            return compile_zig(EXAMPLES / "zig" / "trip.zig")
        if language == "rust":
            return compile_rust(EXAMPLES / "rust" / "trip.rs")
        (folder / "main.c").write_text(SOURCE)
        version = "-gdwarf-5" if language == "c-dwarf-5" else "-gdwarf-4"
        flags = ["-target", "wasm32-wasi", "-O2", version, "main.c", "-o", "main.wasm"]
        command = [*find_ziglang("C"), "cc", *flags]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=PATIENCE)
        return (folder / "main.wasm").read_bytes()
    except ToolchainMissing as reason:
        missing(reason)
        raise


def by_wasm_tools(wasm: bytes, addresses: list[int]) -> dict[int, list[tuple[str, str, int]]]:
    """For each address what `wasm-tools addr2line` prints: function, file, line."""
    found: dict[int, list[tuple[str, str, int]]] = {}
    for first in range(0, len(addresses), 500):
        asked = list(map(hex, addresses[first : first + 500]))
        printed = run_tool("addr2line", "--code-section-relative", "-", *asked, data=wasm)
        assert printed is not None
        address = -1
        for line in printed.decode().splitlines():
            begins = re.match(r"(0x[0-9a-f]+):(.*)", line)
            if begins is not None:
                address, line = int(begins[1], 16), begins[2]
                found[address] = []
            place = re.match(r"(.*?) (\S*?):(\d+)(?::\d+)?$", line) or re.match(r"(.*) (\S+)()$", line)
            if place is not None and "no dwarf frames" not in line:
                found[address].append((place[1].strip(), Path(place[2]).name, int(place[3] or 0)))
    return found


# --- hostile ---------------------------------------------------------------------------------------------------------


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from([2, 3, 4, 5]), st.data())
def test_damage_is_refused_or_does_not_matter(version: int, data: st.DataObject) -> None:
    sections = made.sections(version)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(sorted(sections)))
        content = bytearray(sections[name])
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        else:
            del content[at:]
        sections[name] = bytes(content)
        if not content:
            break
    told_or_refused(sections)


@settings(max_examples=examples(100), deadline=None)
@given(st.dictionaries(st.sampled_from(sorted({**made.sections(4), **made.sections(5)})), st.binary(max_size=200)))
def test_noise_is_refused_or_does_not_matter(sections: dict[str, bytes]) -> None:
    told_or_refused({**made.sections(5), **sections})


def told_or_refused(sections: dict[str, bytes]) -> None:
    try:
        found = source_places(sections, [*made.PLACES, *made.NOWHERE])
    except BadDwarf:
        return
    for places in found.values():
        assert places[-1].function == ""
        assert all(isinstance(place, SourcePlace) for place in places)


def refused(sections: dict[str, bytes], why: str) -> None:
    with pytest.raises(BadDwarf, match=why):
        source_places(sections, made.PLACES)


def test_files_of_no_bytes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    header = made.HEADER + b"\0\0" + b"\0" + made.unsigned(5_000)
    lines = made.with_length(made.u16(5) + b"\4\0" + made.with_length(header))
    monkeypatch.setattr(Budget, "__init__", few_steps)
    refused({**made.sections(5), ".debug_line": lines}, "more steps")


def test_many_units_cannot_have_one_large_list_read_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = made.unsigned(1000) + b"\x2e\0" + b"\0\0"
    units = [made.with_length(made.u16(4) + made.u32(number * len(shape)) + b"\4\0") for number in range(1000)]
    sections = {".debug_abbrev": shape * 1000 + b"\0", ".debug_info": b"".join(units), ".debug_line": b""}
    assert source_places(sections, [1]) == {}
    monkeypatch.setattr(Budget, "__init__", few_steps)
    refused(sections, "more steps")


def test_a_list_of_ranges_that_covers_all_again_and_again_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    sections = made.sections(4)
    sections[".debug_ranges"] = (made.u32(1) + made.u32(0x1000)) * 100_000 + bytes(8)
    monkeypatch.setattr(Budget, "__init__", few_steps)
    refused(sections, "more steps")


def few_steps(self: Budget) -> None:
    self.left = 50_000


def test_entries_nest_to_a_bound() -> None:
    sections = made.sections(4)
    unit = sections[".debug_info"][4:]
    body = unit[: unit.index(b"\3\x10")] + b"\3" + made.u32(0x10) + made.u32(0x30) + b"\4\0\0" * 20_000
    refused({**sections, ".debug_info": made.with_length(body)}, "nested too deeply")


def test_a_function_that_refers_to_itself_has_no_name() -> None:
    sections = made.sections(4)
    info = sections[".debug_info"]
    at = info.index(b"\4\3abc\1\5") + 6  # the inlined entry
    looped = info[: at + 1] + made.u32(at) + info[at + 5 :]
    found = source_places({**sections, ".debug_info": looped}, made.PLACES)
    assert found[0x20] == (SourcePlace("", "src/main.c", 5), SourcePlace("", "src/main.c", 11))
