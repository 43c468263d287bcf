"""Orders for many agents at once, sleeps that end, lists of some, forgetting, and a policy that is read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import Shell

LISTENER = "import portcall\nportcall.recv()\n"
FORKS = "import portcall\nportcall.fork(2)\nportcall.recv()\n"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def standings(shell: Shell, *words: str) -> dict[str, str]:
    return {row["label"]: row["standing"] for row in shell.json("agents", *words)["agents"]}


def test_orders_for_many_lists_of_some_and_forgetting(shell: Shell) -> None:
    (shell.folder / "listener.py").write_text(LISTENER)
    (shell.folder / "forks.py").write_text(FORKS)
    shell("key", "new", "me")
    with shell.station("alpha"):
        shell("launch", "listener.py")
        shell("launch", "forks.py")
        while len(standings(shell)) < 4 or set(standings(shell).values()) != {"waiting"}:
            pass
        assert set(standings(shell)) == {"listener", "forks", "forks.1", "forks.2"}
        assert set(standings(shell, "--mine", "--since", "1h", "--running")) == set(standings(shell))
        assert "name an agent, or say which" in shell("dispose", code=2)
        shell("sleep", "listener", "--for", "2h")
        assert standings(shell)["listener"] == "asleep"
        done = shell.json("dispose", "forks", "--clones")
        assert sorted(row["label"] for row in done) == ["forks", "forks.1", "forks.2"]
        while set(standings(shell, "--running")) != {"listener"}:
            pass
        assert "no agent is meant" in shell("dispose", "--label", "nobody")
        assert "only one whose journey is over" in shell("purge", "listener", code=1)
        assert {row["label"] for row in shell.json("purge", "--all")} == {"forks", "forks.1", "forks.2"}
        assert set(standings(shell)) == {"listener"}
        assert "1 forgotten" not in shell("purge", "--before", "30d")
        shell("dispose", "--all")
        while standings(shell, "--running"):
            pass


def test_a_policy_is_read_again(shell: Shell) -> None:
    shell("key", "new", "me")
    (key,) = [word for word in shell("key", "show", "me").split() if word.startswith("ed25519:")]
    policy = shell.folder / "policy.toml"
    policy.write_text(f'[[owner]]\nkey = "{key}"\nname = "me"\ncapabilities = ["host:*"]\n')
    (shell.folder / "listener.py").write_text(LISTENER)
    with shell.station("alpha", "--policy", str(policy)):
        shell("launch", "listener.py")
        policy.write_text(policy.read_text() + f'[revoked]\nowners = ["{key}"]\n')
        (row,) = shell.json("policy", "reload")
        assert row["said"] == [
            "it admits the agents of: nobody",
            "it refuses and suspends 1 that are revoked, among them all of me",
        ]
        assert standings(shell)["listener"] == "kept"
        assert "revoked" in shell("launch", "listener.py", code=1)
        policy.write_text("[limits\n")
        assert "the policy stays as it was" in shell("policy", "reload", code=1)
