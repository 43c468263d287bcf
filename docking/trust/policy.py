"""A station's policy: whom it admits, what they may do, how much they may use, and when it is too busy.

Read from a TOML file or made in code. Not here: enforcement (`admission`, and the workers), and the station's
key.

    [limits]                      # per agent and stay
    cpu = "30s"                   # of CPU time
    memory = "64MiB"
    carried = "1GiB"              # of state that leaves with it
    messages = 10000
    state = "64MiB"               # of one arriving agent
    image = "32MiB"

    [station]
    residents = 10000             # agents here at once
    busy = 64                     # of them, running or ready to run
    memory = "4GiB"               # of all agents together: their memory, their states, and copies of both
    shed = 0.9                    # above this share of any of the three, arriving agents are asked to retry
    retry = "5s"                  # ... after this time. Where several owners are admitted, so are those of an owner
                                  # who has as much of `residents` or `memory` as is left
    disk = "64MiB"                # free on the store's disk: below it, arriving agents are refused

    [wasi]                        # per agent: its file system, which travels with it, and what it writes
    luggage = "64MiB"
    files = 10000
    descriptors = 256
    log = "16MiB"                 # in one stay

    [directories.charts]          # this station's /srv/charts is /charts to agents with the capability dir:charts
    path = "/srv/charts"
    writable = false
    bytes = "64MiB"               # if writable: the most it may hold, including what is there already
    names = 10000

    [recordings]                  # what is kept of agents that pass, for portcall replay
    bytes = "256MiB"              # on the disk of this station, the oldest gone first; "0B", the default, keeps nothing
    stays = 10000                 # of agents, at the most
    age = "168h"
    calls = "4MiB"                # of what one agent's calls returned in one stay

    [[owner]]
    key = "ed25519:..."
    name = "alice"                # for people
    capabilities = ["service:*", "host:clone"]
    residents = 100               # of this owner's agents; tighter cpu, memory, carried, messages too

    [orphans]                     # agents whose homes are not heard of
    after = "168h"                # for so long, here: an alarm comes at half of it
    then = "sleep"                # or "dispose"

    [lease]                       # agents whose lease is over, and was not renewed: they sleep
    after = "168h"                # and end so long after

    [spent]                       # agents whose budget of processor time is used up, and that wait for a top-up
    after = "168h"                # for so long; then their journeys end

    [dock]                        # what is meant for these stations waits here while they are away
    stations = ["ed25519:..."]
    bytes = "64MiB"               # for each of them
    letters = 1000

    [revoked]
    owners = ["ed25519:..."]
    agents = ["..."]              # ids, as shown by `portcall agents`

    by = ["ed25519:..."]          # keys that may revoke other ones, by a signed statement (portcall revoke)

    [dev]                         # loosens the policy; a station warns about it prominently
    any-owner = ["service:*"]     # every owner is admitted, with these capabilities

Invariants: an empty policy admits nobody; an unknown word in the file is an error, since it may be a misspelt
limit; `Policy` is frozen, so a policy changes only by being replaced."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, field, fields, frozen

from agents.brief import brief
from agents.credentials.fields import AMOUNT
from agents.credentials.keys import PublicKey, SecretKey, bytes_of
from agents.credentials.permit import Budget, Permit
from agents.errors import CredentialError
from agents.snapshot import MAX_WASI_BYTES
from agents.wasi.limits import WasiLimits as WasiLimits
from docking.errors import ConfigError
from docking.trust.keeping import Keeping as Keeping

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KIB, MIB, GIB = 2**10, 2**20, 2**30
# Bytes. A policy is written by people: a larger file is a mistake.
MAX_POLICY_FILE_BYTES = 2**20
_UNITS = {
    "us": 1,
    "ms": 10**3,
    "s": 10**6,
    "min": 60 * 10**6,
    "h": 3600 * 10**6,
    "B": 1,
    "KiB": KIB,
    "MiB": MIB,
    "GiB": GIB,
}
TIMES, SIZES = ("us", "ms", "s", "min", "h"), ("B", "KiB", "MiB", "GiB")
_AMOUNT = re.compile(r"(\d{1,12})\s*([A-Za-z]{1,3})\Z")

# What one agent may use if the policy says nothing: enough for a tour, too little to do harm.
DEFAULT_BUDGET = Budget(cpu=30 * 10**6, memory=64 * MIB, carried=GIB, messages=10_000)


def _capabilities(value: Iterable[str]) -> tuple[str, ...]:
    # `Permit` validates capabilities.
    return Permit(Budget(), value).capabilities


@frozen
class OwnerRule:
    """An owner whose agents are admitted.

    key: the owner's; name: for people
    capabilities: what its agents may do here, as patterns (`service:*`)
    budget: what each of them may use here
    residents: how many of them may be here at once
    """

    key: PublicKey
    name: str = ""
    capabilities: tuple[str, ...] = field(default=("service:*", "host:*"), converter=_capabilities, repr=brief)
    budget: Budget = DEFAULT_BUDGET
    residents: int = 1000


@frozen
class LentDirectory:
    """A directory of this machine that agents with the capability `dir:NAME` see as `/NAME`.

    bytes, names: the most it may hold in total where it is `writable`, including what is there already.
    """

    name: str = field(validator=lambda _, __, name: _check_directory(name))
    path: Path = field(converter=Path)
    writable: bool = False
    bytes: int = 64 * MIB
    names: int = 10_000

    @property
    def guest(self) -> str:
        """The path by which agents see it."""
        return f"/{self.name}"

    @property
    def capability(self) -> str:
        """The capability that an agent's permit must include."""
        return f"dir:{self.name}"


# Names that an agent's root already contains.
_TAKEN = ("portcall", "dev")


def _check_directory(name: str) -> None:
    try:
        _capabilities([f"dir:{name}"])
    except CredentialError:
        raise ConfigError(f"a directory {name[:80]!r}: a name has letters a-z, digits, '_', '-' and '.'") from None
    if name in _TAKEN or "*" in name:
        raise ConfigError(f"a directory cannot be called {name!r}")


def _rule(value: OwnerRule | PublicKey | str) -> OwnerRule:
    if isinstance(value, OwnerRule):
        return value
    if isinstance(value, str):
        return OwnerRule(PublicKey.from_text(value))
    if not isinstance(value, PublicKey):
        hint = ": its .public" if isinstance(value, SecretKey) else ""
        raise TypeError(
            f"an owner is a docking.PublicKey, its text or a docking.OwnerRule, not {type(value).__name__}{hint}"
        )
    return OwnerRule(value)


def _rules(value: Iterable[OwnerRule | PublicKey | str]) -> tuple[OwnerRule, ...]:
    if isinstance(value, (str, PublicKey, SecretKey, OwnerRule)):
        raise TypeError(f"owners is a list, not one {type(value).__name__}: docking.Policy(owners=[...])")
    return tuple(_rule(rule) for rule in value)


def _wasi(instance: object, attribute: object, value: WasiLimits) -> None:
    # If agents could have more than a state can hold, they could grow until they cannot leave.
    if value.encoded > MAX_WASI_BYTES:
        raise ConfigError(
            f"[wasi]: a state holds {MAX_WASI_BYTES // MIB}MiB; luggage and files could take more than that"
        )


def _directories(value: Iterable[LentDirectory]) -> tuple[LentDirectory, ...]:
    found = tuple(value)
    if len({each.name for each in found}) != len(found):
        raise ConfigError("a directory is named twice")
    return found


def _orphans(instance: object, attribute: object, value: str) -> None:
    if value not in ("sleep", "dispose"):
        raise ConfigError(f'policy: [orphans] then: "sleep" or "dispose", not {value[:40]!r}')


def _stations(value: Iterable[PublicKey]) -> frozenset[PublicKey]:
    return frozenset(value)


def _ids(value: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(value)


@frozen
class Policy:
    """What a station allows. `Policy()` admits nobody; `Policy(owners=[key])` admits that owner's agents.

    `owners`: rules, keys or their text forms. `revoked`: raw keys of owners
    and stations, ids of agents; `revokers`: keys that may revoke others by a signed statement. `budget`: of each
    agent, on top of every rule. `state`, `image`: bytes of one arriving agent. `residents`, `busy`, `memory`: of
    the whole station. `shed`: the share of these above which arrivals are refused, `retry`: for how many seconds.
    `disk`: bytes free on the store's disk below which they are refused too.
    `orphans_after`: seconds after which an agent here whose home is not heard of is put to sleep, or disposed of where
    `orphans_then` is "dispose"; 0: never.
    `spent_after`: seconds for which an agent whose processor time is used up waits here for more; 0: until its time is
    over.
    `lease_after`: seconds after which an agent whose lease was not renewed is ended; 0: when its time is over.
    `dock_for`: stations for which this one keeps what is meant for them while they are away, for each up to
    `dock_bytes` and `dock_letters`.
    `any_owner`: capabilities for owners without a rule; None refuses them. `wasi`: limits of each agent's file
    system; `directories`: those of this machine that agents may use; `recordings`: what is kept of those that pass.
    Raises `ConfigError`, TypeError.
    """

    owners: tuple[OwnerRule, ...] = field(default=(), converter=_rules, repr=brief)
    revoked: frozenset[bytes] = field(default=frozenset(), converter=_ids, repr=brief)
    revokers: frozenset[PublicKey] = field(default=frozenset(), converter=_stations, repr=brief)
    budget: Budget = DEFAULT_BUDGET
    state: int = 64 * MIB
    image: int = 32 * MIB
    residents: int = 10_000
    busy: int = 64
    memory: int = 4 * GIB
    shed: float = 0.9
    retry: int = 5
    disk: int = 64 * MIB
    orphans_after: int = 0
    orphans_then: str = field(default="sleep", validator=_orphans)
    spent_after: int = 168 * 3600
    lease_after: int = 168 * 3600
    dock_for: frozenset[PublicKey] = field(default=frozenset(), converter=_stations, repr=brief)
    dock_bytes: int = 64 * MIB
    dock_letters: int = 1000
    any_owner: tuple[str, ...] | None = field(default=None, repr=brief)
    wasi: WasiLimits = field(factory=WasiLimits, validator=_wasi)
    directories: tuple[LentDirectory, ...] = field(default=(), converter=_directories, repr=brief)
    recordings: Keeping = field(factory=Keeping)

    def rule(self, owner: PublicKey) -> OwnerRule | None:
        """The rule for `owner`; None if it is not admitted."""
        for rule in self.owners:
            if rule.key == owner:
                return rule
        if self.any_owner is None:
            return None
        return OwnerRule(owner, "anyone", self.any_owner, self.budget, self.residents)

    def loosened(self) -> tuple[str, ...]:
        """Sentences that say what is looser here than it should be on a network. Show them prominently."""
        if self.any_owner is None:
            return ()
        what = ", ".join(self.any_owner) or "no capabilities"
        return (f"agents of ANY owner are admitted, with {what}: do not run this on a network you do not own",)


def check_policy(policy: Policy) -> Policy:
    """`policy`, if it is one. Raises TypeError, which says how to make one."""
    if not isinstance(policy, Policy):
        raise TypeError(
            f"policy is a docking.Policy, not {type(policy).__name__}: docking.Policy(owners=[key]), or"
            " docking.read_policy(TOML text)"
        )
    return policy


def development(policy: Policy) -> Policy:
    """`policy`, loosened for `--dev` and the demo: agents of any owner, with every capability."""
    return evolve(policy, any_owner=("dir:*", "host:*", "service:*"))


def read_policy(text: str) -> Policy:
    """The policy in a TOML text. Raises `ConfigError`, which names the line or the word."""
    if len(text) > MAX_POLICY_FILE_BYTES:
        raise ConfigError(f"a policy of more than {MAX_POLICY_FILE_BYTES} characters")
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"the policy is not TOML: {error}") from error
    top = _Table(tables, "policy")
    limits, station = top.table("limits"), top.table("station")
    revoked, dev = top.table("revoked"), top.table("dev")
    wasi, directories, dock = top.table("wasi"), top.table("directories"), top.table("dock")
    recordings, orphans, spent = top.table("recordings"), top.table("orphans"), top.table("spent")
    lease = top.table("lease")
    budget = limits.budget(DEFAULT_BUDGET)
    owners = [_owner(table, budget) for table in top.tables("owner")]
    if len({rule.key for rule in owners}) != len(owners):
        raise ConfigError("policy: an owner is named twice")
    default = Policy()
    policy = Policy(
        owners=tuple(owners),
        revoked=frozenset(
            [key.raw for key in revoked.keys("owners")] + [_id(text) for text in revoked.texts("agents")]
        ),
        revokers=frozenset(revoked.keys("by")),
        budget=budget,
        state=limits.size("state", default.state),
        image=limits.size("image", default.image),
        residents=station.count("residents", default.residents),
        busy=station.count("busy", default.busy),
        memory=station.size("memory", default.memory),
        shed=station.share("shed", default.shed),
        retry=-(-station.time("retry", default.retry * 10**6) // 10**6),
        disk=station.size("disk", default.disk),
        orphans_after=-(-orphans.time("after", 0) // 10**6),
        orphans_then=orphans.text("then", default.orphans_then),
        spent_after=-(-spent.time("after", default.spent_after * 10**6) // 10**6),
        lease_after=-(-lease.time("after", default.lease_after * 10**6) // 10**6),
        dock_for=frozenset(dock.keys("stations")),
        dock_bytes=dock.size("bytes", default.dock_bytes),
        dock_letters=dock.count("letters", default.dock_letters),
        any_owner=_granted(dev.texts("any-owner"), "dev") if dev.has("any-owner") else None,
        wasi=_wasi_limits(wasi, default.wasi),
        directories=[_directory(directories.table(name), name) for name in sorted(directories.value)],
        recordings=_keeping(recordings, default.recordings),
    )
    for table in (limits, station, revoked, dev, wasi, directories, recordings, orphans, spent, lease, dock, top):
        table.done()
    return policy


def _owner(table: _Table, budget: Budget) -> OwnerRule:
    keys = table.keys("key")
    if len(keys) != 1:
        raise ConfigError("policy: each [[owner]] has one key")
    rule = OwnerRule(
        key=keys[0],
        name=table.text("name", ""),
        capabilities=_granted(table.texts("capabilities"), "owner"),
        budget=table.budget(budget).least(budget),
        residents=table.count("residents", 1000),
    )
    table.done()
    return rule


def _wasi_limits(table: _Table, default: WasiLimits) -> WasiLimits:
    return evolve(
        default,
        luggage_bytes=table.size("luggage", default.luggage_bytes),
        files=table.count("files", default.files),
        descriptors=table.count("descriptors", default.descriptors),
        log_bytes=table.size("log", default.log_bytes),
    )


def _keeping(table: _Table, default: Keeping) -> Keeping:
    try:
        return Keeping(
            bytes=table.size("bytes", default.bytes),
            stays=table.count("stays", default.stays),
            age_s=table.time("age", default.age_s * 10**6) // 10**6,
            calls=table.size("calls", default.calls),
        )
    except ValueError as error:
        raise ConfigError(f"policy: [recordings]: {error.args[0]}") from None


def _directory(table: _Table, name: str) -> LentDirectory:
    table.name = f"directories.{name}"
    path = table.text("path", "")
    if not path:
        raise ConfigError(f"policy: [{table.name}] has no path")
    writable = bool(table.take("writable", False, bool))
    if not writable and (table.has("bytes") or table.has("names")):
        raise ConfigError(f"policy: [{table.name}] has bytes or names, which only one that is writable needs")
    found = LentDirectory(name, Path(path), writable, table.size("bytes", 64 * MIB), table.count("names", 10_000))
    table.done()
    return found


def _granted(texts: list[str], where: str) -> tuple[str, ...]:
    try:
        return _capabilities(texts)
    except CredentialError as error:
        raise ConfigError(f"policy: [{where}]: {error.reason}") from error


def _id(text: str) -> bytes:
    try:
        return bytes_of(text)
    except CredentialError as error:
        raise ConfigError(f"policy: [revoked]: {text[:80]!r} is not an agent's id") from error


class _Table:
    """One table of the file. `done` reports the words that nobody has read."""

    def __init__(self, value: Mapping[str, Any], name: str) -> None:
        self.value, self.name, self.taken = value, name, set[str]()

    def has(self, word: str) -> bool:
        self.taken.add(word)
        return word in self.value

    def take(self, word: str, default: Any, *kinds: type) -> Any:
        self.taken.add(word)
        value = self.value.get(word, default)
        if type(value) not in kinds:
            raise ConfigError(f"policy: [{self.name}] {word}: not {' or '.join(k.__name__ for k in kinds)}")
        return value

    def table(self, word: str) -> _Table:
        return _Table(self.take(word, {}, dict), word)

    def tables(self, word: str) -> list[_Table]:
        tables = self.take(word, [], list)
        if not all(isinstance(table, dict) for table in tables):
            raise ConfigError(f"policy: write [[{word}]] for each {word}")
        return [_Table(table, word) for table in tables]

    def text(self, word: str, default: str) -> str:
        return str(self.take(word, default, str))

    def texts(self, word: str) -> list[str]:
        values = self.take(word, [], list)
        if not all(isinstance(value, str) for value in values):
            raise ConfigError(f"policy: [{self.name}] {word}: not a list of texts")
        return list(values)

    def keys(self, word: str) -> list[PublicKey]:
        values = self.take(word, [], list, str)
        try:
            return [PublicKey.from_text(v) for v in ([values] if isinstance(values, str) else values)]
        except (CredentialError, AttributeError, TypeError) as error:
            raise ConfigError(f"policy: [{self.name}] {word}: not a public key (ed25519:...)") from error

    def count(self, word: str, default: int) -> int:
        value = self.take(word, default, int)
        if not 0 <= value <= AMOUNT:
            raise ConfigError(f"policy: [{self.name}] {word}: not from 0 to 2^53")
        return int(value)

    def share(self, word: str, default: float) -> float:
        value = self.take(word, default, float, int)
        if not 0 < value <= 1:
            raise ConfigError(f"policy: [{self.name}] {word}: not a share above 0, up to 1")
        return float(value)

    def time(self, word: str, default: int) -> int:
        return self.amount(word, default, TIMES)

    def size(self, word: str, default: int) -> int:
        return self.amount(word, default, SIZES)

    def amount(self, word: str, default: int, units: tuple[str, ...]) -> int:
        if not self.has(word):
            return default
        return parse_amount(self.take(word, "", str), units, f"policy: [{self.name}] {word}")

    def budget(self, default: Budget) -> Budget:
        return Budget(
            cpu=self.time("cpu", default.cpu),
            memory=self.size("memory", default.memory),
            carried=self.size("carried", default.carried),
            messages=self.count("messages", default.messages),
        )

    def done(self) -> None:
        extra = sorted(self.value.keys() - self.taken)
        if extra:
            known = ", ".join(sorted(self.taken))
            where = "it" if self.name == "policy" else f"[{self.name}]"
            raise ConfigError(f"policy: {where} has the unknown word {extra[0][:80]!r}; known are {known}")


def parse_amount(text: str, units: tuple[str, ...], what: str) -> int:
    """An amount such as `30s` (in microseconds) or `64MiB` (in bytes). Raises `ConfigError`."""
    match = _AMOUNT.match(text)
    if match is None or match[2] not in units:
        raise ConfigError(f"{what}: write a number and one of {', '.join(units)}, not {text[:80]!r}")
    value = int(match[1]) * _UNITS[match[2]]
    if value > AMOUNT:
        raise ConfigError(f"{what}: {text!r} is beyond all measure")
    return value


def read_permit(pairs: Iterable[str], default: Permit) -> Permit:
    """`default` with changes such as `cpu=10s`, `memory=16MiB`, `carried=1GiB`, `messages=5`,
    `allow=service:x` or `need=host:clone`.

    The last two may be repeated; the first `allow` replaces the default. Raises `ConfigError`.
    """
    budget, allowed, needed = default.budget, list[str](), list(default.needs)
    names = {attribute.name for attribute in fields(Budget)}
    for pair in pairs:
        word, _, value = pair.partition("=")
        if word in ("cpu", "memory", "carried"):
            units = TIMES if word == "cpu" else SIZES
            budget = evolve(budget, **{word: parse_amount(value, units, word)})
        elif word == "messages" and value.isdecimal() and len(value) < 16:
            budget = evolve(budget, messages=int(value))
        elif word == "allow":
            allowed.append(value)
        elif word == "need":
            needed.append(value)
        else:
            raise ConfigError(f"permit: {pair[:80]!r}: write {', '.join(sorted(names))}, allow or need, and =")
    try:
        return Permit(budget, (allowed or list(default.capabilities)) + needed, needed)
    except CredentialError as error:
        raise ConfigError(f"permit: {error.reason}") from error
