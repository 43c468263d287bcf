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

from tests.patience import PATIENCE


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
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


@define(eq=False)
class Network:
    """Hosts on one bridge: `host(name)` is the namespace, 10.213.0.N its address."""

    _mark: str = field(factory=lambda: secrets.token_hex(3))
    hosts: dict[str, str] = field(factory=dict)

    @property
    def fabric(self) -> str:
        return f"portcall-{self._mark}"

    def within(self, name: str) -> Sequence[str]:
        """The command that runs another on this host."""
        return ["ip", "netns", "exec", f"{self.fabric}-{name}"]

    def add(self, name: str) -> str:
        """A host; its address."""
        host, number = f"{self.fabric}-{name}", len(self.hosts) + 1
        self.hosts[name] = f"10.213.0.{number}"
        fabric, port = self.fabric, f"p-{name}"
        _run("ip", "netns", "add", host)
        _run("ip", "-n", fabric, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host)
        _run("ip", "-n", fabric, "link", "set", port, "master", "br0", "up")
        _run("ip", "-n", host, "address", "add", f"{self.hosts[name]}/24", "dev", "eth0")
        _run("ip", "-n", host, "link", "set", "lo", "up")
        _run("ip", "-n", host, "link", "set", "eth0", "up")
        return self.hosts[name]

    def cut(self, name: str) -> None:
        """From now on nothing reaches this host, and nothing leaves it."""
        _run("bridge", "-n", self.fabric, "link", "set", "dev", f"p-{name}", "state", "0")

    def heal(self, name: str) -> None:
        """As before."""
        _run("bridge", "-n", self.fabric, "link", "set", "dev", f"p-{name}", "state", "3")

    def link(self, name: str, state: str) -> None:
        """The host's link: "up", or "down"."""
        _run("ip", "-n", f"{self.fabric}-{name}", "link", "set", "eth0", state)

    def readdress(self, name: str, *addresses: str) -> None:
        """From now on the host has these addresses on its link, with their prefix lengths, and no others."""
        host = f"{self.fabric}-{name}"
        _run("ip", "-n", host, "address", "flush", "dev", "eth0", "scope", "global")
        for each in addresses:
            _run("ip", "-n", host, "address", "add", each, "dev", "eth0", *(["nodad"] if ":" in each else []))

    def bridge(self, name: str, bridge: str, address: str) -> None:
        """A bridge on the host with nothing behind it, as those of containers."""
        host = f"{self.fabric}-{name}"
        _run("ip", "-n", host, "link", "add", bridge, "type", "bridge")
        _run("ip", "-n", host, "address", "add", address, "dev", bridge)
        _run("ip", "-n", host, "link", "set", bridge, "up")

    def reaches(self, one: str, other: str) -> bool:
        """Whether a packet of `one` comes to `other`, and back."""
        script = (
            "import socket, sys\n"
            "s = socket.socket(); s.settimeout(2)\n"
            "sys.exit({0: 0, 111: 0}.get(s.connect_ex((sys.argv[1], 9)), 1))"
        )
        command = [*self.within(one), sys.executable, "-c", script, self.hosts[other]]
        return subprocess.run(command, timeout=PATIENCE, check=False).returncode == 0


@contextlib.contextmanager
def network(*names: str) -> Iterator[Network]:
    """A network of these hosts."""
    made = Network()
    try:
        _run("ip", "netns", "add", made.fabric)
        _run("ip", "-n", made.fabric, "link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        _run("ip", "-n", made.fabric, "link", "set", "br0", "up")
        for name in names:
            made.add(name)
        yield made
    finally:
        for name in ("", *(f"-{name}" for name in made.hosts)):
            subprocess.run(["ip", "netns", "del", made.fabric + name], capture_output=True, check=False)
