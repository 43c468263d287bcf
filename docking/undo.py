"""Dictionaries that change in steps which are taken whole or not at all.

Not a database: no isolation (its user has a lock), no disk. Invariants: after `roll_back`, every dictionary holds the
keys and values that it held at the last `forget`, in whatever order; a value is never None, and never changed in place
unless it is itself a dictionary that is changed through here.
"""

from __future__ import annotations

from typing import TypeVar

from attrs import define, field

K = TypeVar("K")
V = TypeVar("V")
W = TypeVar("W")


@define(eq=False)
class Undo:
    """What undoes the changes that were made through here since the last `forget`."""

    _befores: list[tuple[dict[object, object], object, object]] = field(factory=list)

    def set(self, table: dict[K, V], key: K, value: V) -> None:
        """`table[key] = value`."""
        self._befores.append((table, key, table.get(key)))  # type: ignore[arg-type]
        table[key] = value

    def drop(self, table: dict[K, V], key: K) -> None:
        """Remove the key, if it is there."""
        before = table.pop(key, None)
        if before is not None:
            self._befores.append((table, key, before))  # type: ignore[arg-type]

    def set_below(self, index: dict[K, dict[V, W]], first: K, second: V, value: W) -> None:
        """`index[first][second] = value`."""
        inner = index.get(first)
        if inner is None:
            inner = {}
            self.set(index, first, inner)
        self.set(inner, second, value)

    def drop_below(self, index: dict[K, dict[V, W]], first: K, second: V) -> None:
        """Remove `index[first][second]`, and `index[first]` with the last of it."""
        inner = index.get(first)
        if inner is not None:
            self.drop(inner, second)
            if not inner:
                self.drop(index, first)

    def forget(self) -> None:
        """What was changed stays."""
        self._befores.clear()

    def roll_back(self) -> None:
        """What was changed since the last `forget` is as it was."""
        while self._befores:
            table, key, before = self._befores.pop()
            if before is None:
                table.pop(key, None)
            else:
                table[key] = before
