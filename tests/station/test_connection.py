"""Programs that ask a station in another process: `docking.connect`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import docking
from agents import image as images
from docking.errors import ControlError, KeyExists, KeyFileError
from tests.cli.shell import Shell
from tests.patience import PATIENCE
from tests.residents.guests import LISTENER, RESTING
from tests.station.harbour import OWNER, packed, program

GREET = program("(call $tell_here) (drop (call $go (s 0))) (call $tell_here)", "beta")
TRAPS = program("unreachable")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A user whose stations are processes of their own; this process is the user's too."""
    made = Shell(tmp_path)
    for name in ("PORTCALL_KEYS", "PORTCALL_RUNNING"):
        monkeypatch.setenv(name, made.environment[name])
    return made


@pytest.fixture
def alpha(shell: Shell) -> Iterator[docking.Connection]:
    with shell.station("alpha", "--dev"), docking.connect("alpha") as station:
        yield station


def test_a_journey_between_stations_of_other_processes(shell: Shell) -> None:
    with shell.station("beta", "--dev") as url, shell.station("alpha", "--dev", "--peer", url):
        owner = docking.keys.make("traveller")
        with docking.connect("alpha") as station:
            agent = station.launch(packed(GREET), via="beta", owner=owner)
            report = agent.wait(PATIENCE)
            assert report.exit_code == 0
            assert [stay.station for stay in report.trail] == ["alpha", "beta"]
            assert [result.station for result in report.results] == ["alpha", "beta"]
            assert agent.trail() == report.trail
            assert tuple(station.agent(agent.id, owner).results()) == report.results
            (row,) = station.agents()
            assert (row.id, row.standing, row.station, row.here) == (agent.id, "finished", agent.where(), False)
            assert row.label == agent.label
            assert agent.standing == "finished"
            with pytest.raises(docking.StationError, match="give the owner's key"):
                station.agent(agent.id).results()
            # By names, keys, and at home.
            with docking.connect(shell.folder / "beta") as other:
                again = station.launch(packed(GREET), via=[other.key], owner=owner)
                assert [stay.station for stay in again.wait(PATIENCE).trail] == ["alpha", "beta"]
                assert other.home == (shell.folder / "beta").resolve()
            home = station.launch(packed(program("(call $tell_here)")).encode(), owner=owner)
            assert len(home.wait(PATIENCE).trail) == 1
            with pytest.raises(ControlError, match="gamma"):
                station.launch(packed(GREET), via=["gamma"], owner=owner)


def test_what_an_agent_is_doing(alpha: docking.Connection) -> None:
    agent = alpha.launch(packed(LISTENER), owner=OWNER)
    while agent.standing != "waiting":
        pass
    stack = agent.stack()
    assert [(frame.function, frame.line) for frame in stack.frames] == [("_start", None)]
    assert stack.note == ""
    agent.send(b"!")
    agent.wait(PATIENCE)
    with pytest.raises(ControlError, match="nothing is left of its stack"):
        agent.stack()


def test_messages_and_orders(alpha: docking.Connection) -> None:
    agent = alpha.launch(packed(LISTENER), owner=OWNER)
    assert agent.send("four") in ("delivered", "sent")
    with pytest.raises(TimeoutError, match="not over"):
        agent.wait(0.01)
    with pytest.raises(TimeoutError, match="not over"):
        agent.wait(-1e9)
    assert agent.sleep() is docking.OrderOutcome.OBEYED
    assert agent.wake() is docking.OrderOutcome.OBEYED
    assert agent.send(b"!") is docking.SendOutcome.DELIVERED
    assert agent.wait(PATIENCE).exit_code == 0

    resting = alpha.launch(packed(RESTING), owner=OWNER)
    assert alpha.agent(resting.id[:12]).id == resting.id
    assert isinstance(resting.logs(), list)
    assert resting.dispose() is docking.OrderOutcome.OBEYED
    with pytest.raises(docking.AgentEnded, match="disposed"):
        resting.wait(PATIENCE)
    with pytest.raises(docking.AgentEnded, match="stopped"):
        alpha.launch(packed(TRAPS), owner=OWNER).wait(PATIENCE)
    with pytest.raises(ControlError, match="no agent 'nobody'"):
        alpha.agent("nobody")
    with pytest.raises(TypeError, match="bytes or text, not int"):
        resting.send(5)  # type: ignore[arg-type]


def test_several_threads_ask_at_once_and_closing_ends_their_waits(alpha: docking.Connection) -> None:
    agent = alpha.launch(packed(RESTING), owner=OWNER)
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            agent.wait()
        except ControlError as error:
            ended.append(error)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert [row.id for row in alpha.agents()] == [agent.id]  # while the others wait
    alpha.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(ended) == 4
    with pytest.raises(ControlError, match="is closed"):
        alpha.agents()


def test_a_connection_goes_on_when_the_station_has_started_again(shell: Shell) -> None:
    with shell.station("alpha", "--dev"):
        station = docking.connect()
        agent = station.launch(packed(RESTING), owner=OWNER)
    with pytest.raises(ControlError, match="alpha does not answer"):
        station.agents()
    with shell.station("alpha", "--dev"):
        assert [row.id for row in station.agents()] == [agent.id]


def test_a_station_that_ends_ends_the_waiting(shell: Shell) -> None:
    waiting = threading.Event()
    ended: list[str] = []
    with shell.station("alpha", "--dev"), docking.connect() as station:
        agent = station.launch(packed(RESTING), owner=OWNER)

        def wait() -> None:
            waiting.set()
            try:
                agent.wait()
            except ControlError as error:
                ended.append(str(error))

        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait(PATIENCE)
    thread.join(PATIENCE)
    assert len(ended) == 1


def test_which_station_is_meant(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ControlError, match="no station runs here"):
        docking.connect()
    with shell.station("alpha", "--dev") as url, shell.station("beta", "--dev"):
        with pytest.raises(ControlError, match=r"docking\.connect\(NAME\)"):
            docking.connect()
        with docking.connect("alpha") as station:
            assert (station.name, station.url, station.services) == ("alpha", url, ())
            assert docking.connect(station.key.text).home == station.home
        with pytest.raises(ControlError, match="no station 'gamma'"):
            docking.connect("gamma")
        with pytest.raises(TypeError, match="name or the home"):
            docking.connect(5)  # type: ignore[arg-type]
        # A cron job with another environment: the home is enough.
        monkeypatch.setenv("PORTCALL_RUNNING", str(shell.folder / "elsewhere"))
        with docking.connect(shell.folder / "alpha") as station:
            assert station.name == "alpha"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
def test_forked_workers_share_a_connection(shell: Shell, alpha: docking.Connection) -> None:
    image = shell.folder / "resting.agent"
    image.write_bytes(packed(RESTING).encode())
    script = """
import os, pathlib, docking
station = docking.connect("alpha")
image, owner = pathlib.Path("resting.agent").read_bytes(), docking.keys.make("worker")
station.agents()
workers = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        station.launch(image, owner=owner)
        os._exit(0)
    workers.append(pid)
print([os.waitpid(pid, 0)[1] for pid in workers], len(station.agents()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=shell.folder, env=shell.environment
    )
    assert done.stdout == "[0, 0, 0] 3\n", done.stderr
    assert images.AgentImage.unpack(image.read_bytes()).manifest.name


def test_keys_are_made_saved_loaded_and_listed(shell: Shell) -> None:
    assert docking.keys.list() == ()
    with pytest.raises(KeyFileError, match=r"docking\.keys\.make"):
        docking.keys.load("me")
    me = docking.keys.make("me")
    assert docking.keys.load("me").seed == me.seed
    assert shell.json("key", "show", "me")["public"] == me.public.text  # the command's own
    with pytest.raises(KeyExists):
        docking.keys.make("me")
    with pytest.raises(KeyFileError, match="there are me"):
        docking.keys.load("you")

    path = docking.keys.save(shell.folder / "vault.key", OWNER, passphrase="open sesame")
    with pytest.raises(KeyFileError, match="passphrase="):
        docking.keys.load(path)
    assert docking.keys.load(path, passphrase="open sesame").seed == OWNER.seed
    assert docking.keys.load(path, passphrase=lambda: "open sesame").seed == OWNER.seed
    with pytest.raises(KeyFileError, match="is wrong"):
        docking.keys.load(path, passphrase="shut")
    assert docking.keys.public(path) == OWNER.public
    (listed,) = docking.keys.list()
    assert (listed.name, listed.public, listed.protected) == ("me", me.public, False)
    assert listed.path == docking.keys.folder() / "me.key"

    with pytest.raises(docking.DockingError, match="'my-key'"):
        docking.keys.make("My key")
    with pytest.raises(KeyFileError, match=r"pathlib\.Path"):
        docking.keys.load("./me.key")
    with pytest.raises(TypeError, match="SecretKey"):
        docking.keys.save("other", me.public)  # type: ignore[arg-type]
