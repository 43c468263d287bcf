"""What an operator decides about the application mobility service, with its bounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen, validators

from agents.brief import brief
from docking.residents.options import ON_TIMEOUT, OnTimeout

# No number means "without a bound".
_POSITIVE: Any = validators.and_(validators.gt(0), validators.le(1_000_000))


@frozen
class Settings:
    """What the operator of an application mobility service decides.

    root: where clients reach it, such as `https://mec.example/edge`; None takes what each request says
    tokens: bearer tokens of clients; none: whoever reaches it may use it. Each token sees only what it made
    operators: bearer tokens that may also begin moves and say where devices are; none: `tokens` may
    callbacks: whom it may call back: hosts, `*.domain`, addresses, ranges; none: the address of the subscriber only
    follow: move an application instance to the station that its device is said to be near (True)
    file: where registrations and subscriptions are kept across restarts; None: in the station's home, if it has one
    services, subscriptions: how many there may be (1000 each)
    queue: notifications that wait for one subscriber; then the oldest is lost (100)
    attempts: times that a notification is sent before it is given up (9)
    retry_s: seconds before the second attempt; each further wait is twice as long, up to 30 s (0.25)
    callback_s: seconds of one attempt (5)
    notice_s: seconds before a subscription expires that its subscriber is told (60)
    confirm_s: seconds that an instance with level 2 is waited for (30)
    downtime_ms: milliseconds for which an instance may stand still while it is moved (20)
    move_s: seconds for which its memory is sent ahead (60)
    on_timeout: what happens then: "cancel" leaves it here, "force" moves it whatever the downtime, "post-copy" has
        what is left of its memory come when it runs there ("cancel")

    Raises ValueError for a number that is not above 0.
    """

    root: str | None = None
    tokens: Sequence[str] = field(default=(), repr=False)
    operators: Sequence[str] = field(default=(), repr=False)
    callbacks: Sequence[str] = field(default=(), repr=brief)
    follow: bool = True
    file: Path | None = None
    services: int = field(default=1000, validator=_POSITIVE)
    subscriptions: int = field(default=1000, validator=_POSITIVE)
    queue: int = field(default=100, validator=_POSITIVE)
    attempts: int = field(default=9, validator=_POSITIVE)
    retry_s: float = field(default=0.25, validator=_POSITIVE)
    callback_s: float = field(default=5.0, validator=_POSITIVE)
    notice_s: float = field(default=60.0, validator=_POSITIVE)
    confirm_s: float = field(default=30.0, validator=_POSITIVE)
    downtime_ms: float = field(default=20.0, validator=_POSITIVE)
    move_s: float = field(default=60.0, validator=_POSITIVE)
    on_timeout: OnTimeout = field(default="cancel", validator=validators.in_(ON_TIMEOUT))
