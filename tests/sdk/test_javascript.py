"""JavaScript's promises, timers and modules, here and across hops."""

from __future__ import annotations

from pathlib import Path

import pytest

import agents
from agents.errors import ToolchainError, ToolchainMissing
from agents.sdk.carried import scripts_beside
from agents.sdk.sources import Choices, load_image, user_cache

from .languages import Open, missing


def ran(folder: Path, files: dict[str, str], every: int | None = None, *data: str) -> tuple[int, str]:
    """Exit code and output of an agent whose script is `main.js`; `data`: files that it takes along."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    try:
        choices = Choices(polls="none", files={name: folder / name for name in data})
        image = load_image(folder / "main.js", choices, cache=user_cache())
    except ToolchainMissing as reason:
        missing(reason)
        raise
    place = Open.home()
    outcome = agents.run(image, ambient=place, answer=place.answer, hop_every=every)
    assert isinstance(outcome, agents.Finished), outcome
    return outcome.exit_code, place.printed


ASYNC = """
const seen = [];
setTimeout((word) => seen.push(word), 1, "timer");
let ticks = 0;
const ticker = setInterval(() => { if (++ticks === 3) { clearInterval(ticker); seen.push("third tick"); } }, 2);
setTimeout(() => { throw new Error("it was taken back"); }, 100000);
clearTimeout(2 + 1);
async function trip() {
  for (const station of ["beta", "gamma"]) {
    await portcall.go(station);
    await new Promise((done) => setTimeout(done, 3));
    seen.push(portcall.here());
  }
  await os.sleepAsync(20);
  let chain = Promise.resolve();
  for (let n = 0; n < 50; n++) chain = chain.then(() => n);
  chain.then((n) => console.log(n, seen.join(", ")));
}
trip();
console.log("at the end of", portcall.here());
"""


@pytest.mark.parametrize("every", [None, 1])
def test_promises_and_timers_go_on_wherever_the_agent_is(tmp_path: Path, every: int | None) -> None:
    code, printed = ran(tmp_path, {"main.js": ASYNC}, every)
    assert code == 0
    # `trip` runs to its first pause before the script's last line, which prints where it is by then.
    first, last = printed.splitlines()
    assert first == "at the end of beta"
    number, _, seen = last.partition(" ")
    assert number == "49"
    assert set(seen.split(", ")) == {"timer", "third tick", "beta", "gamma"}
    assert seen.index("beta") < seen.index("gamma")


def test_await_at_the_top_makes_a_module(tmp_path: Path) -> None:
    script = (
        'await portcall.go("beta"); await new Promise((done) => setTimeout(done, 1)); console.log(portcall.here());'
    )
    assert ran(tmp_path, {"main.js": script}, 1) == (0, "beta\n")


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ('setTimeout(() => { throw new Error("late"); }, 1); setTimeout(() => console.log("never"), 5000);', "late"),
        ('(async () => { throw new Error("refused"); })();', "refused"),
        ('throw new Error("at once");', "at once"),
    ],
)
def test_an_error_that_nobody_catches_ends_it(tmp_path: Path, script: str, word: str) -> None:
    code, printed = ran(tmp_path, {"main.js": script})
    assert code != 0
    assert word in printed
    assert "never" not in printed


MODULES = {
    "main.js": """import { tour } from "./lib/tour.js";
import "./side.js";
console.log(await tour(), globalThis.side);
""",
    "side.js": "globalThis.side = 1;",
    "lib/tour.js": """// import "./not-there.js"
export { name } from "../name.js";
import {
  name,
} from '../name.js';
const text = `
import "./nor-this.js"`;
export async function tour() { const { far } = await import("./far.js"); portcall.go(name); return far(); }
""",
    "lib/far.js": 'export const far = () => "at " + portcall.here();',
    "name.js": 'export const name = "beta";',
    "unused.js": "",
}


def test_modules_travel_with_the_script(tmp_path: Path) -> None:
    assert ran(tmp_path, MODULES, 1) == (0, "at beta 1\n")
    taken = scripts_beside(tmp_path / "main.js", MODULES["main.js"].encode())
    assert list(taken) == ["lib/far.js", "lib/tour.js", "name.js", "side.js"]


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ('\nimport x from "./x.js"', r"main.js, line 2: './x.js' cannot be imported: there is no such file"),
        ('import "../x.js"', "an agent carries what is in the folder of its script"),
    ],
)
def test_an_import_of_what_is_not_there_is_told_when_packing(tmp_path: Path, script: str, sentence: str) -> None:
    (tmp_path.parent / "x.js").write_text("")
    with pytest.raises(ToolchainError, match=sentence):
        scripts_beside(tmp_path / "main.js", script.encode())
    assert scripts_beside(tmp_path / "main.js", b'try { await import("./x.js") } catch {}') == {}
    assert scripts_beside(tmp_path / "main.js", b'import * as std from "qjs:std"; "import \'./x.js\'"') == {}


def test_no_more_modules_than_an_agent_carries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.sdk.carried.MAX_CARRIED_FILES", 2)
    for n in range(4):
        (tmp_path / f"m{n}.js").write_text(f'import "./m{n + 1}.js"' if n < 3 else "")
    with pytest.raises(ToolchainError, match="more than an agent carries"):
        scripts_beside(tmp_path / "main.js", b'import "./m0.js"')


def test_data_files_go_along(tmp_path: Path) -> None:
    files = {
        "main.js": 'await portcall.go("beta"); console.log(std.loadFile("/agent/prices.json"));',
        "prices.json": "{}",
    }
    assert ran(tmp_path, files, None, "prices.json") == (0, "{}\n")
    with pytest.raises(ToolchainError, match=r"/agent/main\.js is the agent's own code"):
        load_image(tmp_path / "main.js", Choices(polls="none", files={"main.js": tmp_path / "main.js"}))
