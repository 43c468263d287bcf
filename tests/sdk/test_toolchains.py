"""Sources become modules: the same in every folder, with the ABI's imports; compilers that are missing or not content
say so."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from agents.engines.wasmtime import assemble
from agents.errors import InvalidModule, ToolchainError, ToolchainMissing
from agents.hostcalls import IMPORTS
from agents.lines import lines_of
from agents.sdk import quickjs, toolchains
from agents.sdk.__main__ import main as sdk
from agents.sdk.sources import load_image
from agents.sdk.toolchains import compile_c, compile_zig, without_debug
from agents.wasm.decode import decode_module
from agents.wasm.syntax import F32, F64, I32, I64, ImportFunc, Module, ValType

from .languages import missing

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
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
def test_c_with_setjmp_keeps_names(tmp_path: Path) -> None:
    source = tmp_path / "jump.c"
    source.write_text(
        "#include <setjmp.h>\nstatic jmp_buf out;\nint main(void) {\n"
        "    if (setjmp(out)) return 7;\n    longjmp(out, 1);\n}\n"
    )
    module = decode_module(compile_c(source))
    assert module.tags
    assert "name" in [custom.name for custom in module.customs]
    assert "name" in [custom.name for custom in decode_module(without_debug(compile_c(source))).customs]


@needs_zig
def test_zig(tmp_path: Path) -> None:
    source = tmp_path / "go.zig"
    source.write_text(
        'extern "portcall" fn go(host: [*]const u8, len: usize) i32;\npub fn main() void {\n    _ = go("beta", 4);\n}\n'
    )
    assert portcall_imports(decode_module(compile_zig(source))) == {"go": ("ii", "i")}


@needs_zig
def test_a_source_is_named_in_a_module_without_the_folders_above_it(tmp_path: Path) -> None:
    source = tmp_path / "-odd name.c"
    source.write_text("#include <stdio.h>\nint main(void) { puts(__FILE__); }\n")
    image = load_image(source)
    assert b"./-odd name.c\0" in image.code
    assert [file for file in lines_of(image.code).files if "odd" in file] == ["-odd name.c"]
    (tmp_path / "subprocess.py").write_text("an agent in Python may be called as it likes")
    link = tmp_path / "links" / "linked.c"
    link.parent.mkdir()
    link.symlink_to(source)
    assert load_image(link).code == image.code


WRONG = {
    "wrong.c": "int main(void) { return undeclared_thing; }\n",
    "wrong.zig": "pub fn main() void {\n    undeclared_thing();\n}\n",
    "wrong.rs": "fn main() {\n    undeclared_thing();\n}\n",
    "wrong.ts": "undeclared_thing();\n",
    "wrong.py": "import portcall\nundeclared thing\n",
}


@pytest.mark.parametrize("name", WRONG)
def test_the_compilers_own_words_reach_the_user(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_text(WRONG[name])
    try:
        load_image(source)
    except ToolchainMissing as reason:
        missing(reason)
    except ToolchainError as error:
        words = r"line 2: invalid syntax" if name == "wrong.py" else r"does not take wrong[\s\S]*undeclared_thing"
        assert re.search(words, str(error))
    else:
        pytest.fail("this source has a mistake")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/trip.*")), ids=lambda path: path.name)
def test_the_image_does_not_depend_on_the_folder(path: Path, tmp_path: Path) -> None:
    digests = set()
    for folder in (tmp_path / "here", tmp_path / "elsewhere" / "deeper"):
        folder.mkdir(parents=True)
        shutil.copy(path, folder)
        try:
            image = load_image(folder / path.name)
        except ToolchainMissing as reason:
            missing(reason)
        assert str(tmp_path).encode() not in image.code
        assert str(ROOT).encode() not in image.code
        digests.add(image.digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("agent.c", r"pip install 'portcall\[c\]'"),
        ("agent.zig", r"pip install 'portcall\[c\]'"),
        ("agent.rs", "rustup target add wasm32-wasip1"),
        ("agent.ts", "npm install assemblyscript"),
        ("agent.js", "pip install qjs-wasi-reactor"),
        ("agent.py", r"pip install 'portcall\[python\]'"),
    ],
)
def test_a_missing_compiler_says_how_to_get_it(
    name: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / name
    source.write_text("")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(quickjs, "PACKAGE", "qjs-wasi-reactor.absent")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ToolchainMissing, match=advice):
        load_image(source)


def test_a_rustc_without_the_library_for_wasi_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, library = tmp_path / "first", tmp_path / "second", tmp_path / "lib"
    for folder, printed in ((first, tmp_path / "nothing"), (second, library)):
        folder.mkdir()
        (folder / "rustc").write_text(f"#!/bin/sh\necho {printed}\n")
        (folder / "rustc").chmod(0o755)
    library.mkdir()
    (library / "libstd-1.rlib").touch()
    monkeypatch.setenv("PATH", f"{first}:{second}")
    assert toolchains.find_rustc("it") == (str(second / "rustc"), "wasm32-wasip1")


def test_what_can_be_packed_here_is_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert sdk([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["python", "javascript", "c", "zig", "rust", "go", "assemblyscript"]
    assert sdk(["python"]) == 0
    assert Path(capsys.readouterr().out.strip()).name == "portcall.py"
    assert sdk(["cobol"]) == 2
    monkeypatch.setenv("PATH", "")
    assert sdk(["rust"]) == 1
    assert "rustup" in capsys.readouterr().err


@pytest.mark.parametrize("lacking", ["_initialize", "malloc", "qjs_init_argv", "proc_exit", "js_std_await"])
def test_a_module_that_is_no_quickjs_is_refused(lacking: str) -> None:
    exported = {"_initialize", "malloc", "qjs_init_argv", "qjs_get_context"} - {lacking}
    functions = "".join(f'(func (export "{name}"))' for name in sorted(exported))
    imported = "" if lacking == "proc_exit" else '(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))'
    with pytest.raises(InvalidModule, match=lacking):
        quickjs.with_entry(assemble(f"(module {imported} {functions})"))
