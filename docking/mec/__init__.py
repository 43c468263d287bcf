"""ETSI MEC 021 for stations: the application mobility service API, as an ASGI application.

    async with docking.Station("alpha", home="alpha/", policy=policy) as station:
        application.mount("/edge", docking.mec.app(station))

An agent is an application instance, a station a MEC platform. Needs `pip install 'portcall[mec]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from docking.errors import StationError
from docking.mec.settings import Settings

if TYPE_CHECKING:
    from docking.mec.service import MobilityService
    from docking.station import Station

__all__ = ["Settings", "app"]


def app(station: Station, settings: Settings | None = None) -> MobilityService:
    """The application mobility service of a station, as an ASGI application to mount or to serve.

        async with docking.mec.app(station) as amsi:
            application.mount("/edge", amsi)

    station: whose agents are the application instances; it has to run when the first request comes
    settings: what its operator decides; see `docking.mec.Settings`

    Raises `StationError` without the extra `mec`, `ConfigError` for rules that cannot be read, `StoreUnusable` for a
    file that cannot be.
    """
    try:
        from docking.mec.service import MobilityService
        from docking.mec.stations import StationPlatform
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("agents", "docking"):
            raise
        raise StationError(f"{error.name} is not installed: pip install 'portcall[mec]'") from error
    found = settings or Settings()
    if found.file is None and station.home is not None:
        found = evolve(found, file=station.home / "mec.json")
    platform = StationPlatform(station, found.downtime_ms, found.move_s, found.on_timeout)
    return MobilityService(platform, found)
