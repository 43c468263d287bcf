"""Suggestions for mistyped names, as the end of an error message.

Invariant: only existing names are suggested, and nothing heavy is imported before there is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

MAX_CANDIDATES = 1000  # names to compare: a folder may contain millions


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean x?` for the nearest of the known names, nothing where none is near."""
    import difflib
    import itertools

    names = list(itertools.islice(known, MAX_CANDIDATES))
    folded = {name.casefold(): name for name in names}
    found = difflib.get_close_matches(word.casefold(), folded, 1, 0.6)
    return f"; did you mean {folded[found[0]]}?" if found else ""


def near_file(path: Path) -> str:
    """The same for a file name, among the names in its folder; says so if there is no such folder."""
    folder = path.parent
    try:
        names = (each.name for each in folder.iterdir())
        found = near(path.name, names)
    except OSError:
        return f"; there is no folder {folder}"
    return found.replace("did you mean ", f"did you mean {folder}/") if found and folder != Path() else found


class Suggesting(click.Group):
    """A group that suggests a command when an unknown one was typed."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See `click.Group`."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            # click 8.4 suggests by itself: leave its message alone.
            if not args or "mean" in error.message:
                raise
            said = error.message.rstrip(".") + near(args[0], self.list_commands(ctx))
            raise click.UsageError(said, ctx) from None
