"""Runs a packed module under narrow limits and tells how the process grew: `python -m tests.wasi.hostile_run FILE`."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import agents
from agents.testing import Seeded
from agents.wasi import WasiLimits, WasiState

MIB = 1 << 20


class Station(Seeded):
    """Keeps standard error and drops the flood."""

    def output(self, fd: int, data: bytes) -> None:
        """Only errors are kept."""
        if fd == 2:
            self.out[2] += data


def main(path: str) -> None:
    """Prints standard error, then the growth of the process in KiB."""
    image = agents.pack(Path(path))
    limits = WasiLimits(luggage_bytes=16 * MIB, log_bytes=8 * MIB, files=5000)
    calm = WasiState.launch(["calm"], limits=WasiLimits(luggage_bytes=0))
    agents.run(image, ambient=Station(1), wasi=calm)  # compiled, instantiated and run once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    station = Station(1)
    done = agents.run(image, ambient=station, wasi=WasiState.launch(["hostile"], limits=limits))
    assert isinstance(done, agents.Finished), done
    print(station.out[2].decode(), end="")
    print("exit", done.exit_code)
    print("grew", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


if __name__ == "__main__":
    main(sys.argv[1])
