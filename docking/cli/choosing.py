"""Which agents a command is about: all, those of one launch, of a label, of an owner, those that run still, of late.

Not here: what is done with them. Invariant: an agent that several stations of this user know is listed once, where it
is, or at its home.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import click

from docking.cli.asking import every
from docking.errors import ControlError

OVER = ("finished", "disposed", "stopped")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
MAX_SECONDS = 366 * 86_400.0


class DurationType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """A time such as 90s, 10m, 2h or 3d, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType`."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(s|m|min|h|d)?", value.strip())
        seconds = float(found[1]) * _UNITS[found[2] or ""] if found is not None else -1.0
        if not 0 < seconds <= MAX_SECONDS:
            self.fail(f"{value!r} is no time such as 90s, 10m, 2h or 3d, up to a year", param, ctx)
        return seconds


class MomentType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.2
    """A time of day, or date and time, of this machine's zone; in seconds since 1970."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType`."""
        from datetime import datetime, timedelta

        if isinstance(value, float):
            return value
        now = datetime.now()
        for form in ("%H:%M", "%H:%M:%S"):
            try:
                at = datetime.combine(now.date(), datetime.strptime(value, form).time())
            except ValueError:
                continue
            return (at if at > now else at + timedelta(days=1)).timestamp()
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            self.fail(f"{value!r} is no time such as 18:30 or 2026-12-01T08:00", param, ctx)


def known_agents(station: str | None) -> list[dict[str, Any]]:
    """The agents that stations of this user know, each once, with the station that answered as `at`."""
    rows = [{"at": name, **row} for name, row in every(station, "agents")]
    # An agent at a station of this machine need not be listed by its home too.
    here = {row["agent"] for row in rows if row["here"]}
    return [row for row in rows if row["here"] or row["agent"] not in here]


def chosen(
    rows: Sequence[dict[str, Any]],
    *,
    running: bool = False,
    mine: bool = False,
    since: float | None = None,
    label: str | None = None,
    owner: str | None = None,
) -> list[dict[str, Any]]:
    """Those rows for which all this holds.

    running: whether the journey is not over
    mine: whether the owner is a key of this user
    since: whether something has changed in so many seconds
    label: what it is called, or what its original is called
    owner: the name of a key of this user, or a key
    """
    keys = _keys(owner) if owner is not None else _keys(None) if mine else None
    after = 0.0 if since is None else (time.time() - since) * 1000
    return [
        row
        for row in rows
        if (not running or row["standing"] not in OVER)
        and (keys is None or row.get("owner") in keys)
        and row["since"] >= after
        and (label is None or row["label"] == label or row["label"].startswith(f"{label}."))
    ]


def _keys(owner: str | None) -> set[str]:
    """The whole keys of this user, or the one that is meant. Raises `ControlError`."""
    from docking.folders import key_folder
    from docking.trust.identity import list_keys

    own = {name: public.text for _, name, public, _ in list_keys(key_folder())}
    if owner is None:
        return set(own.values())
    found = own.get(owner, owner if owner.startswith("ed25519:") else "")
    if not found:
        raise ControlError(f"{owner!r} is neither a key of yours nor a whole key, ed25519:...; portcall key list")
    return {found}
