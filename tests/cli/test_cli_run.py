"""`portcall pack`, `run` and `inspect`, together, as a user types them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result

from agents.engines.wasmtime import assemble
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from agents.wasm.syntax import Custom
from docking.cli.group import portcall
from tests.cli.shell import typed
from tests.dwarf import made
from tests.patience import PATIENCE
from tests.programs import ROOT

HELLO = ROOT / "examples" / "hello" / "hello.wat"
GREETINGS = "".join(f"info: hello from {place}\n" for place in ("here", "alpha", "beta", "gamma"))
COUNT = """
(module
  (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
  (func $turn (param $n i32) (drop (call $sleep (local.get $n))))
  (func (export "run") (param $times i32) (result i32)
    (local $n i32)
    (loop $again
      (call $turn (local.get $n))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (local.get $times))))
    (i32.mul (local.get $n) (i32.const 7))))
"""


def invoke(*words: object, code: int = 0, **options: Any) -> Result:
    """A command in this process; its exit code is `code`."""
    result = CliRunner().invoke(portcall, [str(word) for word in words], **options)
    shown = f"{words}\n{result.output}{result.exception!r}"
    assert result.exit_code == code, shown
    return result


def command(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    line = [sys.executable, "-m", "docking.cli", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, **options)


@pytest.fixture
def count(tmp_path: Path) -> Path:
    source = tmp_path / "count.wat"
    source.write_text(COUNT)
    return source


def test_an_agent_goes_from_place_to_place() -> None:
    assert invoke("run", HELLO).stderr == GREETINGS


@pytest.mark.parametrize("every", [1, 2, 3])
def test_hopping_changes_nothing(every: int) -> None:
    lines = invoke("run", "--hop-every", every, HELLO).stderr.splitlines(keepends=True)
    assert "".join(lines[:-1]) == GREETINGS
    assert lines[-1].startswith(f"portcall: {9 // every} hops, snapshots of ")


def test_no_more_hops_than_asked_for() -> None:
    assert "portcall: 2 hops, " in invoke("run", "--hop-every", 1, "--hops", 2, HELLO).stderr


def test_numbers_in_and_out(count: Path) -> None:
    assert invoke("run", count, 3).stdout == "21\n"
    assert invoke("run", "--hop-every", 1, count, 3).stdout == "21\n"


@pytest.mark.parametrize("words", [["x"], [], ["1", "2"], ["1.5"]])
def test_wrong_arguments_are_wrong_use(count: Path, words: list[str]) -> None:
    assert "Usage: " in invoke("run", count, *words, code=2).stderr


DOUBLE = """(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (memory (export "memory") 1)
  (func (export "double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2))))"""


def test_an_entry_with_parameters_and_wasi(tmp_path: Path) -> None:
    source = tmp_path / "add.wat"
    source.write_text(DOUBLE)
    assert invoke("run", source, 21).stdout == "42\n"
    for words in ((), (1, 2)):
        assert "double takes 1 argument, not" in invoke("run", source, *words, code=2).stderr
    assert "x" in invoke("run", source, "x", code=2).stderr


UNOFFERED = """(module (import "gojs" "wasmExit" (func (param i32)))
  (import "portcall" "sleep" (func (param f64))) (func (export "run")))"""


def test_imports_that_nobody_offers_are_told_when_packing(tmp_path: Path) -> None:
    source, image = tmp_path / "js.wat", tmp_path / "js.agent"
    source.write_text(UNOFFERED)
    refused = invoke("pack", source, "--strict", code=1).stderr
    assert not image.exists()
    told = invoke("pack", source).stderr
    assert image.exists()
    for text in (refused, told):
        assert "gojs.wasmExit, which is not offered" in text
        assert "portcall.sleep with types F -> ; they are i -> i" in text
    assert "warning" in told


def test_an_import_that_nobody_can_offer_is_told_too(tmp_path: Path) -> None:
    source = tmp_path / "global.wat"
    source.write_text('(module (import "env" "base" (global i32)) (func (export "run")))')
    assert "env.base" in invoke("pack", source, "--strict", code=1).stderr
    assert "env.base" in invoke("pack", source).stderr


def test_nothing_is_told_of_imports_that_are_offered(count: Path) -> None:
    assert invoke("pack", count, "--strict").stderr == ""


def test_pack_then_run_the_image(count: Path, tmp_path: Path) -> None:
    image = tmp_path / "other.name"
    printed = invoke("pack", count, "-o", image).stdout
    described = json.loads(invoke("inspect", image, "--json").stdout)
    assert printed.startswith(f"{image}: ")
    assert described["kind"] == "image"
    assert described["name"] == "count"
    assert described["entry"] == "run"
    assert described["imports"] == ["portcall.sleep"]
    assert described["suspension"] == {"functions": 2, "calls": 2, "polls": 1}
    assert invoke("run", image, 2).stdout == "14\n"


def test_the_same_source_gives_the_same_image(count: Path, tmp_path: Path) -> None:
    invoke("pack", count)
    kept = count.with_suffix(".agent").read_bytes()
    run = command("pack", count, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "another cache")})
    assert run.returncode == 0, run.stderr
    assert count.with_suffix(".agent").read_bytes() == kept


def test_a_frozen_stack_can_be_read_and_goes_on(count: Path, tmp_path: Path) -> None:
    frozen = tmp_path / "frozen"
    # In each turn: the poll, the call before it is made, its wait. So the sixth is the second turn's wait.
    invoke("run", "--suspend-to", frozen, "--hop-every", 6, count, 5)
    invoke("pack", count)
    image = count.with_suffix(".agent")
    described = json.loads(invoke("inspect", frozen, "--image", image, "--json").stdout)
    inner, outer = described["stack"]
    assert (inner["function"], inner["calls"]) == ("turn", "portcall.sleep")
    assert outer["calls"] == "turn"
    values = {value["what"]: value["value"] for value in outer["values"]}
    assert values["times"] == 5
    assert values["n"] == 1
    assert described["waits"] == {"in": "portcall.sleep", "arguments": [1], "for": "sleep", "with": [1000000]}
    text = invoke("inspect", frozen, "--image", image).stdout
    assert "stack, innermost first (2 frames)" in text
    assert "turn, site 1: calls portcall.sleep" in text
    assert invoke("run", image, "--resume-from", frozen).stdout == "35\n"
    assert invoke("inspect", frozen).stdout.count("function") == 2


def with_debug(source: str, sections: dict[str, bytes]) -> bytes:
    """The module with these debug sections."""
    module = decode_module(assemble(source))
    customs = tuple(Custom(name, content, 11) for name, content in sections.items())
    return encode_module(attrs.evolve(module, customs=(*module.customs, *customs)))


def test_lines_and_inlined_functions_are_shown(tmp_path: Path) -> None:
    # The second function begins 0x10 bytes into the code section, and its call is at 0x20, as in the debug information.
    body = f"(i32.const 1000) {'nop ' * 12} (call $sleep) drop {'nop ' * 20}"
    source = f"""(module (import "portcall" "sleep" (func $sleep (param i32) (result i32)))
                         (func {"nop " * 11}) (func $main (export "run") {body}))"""
    module, frozen = tmp_path / "main.wasm", tmp_path / "frozen"
    module.write_bytes(with_debug(source, made.sections()))
    assert "warning" not in invoke("pack", module).stderr
    image = module.with_suffix(".agent")
    invoke("run", "--suspend-to", frozen, "--hop-every", 1, image)
    text = invoke("inspect", frozen, "--image", image).stdout
    assert "  0  visit at src/main.c:5, inlined\n     main at src/main.c:11, site 1: calls portcall.sleep\n" in text
    (frame,) = json.loads(invoke("inspect", frozen, "--image", image, "--json").stdout)["stack"]
    assert (frame["function"], frame["file"], frame["line"]) == ("main", "src/main.c", 11)
    assert frame["inlined"] == [{"function": "visit", "file": "src/main.c", "line": 5}]


def test_a_function_is_found_by_the_name_that_a_stack_shows(tmp_path: Path) -> None:
    source = tmp_path / "trip.wat"
    source.write_text('(module (func $_ZN4trip4main17h2e654cd6d7626c85E (export "run") (drop (i32.const 4711))))')
    invoke("pack", source)
    shown = invoke("inspect", source.with_suffix(".agent"), "--code", "trip::main").stdout
    assert "i32.const 4711" in shown


def test_debug_information_that_cannot_be_read_is_told_and_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # it is told when it is packed, not again
    module = tmp_path / "count.wasm"
    module.write_bytes(with_debug(COUNT, {**made.sections(), ".debug_abbrev": b"\1"}))
    for _ in range(2):
        said = invoke("pack", module).stderr
        assert said.startswith("portcall: warning: count.wasm: its stack will be shown without source lines: ")
    assert invoke("run", module.with_suffix(".agent"), 5).stdout == "35\n"


def test_a_frozen_agent_in_python_shows_its_python_functions(tmp_path: Path) -> None:
    source, frozen = tmp_path / "trip.py", tmp_path / "frozen"
    source.write_text(
        "import portcall\ndef visit(place):\n    seen = [place]\n    portcall.go(place)\nlimit = 3\nvisit('alpha')\n"
    )
    invoke("run", source, "--suspend-to", frozen)
    described = json.loads(invoke("inspect", frozen, "--image", source, "--json").stdout)
    assert described["python"]["language"] == "python"
    visit, module = described["python"]["frames"][-2:]
    assert visit == {
        "function": "visit",
        "file": "/agent/trip.py",
        "line": 4,
        "variables": [{"name": "place", "value": "'alpha'"}, {"name": "seen", "value": "['alpha']"}],
    }
    assert (module["function"], module["line"]) == ("<module>", 6)
    assert len(described["stack"]) == described["frames"] > 10
    text = invoke("inspect", frozen, "--image", source).stdout
    assert "visit at /agent/trip.py:4\n       place  'alpha'\n       seen   ['alpha']\n" in text
    assert "site" not in text
    both = invoke("inspect", frozen, "--image", source, "--wasm").stdout
    assert both.startswith(text)
    assert "calls wasi_snapshot_preview1.fd_write" in both
    assert "--image, with its image or its source" in invoke("inspect", frozen).stdout


def test_a_program_that_ends_before_it_is_suspended(count: Path, tmp_path: Path) -> None:
    done = invoke("run", "--suspend-to", tmp_path / "frozen", "--hop-every", 1000, count, 5)
    assert done.stdout == "35\n"
    assert done.stderr == f"portcall: it ended before it was suspended: {tmp_path / 'frozen'} is not written\n"
    assert not (tmp_path / "frozen").exists()


def test_a_snapshot_of_another_image_is_refused(count: Path, tmp_path: Path) -> None:
    frozen = tmp_path / "frozen"
    invoke("run", "--suspend-to", frozen, "--hop-every", 2, count, 5)
    result = command("run", HELLO, "--resume-from", frozen)
    assert result.returncode == 1
    assert result.stderr == "portcall: the snapshot belongs to another image\n"


def test_ctrl_c_suspends(tmp_path: Path) -> None:
    source, frozen = tmp_path / "long.wat", tmp_path / "frozen"
    source.write_text(
        '(module (import "portcall" "log" (func $log (param i32 i32 i32) (result i32)))'
        ' (memory (export "memory") 1) (data (i32.const 0) "begun")'
        ' (func (export "run") (param $n i64) (result i64) (local $i i64)'
        " (drop (call $log (i32.const 2) (i32.const 0) (i32.const 5)))"
        " (loop $again (local.set $i (i64.add (local.get $i) (i64.const 1)))"
        " (br_if $again (i64.lt_u (local.get $i) (local.get $n)))) (local.get $i)))"
    )
    turns = 20_000_000_000
    line = [sys.executable, "-m", "docking.cli", "run", str(source), str(turns), "--suspend-to", str(frozen)]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "info: begun\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("portcall: suspended; its snapshot is in ")
        assert process.wait(PATIENCE) == 0
    invoke("pack", source)
    described = json.loads(invoke("inspect", frozen, "--image", source.with_suffix(".agent"), "--json").stdout)
    (frame,) = described["stack"]
    values = {value["what"]: value["value"] for value in frame["values"]}
    assert frame["kind"] == "poll"
    assert values["n"] == turns
    assert 0 <= values["i"] < turns


def test_ctrl_c_before_the_agent_has_begun_suspends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from docking.cli import run

    source, frozen = tmp_path / "count.wat", tmp_path / "frozen"
    source.write_text(COUNT)
    really = run.image_of

    def pressed(*words: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return really(*words)

    monkeypatch.setattr(run, "image_of", pressed)
    before = signal.getsignal(signal.SIGINT)
    said = invoke("run", source, "--suspend-to", frozen, "1000000000").stderr
    assert said.startswith("portcall: suspended; its snapshot is in ")
    assert frozen.exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_endings_that_are_not_the_agents_own(tmp_path: Path) -> None:
    endless, trap = tmp_path / "endless.wat", tmp_path / "trap.wat"
    endless.write_text('(module (func (export "run") (loop $again (br $again))))')
    trap.write_text('(module (func (export "run") unreachable))')
    result = command("run", endless, "--cpu", "0.2")
    assert result.returncode == 125
    assert result.stderr.startswith("portcall: the agent was stopped (cpu): ")
    script = tmp_path / "loop.py"
    script.write_text("def search(n):\n    while True:\n        n += 1\nsearch(5)\n")
    result = command("run", script, "--cpu", "0.5")
    assert result.returncode == 125
    said = result.stderr.splitlines()
    assert said[0].startswith("portcall: the agent was stopped (cpu): ")
    assert said[2] == "Python stack, innermost first (2 frames)"
    assert said[3].startswith("  0  search at /agent/loop.py:")
    assert said[4].startswith("       n  ")
    assert said[5] == "  1  <module> at /agent/loop.py:4"
    result = command("run", trap)
    assert result.returncode == 125
    assert result.stderr.startswith("portcall: the agent trapped (unreachable): ")


MISTAKES = {
    "a file that is not there": (["run", "nowhere.wat"], 1, "there is no file nowhere.wat"),
    "a file of no known kind": (["run", "notes.txt"], 1, "neither an image nor a source that is known"),
    "text that is not a module": (["pack", "wrong.wat"], 1, "the text is not a module"),
    "an engine that is not known": (["run", "count.wat", "--engine", "v9"], 1, "there is no engine 'v9'"),
    "an export that is not there": (["pack", "count.wat", "--entry", "walk"], 1, "no function 'walk'"),
    "a file that is no image": (["inspect", "notes.txt"], 1, "this is no image, snapshot, capsule"),
    "a folder that is not there": (
        ["run", "count.wat", "--dir", "nowhere::/x"],
        2,
        "invalid value for --dir: nowhere::/x: ",
    ),
    "a variable without a value": (["run", "count.py", "--env", "A"], 2, "--env A: not NAME=VALUE"),
}


@pytest.mark.parametrize(("words", "code", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_end_in_a_sentence(words: list[str], code: int, sentence: str, count: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("buy milk\n")
    (tmp_path / "wrong.wat").write_text("(module (func (export")
    (tmp_path / "count.py").write_text("print(1)\n")
    result = command(*words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.returncode == code, result
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("how", [".", ".::.", ".::/"])
def test_a_granted_working_directory_does_not_hide_the_script(tmp_path: Path, how: str) -> None:
    (tmp_path / "job.py").write_text('print("it runs")\nprint(open("notes.txt").read())')
    (tmp_path / "notes.txt").write_text("of the host")
    ran = command("run", "--dir", how, "job.py", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (ran.stdout, ran.stderr) == ("it runs\nof the host\n", "")


FOLLOWER = """
import portcall
while portcall.next_stop():
    portcall.go(portcall.next_stop())
    print("at", portcall.here())
try:
    portcall.go("elsewhere")
    print("at", portcall.here())
except OSError as error:
    print("refused")
"""


@pytest.mark.parametrize(
    ("via", "said"),
    [
        ("beta,gamma,beta", ["at beta", "at gamma", "at beta", "refused"]),
        ("here,beta,beta", ["at beta", "refused"]),  # it begins at its first stop, and merges two in a row
        ("beta|gamma,(delta,zeta)*2", ["at beta", *["at delta", "at zeta"] * 2, "refused"]),
        ("{beta,gamma},delta?", ["at beta", "at gamma", "at delta", "refused"]),
        ("beta,any@me", ["at beta", "at elsewhere"]),
        ("beta,any", ["at beta", "at elsewhere"]),
        # gamma may be the certified station, and be left for beta.
        ("beta,(any@me,beta)?,gamma", ["at beta", "at gamma", "at beta", "at gamma", "refused"]),
        ("roam", ["at elsewhere"]),
    ],
)
def test_an_agent_follows_the_itinerary_that_it_is_given(via: str, said: list[str], tmp_path: Path) -> None:
    (tmp_path / "follow.py").write_text(FOLLOWER)
    done = command("run", tmp_path / "follow.py", "--via", via, "--hop-every", 1000, "--hops", 50)
    assert done.stdout.splitlines() == said
    if said[-1] == "refused":
        assert f"does not lead to 'elsewhere' from here: it is {via}, and ends here" in done.stderr
        allow = shlex.split(done.stderr.partition("portcall launch --via ")[2].partition("\n")[0])[0]
        again = command("run", tmp_path / "follow.py", "--via", allow)
        assert again.stdout.splitlines()[-1] in ("at elsewhere", "refused")
        assert "at elsewhere" in again.stdout


def test_stops_that_may_be_left_out_and_what_the_way_allows(tmp_path: Path) -> None:
    (tmp_path / "skip.py").write_text(
        "import portcall\n"
        "for place in ['gamma', 'alpha', 'gamma', 'beta', 'delta']:\n"
        "    try:\n"
        "        portcall.go(place)\n"
        "        print('at', portcall.here(), 'next', portcall.next_stop())\n"
        "    except OSError:\n"
        "        print('not', place)\n"
    )
    done = command("run", tmp_path / "skip.py", "--via", "alpha,beta?,gamma|zeta,delta")
    assert done.stdout.splitlines() == [
        "not gamma", "at alpha next beta", "at gamma next delta", "not beta", "at delta next "
    ]  # fmt: skip
    said = (
        "warning: go failed: its way does not lead to {!r} from here: it is alpha,beta?,gamma|zeta,delta, and leads to"
    )
    said += " {!r}. To allow it: portcall launch --via {!r}"
    assert done.stderr.splitlines() == [
        said.format("gamma", "alpha", "gamma?,alpha,beta?,gamma|zeta,delta"),
        said.format("beta", "delta", "alpha,beta?,gamma|zeta,beta?,delta"),
    ]


def test_a_way_that_is_none_is_shown_with_the_place(tmp_path: Path) -> None:
    (tmp_path / "follow.py").write_text(FOLLOWER)
    done = command("run", tmp_path / "follow.py", "--via", "beta,(gamma|,delta)")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0].endswith("invalid value for '--via': the way is not understood: a station's name is missing here")
    assert lines[1].startswith("  beta,(gamma|,delta)")
    assert lines[2].startswith("              ^")


def test_one_that_follows_an_itinerary_and_has_none_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "follow.py").write_text(FOLLOWER)
    done = command("run", tmp_path / "follow.py")
    assert (done.stdout, done.returncode) == ("at elsewhere\n", 0)
    (tmp_path / "survey.py").write_text(FOLLOWER.partition("try:")[0])
    done = command("run", tmp_path / "survey.py")
    assert (done.stdout, done.returncode) == ("", 0)
    assert "--via alpha,beta gives it one" in done.stderr


def test_exceptions_and_odd_floats_on_a_frozen_stack_are_shown(tmp_path: Path) -> None:
    source, frozen = tmp_path / "holds.wat", tmp_path / "frozen"
    source.write_text("""(module
      (import "portcall" "go" (func $go (param i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) "beta") (tag $e (param i32))
      (global $odd (mut f64) (f64.const nan))
      (func (export "run") (local $caught exnref) (local $float f64)
        (local.set $float (f64.const nan))
        (block $handler (result i32 exnref)
          (try_table (catch_ref $e $handler) (throw $e (i32.const 77)))
          (unreachable))
        (local.set $caught) (drop) (drop (call $go (i32.const 0) (i32.const 4)))
        (global.set $odd (local.get $float))
        (throw_ref (local.get $caught))))""")
    for words in (["pack", source], ["run", source, "--suspend-to", frozen]):
        subprocess.run(typed(*words), check=True, capture_output=True, cwd=ROOT)
    asked = typed("inspect", frozen, "--image", source.with_suffix(".agent"), "--json")
    done = subprocess.run(asked, capture_output=True, cwd=ROOT, check=True)
    described = json.loads(done.stdout, parse_constant=pytest.fail)  # NaN is a constant of Python's, not of JSON's
    (frame,) = described["stack"]
    assert [value["type"] for value in frame["values"]] == ["f64", "exnref"]
    assert frame["values"][0]["value"] == described["globals"][0]["value"] == "nan"


# Counts the bytes of its input.
COUNTER = """
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2) (data (i32.const 0) "\\40\\00\\00\\00\\00\\00\\01\\00")
  (func (export "count") (param i32) (result i32) (local $n i32)
    (loop $more
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $n (i32.add (local.get $n) (i32.load (i32.const 8))))
      (br_if $more (i32.load (i32.const 8))))
    (local.get $n)))
"""


def test_a_file_as_input_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "count.wat").write_text(COUNTER)
    size = (1 << 20) + 1
    (tmp_path / "input").write_bytes(bytes(size))
    for options, code in ((["--input-size", "1"], 1), (["--input-size", "2"], 0), ([], 0)):
        with open(tmp_path / "input", "rb") as file:
            done = command("run", *options, tmp_path / "count.wat", "--", 0, stdin=file)
        assert done.returncode == code, done.stderr
        if code:
            assert "more than 1 MiB" in done.stderr
            assert "--input-size" in done.stderr
        else:
            assert done.stdout.split() == [str(size)]
