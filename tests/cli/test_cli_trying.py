"""`portcall run` plays stations with services, messages, clones and refusals; `portcall lab` runs real ones."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.cli.test_cli_run import command, invoke
from tests.patience import PATIENCE

SURVEY = """
import portcall
while portcall.next_stop():
    try:
        portcall.go(portcall.next_stop())
    except OSError as error:
        print("error", error.errno)
        break
    print(portcall.call("stock.count", "nuts").decode(), portcall.lookup("stock.count"))
"""
SHOP = """
import asyncio

def services(station):
    @station.service("stock.count")
    async def count(request, visitor):
        await asyncio.sleep(0)
        return f"{request.decode()} at {station.name} for {visitor.label}, hop {visitor.hop}, call {visitor.call}"

def other(station):
    if station.name == "beta":
        station.offer("stock.count", lambda request: b"few")

def none():
    pass

def upper(request):
    return request.upper()
"""
FAMILY = """
import portcall
parent = portcall.me()
children = []
for name in ("beta", "gamma"):
    child = portcall.clone()
    if child is None:
        portcall.go(name)
        portcall.sleep(0.01 if name == "beta" else 0)
        portcall.send(parent, "greetings from " + portcall.here())
        portcall.exit()
    children.append(child)
print(portcall.me(), children)
print(sorted((portcall.recv().decode(), portcall.sender()) for _ in children))
try:
    portcall.recv()
except OSError as error:
    print("error", error.errno)
"""


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_services_that_reply_what_the_option_says(tmp_path: Path) -> None:
    survey = written(tmp_path, survey=SURVEY) / "survey.py"
    said = invoke("run", survey, "--via", "beta,gamma", "--service", "stock.count=12").stdout
    assert said.splitlines() == ["12 ['beta', 'here', 'gamma']", "12 ['gamma', 'here', 'beta']"]
    options = ["--service", "stock.count@beta=3 of 4", "--service", "stock.count@gamma="]
    said = invoke("run", survey, "--via", "beta,gamma", *options).stdout
    assert said.splitlines() == ["3 of 4 ['beta', 'gamma']", " ['gamma', 'beta']"]


def test_services_of_a_module(tmp_path: Path) -> None:
    folder = written(tmp_path, survey=SURVEY, shop=SHOP)

    def said(*options: str) -> list[str]:
        done = command("run", "survey.py", "--via", "beta,gamma", *options, cwd=folder)
        return done.stdout.splitlines() + done.stderr.splitlines()[:1]

    assert [line.split(" [")[0] for line in said("--services", "shop")] == [
        "nuts at beta for survey, hop 1, call 1",
        "nuts at gamma for survey, hop 2, call 1",
    ]
    assert said("--services", "shop:other") == [
        "few ['beta']",
        "warning: call failed: this station offers no service 'stock.count', nor any other",
    ]
    assert [line.split()[0] for line in said("--service", "stock.count=shop:upper")] == ["NUTS", "NUTS"]


def test_a_service_that_fails_is_told_to_its_author(tmp_path: Path) -> None:
    folder = written(tmp_path, survey=SURVEY, shop="def broken(request):\n    return 1 // 0\n")
    done = command("run", "survey.py", "--via", "beta", "--service", "stock.count=shop:broken", cwd=folder)
    failed, trace, *rest = done.stderr.splitlines()
    assert failed == "the service 'stock.count' failed: integer division or modulo by zero"
    assert trace.startswith("Traceback")
    assert "shop.py" in rest[0]  # nothing of who called it
    assert "ZeroDivisionError" in done.stderr
    assert "warning: call failed: the service 'stock.count' failed" in done.stderr
    assert "OSError" in done.stderr  # the agent did not expect it
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--service", "count"], "is not NAME=VALUE"),
        (["--service", "Count=1"], "is no name of a service"),
        (["--service", "count@=1"], "is not NAME=VALUE"),
        (["--service", "count=gone:f"], "there is no module 'gone' in this folder"),
        (["--service", "count=shop:f"], "the module 'shop' has no function 'f'"),
        (["--services", "gone"], "there is no module 'gone' in this folder"),
        (
            ["--services", "survey"],
            "the module 'survey' cannot be imported: OutsideAgent: portcall.next_stop() is for agents",
        ),
        (["--services", "empty"], "write def services(station)"),
        (["--services", "shop.py"], "'shop.py' is a file: name the module, 'shop', from its folder"),
        (["--services", "./shop.py"], "name the module, 'shop', from its folder"),
        (["--services", "shop:none"], "shop:none cannot offer services at the station here: TypeError: none() takes 0"),
        (["--service", "count=1", "--service", "count=2"], "is offered already"),
    ],
)
def test_mistakes_end_in_a_sentence(options: list[str], sentence: str, tmp_path: Path) -> None:
    folder = written(tmp_path, survey=SURVEY, shop=SHOP, empty="")
    done = command("run", "survey.py", *options, cwd=folder)
    assert sentence in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode in (1, 2)


def test_a_station_that_is_down(tmp_path: Path) -> None:
    survey = written(tmp_path, survey=SURVEY) / "survey.py"
    done = invoke("run", survey, "--via", "beta,gamma", "--down", "gamma", "--service", "stock.count=1")
    assert done.stdout.splitlines() == ["1 ['beta', 'here']", "error 23"]
    assert "go failed: the station 'gamma' does not answer" in done.stderr
    trip = written(tmp_path, trip="import portcall\nportcall.go('beta')\n") / "trip.py"
    assert "OSError: [Errno 23]" in invoke("run", trip, "--down", "beta", code=1).stderr


@pytest.mark.parametrize("options", [["--down", "gama"], ["--service", "stock.count@gama=1"]])
def test_a_station_that_is_no_stop(options: list[str], tmp_path: Path) -> None:
    survey = written(tmp_path, survey=SURVEY) / "survey.py"
    done = command("run", survey, "--via", "beta,gamma?", *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "portcall: 'gama' is no stop of its way, beta,gamma?\n"
    done = invoke("run", survey, "--via", "beta,roam", *options, code=1)  # there any may be
    assert "offers no service" in done.stderr


def test_what_is_offered_instead_is_told(tmp_path: Path) -> None:
    names = [f"--service=shop.{number}=1" for number in range(7)]
    asks = written(tmp_path, asks="import portcall\nportcall.call('shop.8')\n") / "asks.py"
    done = invoke("run", asks, *names, code=1)
    assert "no service 'shop.8'; it offers shop.0, shop.1, shop.2, shop.3, shop.4 and 2 more\n" in done.stderr


def test_what_it_reported_is_said(tmp_path: Path) -> None:
    source = "import portcall\nfor n in range(22):\n    portcall.report('n', n)\n"
    source = "import portcall\nportcall.go('beta')\nportcall.report('none', '')\n" + source
    done = invoke("run", written(tmp_path, tells=source) / "tells.py")
    first, *rest = done.stderr.splitlines()
    assert (first, rest[0]) == (
        "portcall: it reported none: , at beta",
        "portcall: it reported n: 0, at beta",
    )
    assert (len(rest), rest[-1]) == (20, "portcall: and 3 results more")
    assert done.stdout == ""
    long = "import portcall\nportcall.report('k\\n', '\x1b' + 'x' * 1000000)\nraise ValueError\n"
    done = invoke("run", written(tmp_path, long=long) / "long.py", code=1)
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("portcall:")]
    assert "k\N{REPLACEMENT CHARACTER}: \\x1bxxx" in told
    assert len(told) < 600


def test_a_way_refuses_what_it_does_not_allow(tmp_path: Path) -> None:
    source = "import portcall\nfor place in ('gamma', 'beta', 'home'):\n    try:\n        portcall.go(place)\n"
    source += (
        "        print('at', portcall.here())\n    except OSError as error:\n        print('error', error.errno)\n"
    )
    trip = written(tmp_path, trip=source) / "trip.py"
    done = invoke("run", trip, "--via", "beta,gamma", "--station", "office")
    assert done.stdout.splitlines() == ["error 63", "at beta", "at office"]
    assert "beta" in done.stderr
    assert "does not lead to 'gamma' from here: it is beta,gamma, and leads to 'beta'" in done.stderr


def test_clones_and_messages(tmp_path: Path) -> None:
    family = written(tmp_path, family=FAMILY) / "family.py"
    done = invoke("run", family)
    assert done.stdout.splitlines() == [
        "agent ['agent-1', 'agent-2']",
        "[('greetings from beta', 'agent-1'), ('greetings from gamma', 'agent-2')]",
        "error 16",
    ]
    assert done.stderr == "warning: recv failed: nobody sends it a message\n"
    again = invoke("run", family, "--hop-every", 997, "--hops", 40)
    assert (again.stdout, again.stderr.splitlines()[0]) == (done.stdout, done.stderr.strip())


def test_two_that_wait_for_each_other(tmp_path: Path) -> None:
    source = "import portcall\nportcall.clone()\ntry:\n    portcall.recv()\n"
    source += "except OSError as error:\n    print(error.errno)\n"
    done = invoke("run", written(tmp_path, wait=source) / "wait.py")
    assert done.stdout == "16\n16\n"
    assert done.stderr.splitlines()[0] == "warning: recv failed: no agent is left that could send it a message"


def test_clones_are_as_many_as_a_station_allows(tmp_path: Path) -> None:
    source = """
import portcall
made = 0
try:
    while True:
        if portcall.clone() is None:
            break
        made += 1
except OSError as error:
    print("clones:", made, "error", error.errno)
"""
    assert invoke("run", written(tmp_path, many=source) / "many.py").stdout == "clones: 16 error 63\n"


def test_a_clone_that_fails_is_a_failure(tmp_path: Path) -> None:
    source = "import portcall\nif portcall.clone() is None:\n    raise ValueError('no')\nprint('fine')\n"
    done = invoke("run", written(tmp_path, fails=source) / "fails.py", code=1)
    assert done.stdout.startswith("fine\n")
    assert "ValueError: no" in done.stderr


def test_messages_from_home(tmp_path: Path) -> None:
    source = "import portcall\nfor _ in range(2):\n    print(portcall.recv().decode(), 'from', portcall.sender())\n"
    done = invoke("run", written(tmp_path, hears=source) / "hears.py", "--message", "one", "--message", "two")
    assert done.stdout == "one from here\ntwo from here\n"


def test_what_is_suspended_to_a_file_is_one_agent(tmp_path: Path) -> None:
    source = "import portcall\ntry:\n    portcall.clone()\nexcept OSError as error:\n    print(error.errno)\n"
    source += "portcall.go('beta')\nprint(portcall.clone() or 'a clone', portcall.here())\n"
    one, frozen = written(tmp_path, one=source) / "one.py", tmp_path / "frozen"
    assert invoke("run", one, "--suspend-to", frozen).stdout == "58\n"
    assert invoke("run", one, "--resume-from", frozen).stdout == "agent-1 beta\na clone beta\n"


def test_ctrl_c_in_a_call_suspends_it_there(tmp_path: Path) -> None:
    pressing = (
        "import os, signal, time\ndef press(request):\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(1e6)\n"
    )
    folder = written(tmp_path, asks="import portcall\nprint(portcall.call('x').decode())\n", keys=pressing)
    done = command("run", "asks.py", "--service", "x=keys:press", "--suspend-to", "frozen", cwd=folder)
    assert done.stderr.startswith("portcall: suspended; its snapshot is in frozen")
    done = command("run", "asks.py", "--service", "x=again", "--resume-from", "frozen", cwd=folder)
    assert (done.stdout, done.returncode) == ("again\n", 0)


def test_a_laboratory(tmp_path: Path) -> None:
    shell = Shell(written(tmp_path, survey=SURVEY, shop=SHOP))
    # Other stations of this machine may be seen: none of them has this name.
    beta = f"beta-{os.getpid()}"
    line = [sys.executable, "-m", "docking.cli", "lab", "alpha", beta, "--services", "shop", "--service", f"x@{beta}=1"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=shell.environment, cwd=tmp_path,
                          stdout=subprocess.DEVNULL) as lab:  # fmt: skip
        try:
            assert lab.stderr is not None
            said = []
            while not said or not said[-1].startswith("ready: "):
                said.append(lab.stderr.readline())
                assert said[-1], said
            assert said[0].startswith("you had no key yet; made one, called me: ")
            assert any(each.startswith(f"station {beta} at http://127.0.0.1:") for each in said)
            assert any(each.endswith("offers stock.count, x\n") for each in said)
            shell("launch", "survey.py", "--from", "alpha", "--via", beta)
            while shell.json("where", "survey")["standing"] != "finished":
                pass
            (logged,) = [row["text"] for row in shell.json("logs", "survey")]
            expected = rf"nuts at {beta} for survey, hop 1, call 1 \['{beta}', ('.*', )*'alpha'(, '.*')*\]"
            assert re.fullmatch(expected, logged)  # others may offer that too
            homes = {json.loads(note.read_text())["home"] for note in (tmp_path / "running").glob("*.json")}
            assert len(homes) == 2
            lab.send_signal(signal.SIGINT)
            assert "are removed; --home DIR would keep them" in lab.stderr.read()
            assert lab.wait(PATIENCE) == 0
        finally:
            lab.kill()
    assert not any(Path(home).exists() for home in homes)
    assert list((tmp_path / "running").iterdir()) == []


def test_a_laboratory_with_a_station_that_is_down(tmp_path: Path) -> None:
    shell = Shell(written(tmp_path, survey=SURVEY))
    lab = ["lab", "alpha", "beta", "gamma", "--no-mdns", "--service", "stock.count=1", "--down"]
    for wrong in ("gama", "alpha"):
        assert f"--down {wrong}: it is one of the stations after the first: beta, gamma" in shell(*lab, wrong, code=2)
    line = [sys.executable, "-m", "docking.cli", *lab, "gamma"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=shell.environment, cwd=tmp_path,
                          stdout=subprocess.DEVNULL) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            said = []
            while not said or not said[-1].startswith("ready: "):
                said.append(process.stderr.readline())
                assert said[-1], said
            assert "station gamma is down\n" in said
            wrong = shell("launch", "survey.py", "--from", "alpa", "--via", "beta", code=1)
            assert "no station 'alpa' runs here; running are alpha, beta; portcall station" in wrong
            shell("launch", "survey.py", "--from", "alpha", "--via", "beta,gamma")
            lines = shell("logs", "survey", "--follow").splitlines()
            assert "go('gamma') was refused: 127.0.0.1:" in "".join(lines)
            assert lines[-1].endswith("is over; its trail is home from beta")
            assert [stay["station"] for stay in shell.json("trail", "survey")["visits"]] == ["alpha", "beta"]
            process.send_signal(signal.SIGINT)
            process.stderr.read()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_a_laboratory_that_is_kept_goes_on(tmp_path: Path) -> None:
    nap = "import portcall\nportcall.go('beta')\nportcall.sleep(1e6)\n"
    shell = Shell(written(tmp_path, nap=nap))
    line = [sys.executable, "-m", "docking.cli", "lab", "alpha", "beta", "--home", "lab", "--no-mdns"]
    for turn in range(2):
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=shell.environment, cwd=tmp_path,
                              stdout=subprocess.DEVNULL) as lab:  # fmt: skip
            try:
                assert lab.stderr is not None
                while said := lab.stderr.readline():
                    if said.startswith("ready: "):
                        break
                if turn == 0:
                    shell("launch", "nap.py", "--from", "alpha", "--via", "beta")
                while shell("where", "nap") != "beta  (waiting)\n":
                    pass
                lab.send_signal(signal.SIGTERM)
                assert "go on when a lab with this home starts again" in lab.stderr.read()
                assert lab.wait(PATIENCE) == 0
            finally:
                lab.kill()


def test_a_station_with_the_services_of_a_module(tmp_path: Path) -> None:
    source = "import portcall\nprint(portcall.call('stock.count', 'nuts').decode(), portcall.call('x').decode())\n"
    shell = Shell(written(tmp_path, asks=source, shop=SHOP))
    shell.environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    with shell.station("alpha", "--services", "shop", "--service", "x=1"):
        shell("launch", "asks.py")
        while shell.json("where", "asks")["standing"] != "finished":
            pass
        assert [row["text"] for row in shell.json("logs", "asks")] == ["nuts at alpha for asks, hop 0, call 1 1"]
