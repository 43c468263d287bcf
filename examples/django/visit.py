"""Serves `app.py`, and sends it an agent from a station of its own."""

import asyncio
import os
import socket
import tempfile
from pathlib import Path

import uvicorn

import docking
from agents.sdk.sources import load_image


async def main(home: str) -> None:
    """Both, in one process: uvicorn with the application, and the station that the agent comes from."""
    me = docking.SecretKey(os.urandom(32))
    listening = socket.create_server(("127.0.0.1", 0))
    dock = f"http://127.0.0.1:{listening.getsockname()[1]}/dock"
    os.environ |= {"OWNERS": me.public.text, "DOCK": dock, "GREENHOUSE": home}

    server = uvicorn.Server(uvicorn.Config("app:application", log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    policy = docking.Policy(owners=[me.public])
    async with docking.Station("office", policy=policy, host="127.0.0.1", mdns=False, peers=[dock]) as office:
        image = load_image(Path(__file__).with_name("survey.py"))
        agent = await office.launch(image, via=["greenhouse"], owner=me)
        report = await agent.wait(60)
        print("it ended with", report.exit_code)
        for result in report.results:
            print("it reported:", result.key, "=", result.text, "at", result.station)
    server.should_exit = True
    await serving


with tempfile.TemporaryDirectory() as folder:
    asyncio.run(main(folder))
