"""The option `--via` of commands, and the keys that a way names."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from agents.credentials.itinerary import Itinerary
    from agents.credentials.keys import PublicKey
    from agents.credentials.ways import Way

VIA_HELP = (
    "Where it may go: a,b in this order, b? or not, a|b one of them, {a,b} in any order, (a,b)*10, any, any@KEY, roam."
)


class ViaType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """A way; None for an empty text."""

    name = "way"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Way | None:
        """See `click.ParamType`."""
        from agents.credentials.ways import Way
        from agents.errors import WayError

        if value is None or isinstance(value, Way):
            return value
        try:
            return Way.read(value) if value.strip() else None
        except WayError as error:
            self.fail(str(error), param, ctx)


def certifier_keys(way: Way) -> dict[str, PublicKey]:
    """The public keys of `any@KEY`: keys of the user by name. Raises `KeyFileError` for a name that is none."""
    from docking.cli.credentials import existing
    from docking.trust.identity import show_key

    return {name: show_key(existing(name))[1] for name in way.certifiers if not name.startswith("ed25519:")}


def shown_way(itinerary: Itinerary, names: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """An itinerary as people write it, and for JSON. `names`: of stations, by their whole keys; others are shown by
    their ids, and keys of certifiers by the names that they have among the user's.
    """
    from agents.credentials import ways
    from docking.errors import KeyFileError
    from docking.folders import key_folder
    from docking.trust.identity import list_keys

    own: dict[str, str] = {}
    with contextlib.suppress(KeyFileError):
        own = {public.text: path.stem for path, _, public, _ in list_keys(key_folder())}

    def station(key: PublicKey) -> str:
        return names.get(key.text, key.id)

    def certifier(key: PublicKey) -> str:
        return own.get(key.text, key.text)

    return ways.written(itinerary, station, certifier), ways.value(itinerary, station, certifier)
