"""The console: stations, agents and their journeys in a browser, for who runs the stations.

    portcall station --name alpha --home alpha/ --console
    app.mount("/console", station.console(allow=is_operator))

It reads what the commands read, and does what they do (`docking.control.requests`); nothing else of a station is in its
reach. Not for the public: whoever is let in may end agents.
"""

from docking.console.app import Console
from docking.console.settings import Settings

__all__ = ["Console", "Settings"]
