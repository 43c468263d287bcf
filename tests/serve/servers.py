"""Agents that serve, and clients that ask them: over real connections, from threads."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from attrs import frozen

from agents.image import AgentImage
from agents.sdk.sources import load_image, user_cache
from docking import Station, Terms
from docking.handle import Agent
from tests.patience import PATIENCE
from tests.station.harbour import OWNER

# Answers with what it was asked, and counts; `/go/STATION` moves it before it answers.
COUNTER = """
import portcall

count, tokens = 0, []

def handler(request):
    global count
    if request.path.startswith("/go/"):
        portcall.go(request.path[4:])
        return portcall.here()
    if request.path == "/tokens":
        return tokens
    if request.path == "/fail":
        raise ValueError("as asked")
    if request.path == "/slow":
        portcall.sleep(float(request.query))
    if request.path == "/never":
        request.answered = True
        return None
    if request.path == "/end":
        raise SystemExit(3)
    count += 1
    tokens.append(request.text())
    return {
        "count": count, "at": portcall.here(), "method": request.method, "path": request.path,
        "query": request.query, "headers": request.headers, "body": request.text(),
    }

portcall.serve(handler)
"""


@functools.cache
def python_image(source: str) -> AgentImage:
    """The image of an agent in MicroPython."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "agent.py"
        script.write_text(source)
        return load_image(script, cache=user_cache())


async def launch(at: Station, source: str, *via: str, label: str = "service", **terms: Any) -> Agent:
    """Launch an agent in MicroPython."""
    return await at.launch(python_image(source), list(via), owner=OWNER, terms=Terms(label=label, **terms))


@frozen
class Answer:
    """What a client got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection to a station, used from threads, one request at a time."""

    def __init__(self, at: Station) -> None:
        self.port = cast(int, at.port)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask_now(
        self,
        path: str,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        agent: str = "service",
    ) -> Answer:
        """Ask an agent, in this thread. `path`: below the agent's address, as it is sent."""
        url = f"/portcall/1/agents/{quote(agent, safe='')}{path}"
        # A server may answer before it has read a body that is too large; the answer is there all the same.
        with contextlib.suppress(BrokenPipeError):
            self.connection.request(method, url, body, dict(headers or {}))
        response = self.connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    async def ask(self, path: str, method: str = "GET", body: Any = None, **options: Any) -> Answer:
        """The same, in another thread."""
        return await asyncio.to_thread(self.ask_now, path, method, body, **options)

    def close(self) -> None:
        self.connection.close()


async def ask(at: Station, path: str, method: str = "GET", body: Any = None, **options: Any) -> Answer:
    """One request over a connection of its own."""
    client = Client(at)
    try:
        return await client.ask(path, method, body, **options)
    finally:
        client.close()


async def keep_asking(at: Station, name: str, until: asyncio.Event) -> list[str]:
    """One client that asks again and again; the tokens that it sent, each answered with 200."""
    client = Client(at)
    tokens: list[str] = []
    while not until.is_set():
        token = f"{name}.{len(tokens)}"
        answer = await client.ask("/", "POST", token)
        assert answer.status == 200, (token, answer)
        assert answer.json["body"] == token
        tokens.append(token)
    client.close()
    return tokens
