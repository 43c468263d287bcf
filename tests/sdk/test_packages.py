"""Packages and files that an agent carries, and imports that are told when packing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import agents
from agents import canonical
from agents.ambient import StandaloneHost
from agents.errors import ToolchainError
from agents.sdk import carried, micropython
from agents.sdk.carried import modules_beside
from agents.sdk.packages import Needs, needs
from agents.sdk.sources import Choices, load_image, user_cache
from agents.waits import Arrived, Event, Wait
from agents.wasi.state import WasiState
from tests.sdk.languages import cpython
from tests.sdk.test_carried import folder_with

# A package with data, and the distribution that it needs; both of this test.
SHOP = {
    "lug_shop/__init__.py": "\ufefffrom . import prices\nfrom .prices import price\n"
    "try:\n    import nowhere\nexcept ImportError:\n    nowhere = None\n",
    "lug_shop/prices.py": "import lug_money.units as units\n"
    "def price(name):\n    import optional_and_absent\ndef cents(n):\n    return units.CENT * n\n",
    "lug_shop/apples.txt": "red",
    "lug_shop/py.typed": "",
    "lug_shop/prices.pyi": "",
    "lug_shop/__pycache__/prices.cpython-311.pyc": "",
    "lug_money/__init__.py": "import sys\nif sys.version_info < (3,):\n    import StringIO\n",
    "lug_money/units.py": "CENT = 1\n",
    "lug_other/__init__.py": "",
    "Lug_Shop_Kit-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: Lug-Shop.Kit\nVersion: 1.0\n",
    "Lug_Shop_Kit-1.0.dist-info/top_level.txt": "lug_shop\n",
    "Lug_Shop_Kit-1.0.dist-info/RECORD": "lug_shop/__init__.py,,\n",
    "lug_compiled/__init__.py": "from ._fast import add",
    "lug_compiled/_fast.cpython-311-x86_64-linux-gnu.so": "",
    "lug_needs_compiled.py": "import lug_compiled\n",
    "lug_modern.py": "def f(a, /):\n    return a\n",
}
CARRIED = [
    "lug_money/__init__.py",
    "lug_money/units.py",
    "lug_shop/__init__.py",
    "lug_shop/apples.txt",
    "lug_shop/prices.py",
    "lug_shop/py.typed",
]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which Python looks for packages, with those above."""
    site = tmp_path / "site"
    folder_with(site, SHOP)
    monkeypatch.syspath_prepend(site)  # type: ignore[no-untyped-call]
    return site


def needed(folder: Path, text: str, *names: str, **beside: str) -> Needs:
    script = folder_with(folder / "mine", {"main.py": text, **{f"{name}.py": each for name, each in beside.items()}})
    source = script.read_bytes()
    return needs(script, source, modules_beside(script, source), names, micropython.inside())


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("name", ["lug_shop", "lug-shop-kit", "Lug.Shop_Kit"])
def test_a_package_goes_along_whole_with_what_it_imports(tmp_path: Path, name: str) -> None:
    found = needed(tmp_path, "import lug_shop\n", name)
    assert list(found.packages) == CARRIED
    assert found.packages["lug_shop/__init__.py"].startswith(b"from")
    assert found.missing == ()
    assert set(found.read) == {path for path in CARRIED if path.endswith(".py")}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("lug_compiled", r"--package lug_compiled: lug_compiled has compiled parts \(lug_compiled/_fast\.cpython.*\)"),
        ("lug_needs_compiled", r"lug_needs_compiled\.py, line 1: lug_compiled has compiled parts"),
        ("lug_absent", "there is no package lug_absent in the environment that packs"),
        ("lug_shop.prices", "carried whole: --package lug_shop"),
        ("../mine", "there is no package"),
        ("portcall", "a module portcall of its own"),
        ("json", "inside the interpreter already"),
        ("itertools", "a part of the Python that packs"),
    ],
)
def test_packages_that_cannot_be_carried(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(ToolchainError, match=why):
        needed(tmp_path, "", name)


def test_a_namespace_is_not_carried(tmp_path: Path, environment: Path) -> None:
    folder_with(environment, {"lug_space/part/__init__.py": ""})
    with pytest.raises(ToolchainError, match="namespace of several distributions"):
        needed(tmp_path, "", "lug_space")


def test_bounds(tmp_path: Path, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "MAX_CARRIED_FILES", len(CARRIED) - 1)
    with pytest.raises(ToolchainError, match="more than an agent carries: 'lug_money'"):
        needed(tmp_path, "", "lug_shop")
    (environment / "lug_other" / "big.bin").write_bytes(b"")
    with (environment / "lug_other" / "big.bin").open("r+b") as file:
        file.truncate(carried.MAX_CARRIED_BYTES + 1)
    with pytest.raises(ToolchainError, match=r"lug_other/big\.bin is larger than 16 MiB"):
        needed(tmp_path, "", "lug_other")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("import json, portcall, ujson\nimport helper", []),
        ("import json\nimport requests\n", [("requests", 2)]),
        ("def f():\n    from asyncio import sleep\n", [("asyncio", 2)]),
        ("from __future__ import annotations\n", [("__future__", 1)]),
        ("import os.path\n", [("os.path", 1)]),
        ("from collections.abc import Mapping\n", [("collections.abc", 1)]),
        ("try:\n    import requests\nexcept ImportError:\n    requests = None\n", []),
        ("try:\n    import requests\nexcept (ValueError, ModuleNotFoundError):\n    import other\n", []),
        ("try:\n    import requests\nexcept:\n    pass\n", []),
        ("try:\n    import requests\nexcept ValueError:\n    pass\n", [("requests", 2)]),
        ("try:\n    pass\nexcept ImportError:\n    pass\nfinally:\n    import requests\n", [("requests", 6)]),
        ("try:\n    from typing import TYPE_CHECKING\nexcept ImportError:\n    TYPE_CHECKING = False\n"
         "if TYPE_CHECKING:\n    import requests\nelse:\n    import other\n", [("other", 8)]),
        ("import sys\nif sys.implementation.name == 'cpython':\n    import requests\n", []),
        ("import sys\nif len(sys.argv) > 1:\n    import requests\n", [("requests", 3)]),
        ("from lug_shop import apples\n", [("lug_shop", 1)]),  # it is there, but was not asked for
    ],
)  # fmt: skip
def test_what_is_missing_is_told_with_its_line(tmp_path: Path, text: str, missing: list[tuple[str, int]]) -> None:
    found = needed(tmp_path, text, helper="import json")
    assert [(each.name, each.line) for each in found.missing] == missing
    assert {each.file for each in found.missing} <= {"main.py"}


def test_what_a_module_beside_it_lacks_is_told_only_if_it_is_sure_to_be_imported(tmp_path: Path) -> None:
    assert [(each.file, each.name) for each in needed(tmp_path, "import a", a="\nimport csv").missing] == [
        ("a.py", "csv")
    ]
    optional = "try:\n    import a\nexcept ImportError:\n    pass"
    assert needed(tmp_path, optional, a="import csv").missing == ()


def test_the_message_says_what_to_do(tmp_path: Path) -> None:
    script = folder_with(tmp_path, {"main.py": "import portcall\n" + "".join(f"import m{n}\n" for n in range(8))})
    with pytest.raises(ToolchainError) as caught:
        load_image(script)
    text = str(caught.value)
    assert text.startswith("main.py, line 2: MicroPython has no module m0")
    assert "--package m0, or take CPython with --python FILE" in text
    assert text.endswith("m1 (main.py, line 3), m2 (main.py, line 4), m3 (main.py, line 5), m4 (main.py, line 6)"
                         " and 3 more")  # fmt: skip


@pytest.mark.usefixtures("environment")
def test_syntax_that_micropython_has_not_is_told_of_packages_too(tmp_path: Path) -> None:
    script = folder_with(tmp_path / "mine", {"main.py": "import lug_modern"})
    with pytest.raises(ToolchainError, match=r"lug_modern\.py, line 1: MicroPython has no positional-only"):
        load_image(script, Choices(packages=("lug_modern",)))


def said_by(script: Path, choices: Choices) -> str:
    """What an agent prints that goes from alpha to beta, and in a fresh instance at each opportunity."""
    said: list[bytes] = []
    place = StandaloneHost(lambda: 0, lambda: 0, bytes, station="alpha", sink=lambda fd, data: said.append(data))

    def answer(wait: Wait) -> Event:
        place.station = "beta"
        return Arrived()

    image = load_image(script, choices, cache=user_cache())
    assert isinstance(agents.run(image, ambient=place, answer=answer, hop_every=1, hops=5), agents.Finished)
    return b"".join(said).decode()


AFAR = """import portcall
portcall.go("beta")
from lug_shop import prices
print(portcall.here(), prices.cents(3), open("/agent/data/fruit.json").read(), open("/rules").read())
"""


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("interpreter", ["micropython", "cpython"])
def test_packages_and_files_are_there_afar(tmp_path: Path, interpreter: str) -> None:
    script = folder_with(tmp_path / "mine", {"main.py": AFAR, "fruit.json": "[]", "rules.txt": "none"})
    choices = Choices(
        python=cpython() if interpreter == "cpython" else None,
        files={"data/fruit.json": script.with_name("fruit.json"), "/rules": script.with_name("rules.txt")},
        packages=("lug_shop",),
    )
    assert said_by(script, choices) == "beta 3 [] none\n"


def test_a_module_of_the_standard_library_can_go_along(tmp_path: Path) -> None:
    text = "import portcall\nportcall.go('beta')\nimport bisect\nprint(bisect.bisect([1, 3, 5], 4))\n"
    assert said_by(folder_with(tmp_path, {"main.py": text}), Choices(packages=("bisect",))) == "2\n"


def test_the_list_of_modules_is_that_of_the_interpreter(tmp_path: Path) -> None:
    listed = folder_with(tmp_path, {"main.py": "help('modules')\n"})
    said = said_by(listed, Choices()).partition("Plus any modules")[0].split()
    names = sorted({name.partition("/")[0] for name in said} | micropython.MODULES)
    text = (
        f"for name in {[*names, *('u' + name for name in names)]}:\n"
        "    try:\n        __import__(name)\n        print(name)\n    except ImportError:\n        pass\n"
    )
    assert set(said_by(folder_with(tmp_path, {"main.py": text}), Choices()).split()) == micropython.inside()


def luggage_of(image: agents.AgentImage) -> set[str]:
    """The paths of all files in it."""
    state = WasiState.decode(canonical.decode(image.luggage))
    found = set()
    todo = [("", state.luggage.root)]
    while todo:
        path, node = todo.pop()
        if node.folder is None:
            found.add(path)
        else:
            todo += [(f"{path}/{name}", child) for name, (_, child) in node.folder.entries.items()]
    return found


def test_files_go_along_with_any_source(tmp_path: Path) -> None:
    source = tmp_path / "trip.wat"
    source.write_text('(module (func (export "_start")))')
    (tmp_path / "prices.json").write_text("{}")
    image = load_image(source, Choices(files={"prices.json": tmp_path / "prices.json"}))
    assert luggage_of(image) == {"/agent/prices.json"}


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"../x": "a"}, "no path for a file"),
        ({"/": "a"}, "no path for a file"),
        ({"": "a"}, "no path for a file"),
        ({"/portcall/here": "a"}, "no path for a file"),
        ({"/dev/null": "a"}, "no path for a file"),
        ({"/lib/portcall.py": "a"}, "no path for a file"),
        ({"main.py": "a"}, r"/agent/main\.py is the agent's own code"),
        ({"x": "a", "/agent/x": "a"}, "two files are called /agent/x"),
        ({"x": "a", "x/y": "a"}, "cannot be an agent's luggage"),
        ({"x\0y": "a"}, "cannot be an agent's luggage"),
    ],
)
def test_paths_that_cannot_be(tmp_path: Path, files: Mapping[str, str], why: str) -> None:
    script = folder_with(tmp_path, {"main.py": "", "a": ""})
    with pytest.raises(ToolchainError, match=why):
        load_image(script, Choices(files={guest: tmp_path / host for guest, host in files.items()}), cache=user_cache())


def test_what_is_packed_takes_nothing_more(tmp_path: Path) -> None:
    script = folder_with(tmp_path, {"main.py": "", "a": ""})
    packed = tmp_path / "main.agent"
    packed.write_bytes(load_image(script, cache=user_cache()).pack())
    with pytest.raises(ToolchainError, match="packed already"):
        load_image(packed, Choices(files={"a": tmp_path / "a"}))
    (tmp_path / "x.wat").write_text("(module)")
    with pytest.raises(ToolchainError, match="packages are for agents in Python"):
        load_image(tmp_path / "x.wat", Choices(packages=("six",)))
