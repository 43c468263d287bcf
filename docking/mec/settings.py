"""What an operator decides about the application mobility service, with its bounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen

from agents.brief import brief


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
    """

    root: str | None = None
    tokens: Sequence[str] = field(default=(), repr=False)
    operators: Sequence[str] = field(default=(), repr=False)
    callbacks: Sequence[str] = field(default=(), repr=brief)
    follow: bool = True
    file: Path | None = None
    services: int = 1000
    subscriptions: int = 1000
    queue: int = 100
    attempts: int = 9
    retry_s: float = 0.25
    callback_s: float = 5.0
    notice_s: float = 60.0
    confirm_s: float = 30.0
