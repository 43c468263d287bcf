"""Who may see the console, and under which names it is reached."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from attrs import field, frozen

from agents.brief import brief
from agents.credentials.keys import SecretKey
from docking.errors import StationError
from docking.http.agent_requests import Scope

TOKEN_BYTES = 24  # random bytes of a token that is made here
MIN_TOKEN_CHARS, MAX_TOKEN_CHARS = 16, 200


def _token_checked(_: object, __: object, token: str) -> None:
    if not MIN_TOKEN_CHARS <= len(token) <= MAX_TOKEN_CHARS or not token.isascii() or not token.isprintable():
        raise StationError(
            f"a token of the console has {MIN_TOKEN_CHARS} to {MAX_TOKEN_CHARS} printable ASCII characters;"
            " without one, it is made"
        )


@frozen
class Settings:
    """The settings of a console.

    token: the word that opens it; by default a new one. Whoever has it may do what the commands do
    hosts: names under which it is reached, beside `localhost` and addresses; requests for other names are refused,
        since a page elsewhere may point a name of its own here (DNS rebinding)
    allow: instead of the token, where an application around it knows its users: called with the ASGI scope of each
        request, true for those who may see and do everything
    owners: keys that open the results of their agents; without them the console shows only that there are results
    """

    token: str = field(factory=lambda: secrets.token_urlsafe(TOKEN_BYTES), validator=_token_checked, repr=False)
    hosts: Sequence[str] = field(default=(), repr=brief)
    allow: Callable[[Scope], bool] | None = None
    owners: Sequence[SecretKey] = field(default=(), repr=lambda keys: f"<{len(keys)} keys>")
