"""C and Zig sources become modules whose imports are those of the ABI; a missing compiler says so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from agents.errors import ToolchainError
from agents.hostcalls import IMPORTS
from agents.sdk import toolchains
from agents.sdk.toolchains import compile_c, compile_zig
from agents.wasm.decode import decode_module
from agents.wasm.syntax import F32, F64, I32, I64, ImportFunc, Module, ValType

HEADER = Path(toolchains.__file__).parent / "c" / "portcall.h"
needs_zig = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
LETTERS: dict[ValType, str] = {I32: "i", I64: "I", F32: "f", F64: "F"}


def portcall_imports(module: Module) -> dict[str, tuple[str, str]]:
    """Name -> letters of parameters and results, of the imports of the module `portcall`."""
    found = {}
    for entry in module.imports:
        if entry.module == "portcall" and isinstance(entry.desc, ImportFunc):
            kind = module.types[entry.desc.type]
            letters = ["".join(LETTERS[t] for t in types) for types in (kind.params, kind.results)]
            found[entry.name] = (letters[0], letters[1])
    return found


@needs_zig
def test_the_header_declares_the_whole_abi(tmp_path: Path) -> None:
    declared = re.findall(r"(portcall_(?:import_)?(\w+))\([^;{]*\);", HEADER.read_text())
    assert {name for _, name in declared} == set(IMPORTS)
    taken = "\n".join(f"    (void *){function}," for function, _ in declared)
    source = tmp_path / "all.c"
    source.write_text(
        f"#include <portcall.h>\nvoid *volatile taken[] = {{\n{taken}\n}};\nint main(void) {{ return !taken[0]; }}\n"
    )
    imports = portcall_imports(decode_module(compile_c(source)))
    assert imports == {name: (entry.params, entry.results) for name, entry in IMPORTS.items()}


@needs_zig
def test_c_with_setjmp_keeps_names_and_loses_debug_sections(tmp_path: Path) -> None:
    source = tmp_path / "jump.c"
    source.write_text(
        "#include <setjmp.h>\nstatic jmp_buf out;\nint main(void) {\n"
        "    if (setjmp(out)) return 7;\n    longjmp(out, 1);\n}\n"
    )
    module = decode_module(compile_c(source))
    assert module.tags
    names = [custom.name for custom in module.customs]
    assert "name" in names
    assert not [name for name in names if name.startswith(".debug")]


@needs_zig
def test_zig(tmp_path: Path) -> None:
    source = tmp_path / "go.zig"
    source.write_text(
        'extern "portcall" fn go(host: [*]const u8, len: usize) i32;\npub fn main() void {\n    _ = go("beta", 4);\n}\n'
    )
    assert portcall_imports(decode_module(compile_zig(source))) == {"go": ("ii", "i")}


@needs_zig
def test_the_compilers_own_words_reach_the_user(tmp_path: Path) -> None:
    source = tmp_path / "wrong.c"
    source.write_text("int main(void) { return undeclared_thing; }\n")
    with pytest.raises(ToolchainError, match=r"does not take wrong\.c:[\s\S]*undeclared_thing"):
        compile_c(source)


def test_a_missing_compiler_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "agent.c"
    source.write_text("int main(void) { return 0; }\n")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match=r"pip install 'portcall\[c\]'"):
        compile_c(source)
