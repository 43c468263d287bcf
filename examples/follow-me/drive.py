"""A phone drives past three cells, and its guide follows it from station to station, while the phone goes on asking.

Each cell has a station, a process of its own, with the application mobility service of ETSI MEC 021. The script is the
phone and what the network knows of it: it registers the guide for its device, subscribes to moves, says near which
station the device is, and asks the guide all along. What each request took is drawn into `drive.svg`.

Only one thing is played: the network between the cells. Whoever asks a station that is N cells away waits N times
`--between` milliseconds longer.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from picture import picture

HERE = Path(__file__).resolve().parent
PORTCALL = [sys.executable, "-m", "docking.cli"]
CELLS = ["cell-1", "cell-2", "cell-3"]
DEVICE = {"type": "UE_IPv4_ADDRESS", "value": "10.100.0.1"}
GUIDE = "/portcall/1/agents/guide/"
TRIGGERED, COMPLETED = "INTERHOST_MOVEOUT_TRIGGERED", "INTERHOST_MOVEOUT_COMPLETED"
EVERY_S = 0.04  # between two requests
PATIENCE_S = 120


def ask(url: str, method: str = "GET", value: object = None) -> Any:
    """What an HTTP server answers, from JSON."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)
    try:
        body = None if value is None else json.dumps(value)
        connection.request(method, parts.path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status >= 300:
            raise SystemExit(f"{method} {url}: {answer.status} {text}")
        return json.loads(text) if text else None
    finally:
        connection.close()


def portcall(*words: str) -> None:
    """Run a command, and end with what it says if it fails."""
    done = subprocess.run([*PORTCALL, *words], capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode:
        raise SystemExit(done.stderr)


class Cell:
    """A station at a cell, with the application mobility service beside it."""

    url: str
    mec: str

    def __init__(self, name: str, folder: Path, peers: list[Cell]) -> None:
        self.name = name
        met = [word for peer in peers for word in ("--peer", peer.url)]
        options = ["--home", str(folder / name), "--host", "127.0.0.1", "--port", "0", "--no-mdns", "--mec", "0"]
        command = [*PORTCALL, "station", "--name", name, *options, *met]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.url, self.mec = "", ""
        said = self.process.stderr
        assert said is not None
        while not (self.url and self.mec):
            line = said.readline()
            if not line:
                raise SystemExit(f"{name} has ended with {self.process.wait()}")
            for where in (word.rstrip(".,") for word in line.split() if word.startswith("http://")):
                if where.endswith("/amsi/v1"):
                    self.mec = where.removesuffix("/amsi/v1")
                else:
                    self.url = self.url or where
        threading.Thread(target=said.read, daemon=True).start()

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)


@dataclass
class Phone:
    """Asks the guide at a steady pace, wherever it is. Notes what each request took, and the moves it is told of."""

    cells: list[Cell]
    seconds: float
    between_ms: float
    stays: bool
    url: str
    began: float = 0.0
    samples: list[tuple[float, float]] = field(default_factory=list)
    moves: list[tuple[float, float, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    triggered: float = 0.0

    def cell(self, at: float) -> int:
        """Near which cell it is, so many seconds after it has begun."""
        return min(int(at / self.seconds * len(self.cells)), len(self.cells) - 1)

    def told(self, news: dict[str, Any]) -> None:
        """A notification of the application mobility service: the address of the guide, once it has moved."""
        now = time.monotonic() - self.began
        if news["mobilityStatus"] == TRIGGERED:
            self.triggered = now
        elif news["mobilityStatus"] == COMPLETED:
            address = news["targetAppInfo"]["commInterface"]["ipAddresses"][0]
            self.url = f"http://{address['host']}:{address['port']}"
            self.moves.append((self.triggered, now, self.name_of(self.url)))

    def name_of(self, url: str) -> str:
        return next((cell.name for cell in self.cells if cell.url == url), "?")

    def drive(self) -> None:
        """Past all cells; and on, until the guide has come to the last one."""
        self.began = time.monotonic()
        last, due = 0, self.began
        while True:
            at = due - self.began
            cell = self.cell(at)
            if cell != last:
                last = cell
                threading.Thread(target=self.near, args=(self.cells[cell],)).start()
            self.ask(at, cell, due)
            due = max(due + EVERY_S, time.monotonic() - 1)
            arrived = self.stays or self.url == self.cells[-1].url
            if at > self.seconds and (arrived or at > self.seconds + PATIENCE_S):
                return
            time.sleep(max(0.0, due - time.monotonic()))

    def near(self, cell: Cell) -> None:
        """The network has noticed where the device is, and tells the platforms."""
        for each in self.cells:
            ask(f"{each.mec}/portcall-mec/v1/places", "PUT", {"associateId": DEVICE, "station": cell.name})

    def ask(self, at: float, cell: int, due: float) -> None:
        url = self.url
        away = abs(cell - next(n for n, each in enumerate(self.cells) if each.url == url))
        time.sleep(away * self.between_ms / 1000)
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", f"{GUIDE}?{at:.3f}", headers={"portcall-forward": "always"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status == 200:
                self.numbers.append(json.loads(body)["number"])
            else:
                self.failed.append(f"{answer.status} {body[:200]!r}")
        except OSError as error:
            self.failed.append(str(error))
        finally:
            connection.close()
        self.samples.append((at, 1000 * (time.monotonic() - due)))


def listening(phone: Phone) -> ThreadingHTTPServer:
    """Where the phone is told of moves."""

    class Told(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            phone.told(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def register(cells: list[Cell], callback: str, level: str) -> None:
    """The guide is for this device; whoever is at `callback` wants to know of its moves. At each platform."""
    for cell in cells:
        device = {"associateId": DEVICE, "appMobilityServiceLevel": level, "contextTransferState": "NOT_TRANSFERRED"}
        service = {"serviceConsumerId": {"appInstanceId": "guide"}, "deviceInformation": [device]}
        ask(f"{cell.mec}/amsi/v1/app_mobility_services", "POST", service)
        told = {
            "subscriptionType": "MobilityProcedureSubscription",
            "callbackReference": callback,
            "filterCriteria": {"associateId": [DEVICE], "mobilityStatus": [TRIGGERED, COMPLETED]},
        }
        ask(f"{cell.mec}/amsi/v1/subscriptions", "POST", told)


def main() -> None:
    parser = argparse.ArgumentParser(description="Drive past three cells.")
    parser.add_argument("--seconds", type=float, default=12, help="how long the drive takes (12)")
    parser.add_argument("--between", type=float, default=10, help="milliseconds from one cell to the next (10)")
    parser.add_argument("--stay", action="store_true", help="the guide is pinned, and does not follow")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="follow-me-")))
        os.environ |= {"PORTCALL_KEYS": str(folder / "keys"), "PORTCALL_RUNNING": str(folder / "running")}
        portcall("key", "new", "me")
        cells: list[Cell] = []
        for name in CELLS:
            cells.append(Cell(name, folder, cells))
            stack.callback(cells[-1].end)
        portcall("launch", str(HERE / "guide.py"), "--from", CELLS[0], "--via", ",".join(CELLS[1:]))
        phone = Phone(cells, options.seconds, options.between, options.stay, cells[0].url)
        server = listening(phone)
        stack.callback(server.shutdown)
        level = "APP_MOBILITY_NOT_ALLOWED" if options.stay else "APP_MOBILITY_WITHOUT_CONFIRMATION"
        register(cells, f"http://127.0.0.1:{server.server_port}/", level)
        ask(f"{cells[0].url}{GUIDE}")  # it has read its map
        phone.drive()
        report(phone, [move for cell in cells for move in ask(f"{cell.mec}/portcall-mec/v1/moves")])


def report(phone: Phone, moves: list[dict[str, Any]]) -> None:
    """Print what came of it, and draw it."""
    for move in moves:
        took = f"stood still for {move['downtimeMs']:.1f} ms" if move["state"] == "COMPLETED" else move.get("detail")
        print(f"to {move['to']}: {move['state'].lower()}, {took}")
    latencies = sorted(ms for _, ms in phone.samples)
    asked, doubled = len(latencies), max(phone.numbers, default=0) - 1 - len(set(phone.numbers))
    print(f"{asked} requests: {len(phone.failed)} failed, {doubled} answered and not received")
    print(f"latency: {latencies[asked // 2]:.1f} ms in the middle, {latencies[-1]:.1f} ms at most")
    print(f"the guide is at {phone.name_of(phone.url)}, the phone near {CELLS[-1]}")
    borders = [phone.seconds * n / len(CELLS) for n in range(len(CELLS))]
    drawn = picture(phone.samples, phone.moves, list(zip(borders, CELLS, strict=True)))
    Path("drive.svg").write_text(drawn, encoding="utf-8")
    print("drive.svg: the latency of each request")
    for why in phone.failed[:3]:
        print(f"failed: {why}", file=sys.stderr)
    if phone.failed or doubled:
        sys.exit(1)


if __name__ == "__main__":
    main()
