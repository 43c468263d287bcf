"""Hosts of a network that exists only here: network namespaces of Linux, on a bridge in one of its own.

Needs root and iproute2. The machine's own network is not touched: all of it is inside namespaces, and gone with them.
A partition is a port of the bridge that forwards nothing; the host sees its link up, and nobody answers, as with a
switch that has failed. Invariant: whatever happens, the namespaces are removed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

from attrs import define, field


def missing() -> str:
    """Why this cannot be done here, or nothing."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces can be made by root only"
    if shutil.which("ip") is None or shutil.which("bridge") is None:
        return "needs iproute2 (ip, bridge)"
    probe = f"portcall-probe-{secrets.token_hex(3)}"
    try:
        _run("ip", "netns", "add", probe)
        _run("ip", "-n", probe, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", probe, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
    except RuntimeError as error:
        return f"namespaces, bridges or veth pairs cannot be made here: {error}"
    finally:
        subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return ""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@define(eq=False)
class Network:
    """Hosts on one bridge: `host(name)` is the namespace, 10.213.0.N its address."""

    _mark: str = field(factory=lambda: secrets.token_hex(3))
    _hosts: dict[str, str] = field(factory=dict)

    @property
    def _fabric(self) -> str:
        return f"portcall-{self._mark}"

    def within(self, name: str) -> Sequence[str]:
        """The command that runs another on this host."""
        return ["ip", "netns", "exec", f"{self._fabric}-{name}"]

    def add(self, name: str) -> str:
        """A host; its address."""
        host, number = f"{self._fabric}-{name}", len(self._hosts) + 1
        self._hosts[name] = f"10.213.0.{number}"
        fabric, port = self._fabric, f"p-{name}"
        _run("ip", "netns", "add", host)
        _run("ip", "-n", fabric, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
        _run("ip", "-n", fabric, "link", "set", port, "master", "br0", "up")
        _run("ip", "-n", host, "address", "add", f"{self._hosts[name]}/24", "dev", "eth0")
        _run("ip", "-n", host, "link", "set", "lo", "up")
        _run("ip", "-n", host, "link", "set", "eth0", "up")
        return self._hosts[name]

    def cut(self, name: str) -> None:
        """From now on nothing reaches this host, and nothing leaves it."""
        _run("bridge", "-n", self._fabric, "link", "set", "dev", f"p-{name}", "state", "0")

    def heal(self, name: str) -> None:
        """As before."""
        _run("bridge", "-n", self._fabric, "link", "set", "dev", f"p-{name}", "state", "3")

    def reaches(self, one: str, other: str) -> bool:
        """Whether a packet of `one` comes to `other`, and back."""
        script = (
            "import socket, sys\n"
            "s = socket.socket(); s.settimeout(2)\n"
            "sys.exit({0: 0, 111: 0}.get(s.connect_ex((sys.argv[1], 9)), 1))"
        )
        command = [*self.within(one), sys.executable, "-c", script, self._hosts[other]]
        return subprocess.run(command, timeout=30, check=False).returncode == 0


@contextlib.contextmanager
def network(*names: str) -> Iterator[Network]:
    """A network of these hosts."""
    made = Network()
    try:
        _run("ip", "netns", "add", made._fabric)
        _run("ip", "-n", made._fabric, "link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        _run("ip", "-n", made._fabric, "link", "set", "br0", "up")
        for name in names:
            made.add(name)
        yield made
    finally:
        for name in ("", *(f"-{name}" for name in made._hosts)):
            subprocess.run(["ip", "netns", "del", made._fabric + name], capture_output=True, check=False)
