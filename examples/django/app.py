"""A Django application, in one file, with a station inside. `uvicorn app:application` serves both."""

import os
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

import docking

# Whom it admits: the owners whose public keys are in OWNERS (see `portcall key show NAME`), and nobody else.
policy = docking.Policy(owners=os.environ.get("OWNERS", "").split())
# Its key, its agents and whom it knows are in the folder `home`. One process at a time can have it: one worker.
home = os.environ.get("GREENHOUSE", "greenhouse")
url = os.environ.get("DOCK", "http://127.0.0.1:8000/dock")
station = docking.Station("greenhouse", home, policy=policy, port=None, url=url, mdns=False)


@station.service("thermometer.read")
def read(request: bytes, visitor: docking.Visitor) -> bytes:
    """The temperature; a real one would ask a sensor."""
    return b"21.5"


def page(request: HttpRequest) -> JsonResponse:
    """What a browser sees."""
    return JsonResponse({"station": station.key.text})


urlpatterns = [path("", page)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY=os.urandom(32).hex())
django.setup()
pages, dock = get_asgi_application(), station.asgi()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The server's start and stop, and what comes to /dock, are the station's; all else is Django's."""
    ours = scope["type"] == "lifespan" or scope["path"].startswith("/dock/")
    await (dock if ours else pages)(scope, receive, send)
