"""revoke, typed at stations that are processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (made.folder / "listener.py").write_text("import portcall\nportcall.recv()\n")
    made("key", "new", "me")
    return made


def test_a_key_is_revoked_at_all_stations_and_stays_so(shell: Shell) -> None:
    with shell.station("alpha") as url, shell.station("beta", "--peer", url):
        while len(shell.json("stations", "--wait", "0.2")) < 2:
            pass
        shell("launch", "listener.py", "--from", "beta")
        assert "say which key" in shell("revoke", code=2)
        assert "no key" in shell("revoke", "nobody", code=1)
        shell("key", "new", "other")
        assert not shell.json("revoke", "--list")
        (row,) = shell.json("revoke", "me", "--station", "alpha")
        assert row["new"] is True
        while {each["station"] for each in shell.json("revoke", "--list")} != {"alpha", "beta"}:
            pass
        while {each["standing"] for each in shell.json("agents")["agents"]} != {"kept"}:
            pass
        assert "revoked" in shell("launch", "listener.py", "--from", "alpha", "--owner", "me", code=1)
    with shell.station("alpha"):
        assert "revoked" in shell("launch", "listener.py", "--owner", "me", code=1)
        home = str(shell.folder / "alpha" / "station.key")
        (row,) = shell.json("revoke", "--by-file", home)
        assert row["new"] is True
        assert [each["counts"] for each in shell.json("revoke", "--list")] == [True, True]
