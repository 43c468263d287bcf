"""How an agent is moved or upgraded by order, and what came of it: plain values, for commands and programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import asdict, field, frozen, validators

from agents.brief import brief

OnTimeout = Literal["cancel", "force", "post-copy"]
ON_TIMEOUT: tuple[OnTimeout, ...] = ("cancel", "force", "post-copy")
# Seconds that a move may take beside sending ahead: whoever asks for one waits so long.
MOVED_S = 120.0
# Likewise for an upgrade, beside the time in which the agent has to stand still: its code is compiled and compared.
UPGRADED_S = 120.0


@frozen
class MoveOptions:
    """How an agent is moved.

    downtime_ms: how long it may stand still (20); it is stopped when what is left can probably be sent in that time
    timeout_s: how long sending ahead may take, in seconds (60)
    on_timeout: then, or when it writes faster than can be sent: "cancel" it and leave the agent here, "force" it,
        whatever the downtime, or "post-copy": it goes on there, and what is left of its memory comes when it is
        needed; with a `timeout_s` of 0 all of it
    precopy: whether its memory is sent ahead while it runs; False stops it first
    """

    downtime_ms: float = field(default=20.0, validator=validators.and_(validators.ge(0), validators.le(600_000)))
    timeout_s: float = field(default=60.0, validator=validators.and_(validators.ge(0), validators.le(86_400)))
    on_timeout: OnTimeout = field(default="cancel", validator=validators.in_(ON_TIMEOUT))
    precopy: bool = field(default=True, validator=validators.instance_of(bool))

    def told(self) -> dict[str, object]:
        """As values that the control channel has: times as integers."""
        return {
            "downtime_us": round(1000 * self.downtime_ms),
            "timeout_ms": round(1000 * self.timeout_s),
            "on_timeout": self.on_timeout,
            "precopy": self.precopy,
        }

    @classmethod
    def of(
        cls,
        downtime_us: int = 20_000,
        timeout_ms: int = 60_000,
        on_timeout: OnTimeout = "cancel",
        precopy: bool = True,
    ) -> MoveOptions:
        """The inverse of `told`. Raises `ValueError`."""
        return cls(downtime_us / 1000, timeout_ms / 1000, on_timeout, precopy)


@frozen
class MoveReport:
    """What moving an agent took.

    agent: its id as text
    to: the station where it lives now
    rounds: in which its memory was sent ahead; 0 if it was stopped first
    sent_bytes: of memory that was sent ahead, before compression
    resent_blocks: blocks of 16 KiB that were sent more than once
    downtime_ms: from the moment at which it stood still here to the commit, which starts it there
    total_s: of the whole move, in seconds
    owed_bytes: of memory that was to come after the agent, which runs there already (post-copy)
    watch: how writes to its memory were noticed: "userfaultfd" or "comparison"; empty without pre-copy
    """

    agent: str
    to: str
    rounds: int
    sent_bytes: int
    resent_blocks: int
    downtime_ms: float
    total_s: float
    watch: str
    owed_bytes: int = 0

    def sentence(self) -> str:
        """For people, in a line."""
        later = f", {self.owed_bytes >> 10} KiB come later" if self.owed_bytes else ""
        sent = f"{self.rounds} rounds, {self.sent_bytes >> 10} KiB sent ahead, {self.resent_blocks} blocks again"
        return f"{sent}, stood still for {self.downtime_ms:.1f} ms{later}"

    def value(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)

    def told(self) -> dict[str, object]:
        """As values that the control channel has: times as integers, in microseconds."""
        value = self.value()
        del value["downtime_ms"], value["total_s"]
        return {**value, "downtime_us": round(1000 * self.downtime_ms), "total_us": round(1e6 * self.total_s)}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> MoveReport:
        """The inverse of `told`."""
        rest = {name: each for name, each in told.items() if not name.endswith("_us")}
        return cls(**rest, downtime_ms=told["downtime_us"] / 1000, total_s=told["total_us"] / 1e6)


@frozen
class FrameReport:
    """A place on an agent's stack, and what becomes of it in a new module.

    function: its name, as its module has it; site: the number of the place there; to: in the new module, 0 if it has
    none; times: how often it is on the stack; why: what keeps it from going on, empty if nothing does
    """

    function: str
    site: int
    to: int
    times: int
    why: str = ""


@frozen
class UpgradeReport:
    """What became of an upgrade, or would.

    agent: its id as text
    old, new: the digests of its image and of the new one, as text
    done: "upgraded" where it has the new code; "sent" where the order travels after it; of one that was only looked at
        "possible" or "refused"
    begun: whether it has begun to run at all
    weak: whether it leaves its stack behind, since it goes on at an export
    frames: the places on its stack, outermost first
    problems: what is in the way, a sentence each
    """

    agent: str
    old: str
    new: str
    done: str
    begun: bool = True
    weak: bool = False
    frames: tuple[FrameReport, ...] = field(default=(), repr=brief)
    problems: tuple[str, ...] = field(default=(), repr=brief)

    def value(self) -> dict[str, Any]:
        """As plain values."""
        made = asdict(self)
        return {**made, "frames": list(made["frames"]), "problems": list(self.problems)}

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> UpgradeReport:
        """The inverse of `value`."""
        frames = tuple(FrameReport(**each) for each in value["frames"])
        return cls(**{**value, "frames": frames, "problems": tuple(value["problems"])})
