"""A FastAPI application with a station inside. `uvicorn app:app` serves both."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import docking

# Whom it admits: the owners whose public keys are in OWNERS (see `portcall key show NAME`), and nobody else.
policy = docking.Policy(owners=os.environ.get("OWNERS", "").split())
# Its key, its agents and whom it knows are in the folder `home`. One process at a time can have it: one worker.
home = os.environ.get("GREENHOUSE", "greenhouse")
dock = os.environ.get("DOCK", "http://127.0.0.1:8000/dock")
station = docking.Station("greenhouse", home, policy=policy, port=None, url=dock, mdns=False)


@station.service("thermometer.read")
def read(request: bytes, visitor: docking.Visitor) -> bytes:
    """The temperature; a real one would ask a sensor."""
    return b"21.5"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The station starts and stops with the application."""
    async with station:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/dock", station.asgi())


@app.get("/")
def page() -> dict[str, str]:
    """What a browser sees."""
    return {"station": station.key.text}
