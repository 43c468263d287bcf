"""Services that a user offers by options: `--service NAME=VALUE` or `NAME=MODULE:FUNCTION`, `--services MODULE`.

Modules are looked for as Python does, first in the current folder. A module's function `services(station)` is called
with each station, real or simulated, and offers what that station has.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import click
from attrs import frozen

from agents.errors import PortcallError
from docking.aio.failures import describe_error
from docking.residents.services import Offering, ServiceFunction, check_service_name

FUNCTION = "services"
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")


Offers: TypeAlias = Callable[[Offering], None]


@frozen
class OneService:
    """A service given by an option. `station`: the only station that offers it; empty for every one."""

    name: str
    station: str
    function: ServiceFunction

    def __call__(self, station: Offering) -> None:
        """Offer it at a station."""
        if self.station in ("", station.name):
            station.offer(self.name, self.function)


class ServiceOption(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """`NAME=VALUE` or `NAME=MODULE:FUNCTION`; `NAME@STATION` for one station only."""

    name = "service"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        if isinstance(value, OneService):
            return value
        full, equals, given = value.partition("=")
        name, at, station = full.partition("@")
        if not equals or (at and not station):
            self.fail(f"{value!r} is not NAME=VALUE, NAME=MODULE:FUNCTION, or either with NAME@STATION", param, ctx)
        check_service_name(name)
        if not _REFERENCE.match(given):
            return OneService(name, station, lambda request: given)
        found = imported(given, "")
        return OneService(name, station, found)


class ServicesOption(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """`MODULE` or `MODULE:FUNCTION`: a function that is called with each station."""

    name = "module"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        return value if callable(value) else imported(value, FUNCTION)


def imported(reference: str, default: str) -> Callable[..., Any]:
    """The function that `MODULE:FUNCTION` names. Raises `click.ClickException`, with what to do."""
    module, _, name = reference.partition(":")
    if module.endswith(".py"):
        raise click.ClickException(f"{module!r} is a file: name the module, {Path(module).stem!r}, from its folder")
    name = name or default
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _failed(module, error) from error
        text = f"; {reference!r} names a function: {name!r} of the module {module!r}" if not default else ""
        raise click.ClickException(
            f"there is no module {module!r} in this folder, nor where Python looks for modules{text}"
        ) from None
    except Exception as error:
        raise _failed(module, error) from error
    for part in name.split("."):
        if not hasattr(found, part):
            hint = f": write def {name}(station), or MODULE:FUNCTION for another name" if name == default else ""
            raise click.ClickException(f"the module {module!r} has no function {name!r}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise click.ClickException(f"{name!r} of the module {module!r} is no function")
    return found  # type: ignore[no-any-return]


def _failed(module: str, error: BaseException) -> click.ClickException:
    return click.ClickException(f"the module {module!r} cannot be imported: {type(error).__name__}: {error}")


def all_of(services: Sequence[Offers], single: Sequence[OneService]) -> Offers:
    """What offers everything that the options say, at one station."""

    def offer(station: Offering) -> None:
        for each in services:
            try:
                each(station)
            except PortcallError:
                raise
            except Exception as error:
                name = f"{getattr(each, '__module__', '')}:{getattr(each, '__qualname__', FUNCTION)}"
                said = f"{name} cannot offer services at the station {station.name}: {describe_error(error)}"
                raise click.ClickException(said) from error
        for one in single:
            one(station)

    return offer


SERVICE_OPTION = click.option(
    "--service",
    "single",
    multiple=True,
    type=ServiceOption(),
    metavar="NAME=VALUE",
    help="Offer a service: it replies VALUE, or what MODULE:FUNCTION returns; NAME@STATION: at one station only.",
)
SERVICES_OPTION = click.option(
    "--services",
    "modules",
    multiple=True,
    type=ServicesOption(),
    metavar="MODULE",
    help="Offer what MODULE offers by its function services(station); MODULE:FUNCTION for another name.",
)
