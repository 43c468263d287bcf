"""Two stations inside a plain script: one offers a service, the other sends it an agent.

A script has no event loop, so each station runs in a thread of its own. They have no home, so they keep nothing.
"""

import os
from pathlib import Path

import docking
from agents.sdk.sources import load_image

image = load_image(Path(__file__).with_name("survey.py"))
me = docking.SecretKey(os.urandom(32))
policy = docking.Policy(owners=[me.public])

greenhouse = docking.Station("greenhouse", policy=policy, host="127.0.0.1", mdns=False)


@greenhouse.service("thermometer.read")
def read(request: bytes, visitor: docking.Visitor) -> bytes:
    """The temperature; a real one would ask a sensor."""
    return b"21.5"


with greenhouse.in_thread() as there:
    office = docking.Station("office", policy=policy, host="127.0.0.1", mdns=False, peers=[there.url])
    with office.in_thread() as here:
        agent = here.launch(image, via=["greenhouse"], owner=me)
        report = agent.wait(60)
        print("it ended with", report.exit_code)
        for result in report.results:
            print("it reported:", result.key, "=", result.text, "at", result.station)
