"""A station's policy: whom it lets in, what they may do, how much of it, and when it is too busy.

Read from a TOML file or made in code. Not enforcement (`admission`, and the workers), and not the station's
key.

    [limits]                      # per agent and stay
    cpu = "30s"                   # of computing
    memory = "64MiB"
    carried = "1GiB"              # of state that leaves with it
    messages = 10000
    state = "64MiB"               # of one arriving agent
    image = "32MiB"

    [station]
    residents = 10000             # agents here at the same time
    busy = 64                     # of these, running or ready to run
    memory = "4GiB"               # of all agents together
    shed = 0.9                    # above this share of any of the three, newcomers are asked to come later
    retry = "5s"                  # ... and when
    disk = "64MiB"                # free where the store is: below it, newcomers are sent away

    [wasi]                        # per agent: its file system, which travels with it, and what it writes
    luggage = "64MiB"
    files = 10000
    descriptors = 256
    log = "16MiB"                 # in one stay

    [directories.charts]          # this station's /srv/charts is /charts to agents with the capability dir:charts
    path = "/srv/charts"
    writable = false
    bytes = "64MiB"               # where it is writable: what may be in it in all, what is there already counted
    names = 10000

    [[owner]]
    key = "ed25519:..."
    name = "alice"                # for people
    capabilities = ["service:*", "host:clone"]
    residents = 100               # of this owner's agents; tighter cpu, memory, carried, messages too

    [revoked]
    owners = ["ed25519:..."]
    agents = ["..."]              # ids, as `portcall agents` shows them

    [dev]                         # loosens; a station says so loudly
    any-owner = ["service:*"]     # every owner is let in, with these capabilities

Invariants: an empty policy admits nobody; an unknown word in the file is an error, since it may be a misspelt
limit; `Policy` is frozen, so a policy changes only by being replaced."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve, field, fields, frozen

from agents.credentials.fields import AMOUNT
from agents.credentials.keys import PublicKey, bytes_of
from agents.credentials.permit import Budget, Permit
from agents.errors import CredentialError
from agents.snapshot import MAX_WASI
from agents.wasi.limits import Limits as WasiLimits
from docking.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KIB, MIB, GIB = 2**10, 2**20, 2**30
# A policy is written by people: a larger file is a mistake.
MAX_FILE = 2**20
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
_TIMES, _SIZES = ("us", "ms", "s", "min", "h"), ("B", "KiB", "MiB", "GiB")
_AMOUNT = re.compile(r"(\d{1,12})\s*([A-Za-z]{1,3})\Z")

# What one agent may use if the policy says nothing: enough for a tour, not enough to hurt.
DEFAULT_BUDGET = Budget(cpu=30 * 10**6, memory=64 * MIB, carried=GIB, messages=10_000)


def _capabilities(value: Iterable[str]) -> tuple[str, ...]:
    # `Permit` knows what a capability looks like.
    return Permit(Budget(), value).capabilities


@frozen
class OwnerRule:
    """An owner that is let in. `residents`: its agents here at the same time; `budget`: per agent."""

    key: PublicKey
    name: str = ""
    capabilities: tuple[str, ...] = field(default=("service:*", "host:*"), converter=_capabilities)
    budget: Budget = DEFAULT_BUDGET
    residents: int = 1000


@frozen
class Directory:
    """A directory of this machine that agents with the capability `dir:NAME` see as `/NAME`.

    bytes, names: what may be in it in all where it is `writable`, with what is there already.
    """

    name: str = field(validator=lambda _, __, name: _check_directory(name))
    path: Path = field(converter=Path)
    writable: bool = False
    bytes: int = 64 * MIB
    names: int = 10_000

    @property
    def guest(self) -> str:
        """What agents call it."""
        return f"/{self.name}"

    @property
    def capability(self) -> str:
        """What an agent's permit has to cover."""
        return f"dir:{self.name}"


# What agents find in their root already.
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
    return OwnerRule(value if isinstance(value, PublicKey) else PublicKey.from_text(value))


def _rules(value: Iterable[OwnerRule | PublicKey | str]) -> tuple[OwnerRule, ...]:
    return tuple(_rule(rule) for rule in value)


def _wasi(instance: object, attribute: Any, value: WasiLimits) -> None:
    # A station that lets agents have more than a state can hold would let them grow until they cannot leave.
    if value.encoded > MAX_WASI:
        raise ConfigError(f"[wasi]: a state holds {MAX_WASI // MIB}MiB; luggage and files could take more than that")


def _directories(value: Iterable[Directory]) -> tuple[Directory, ...]:
    found = tuple(value)
    if len({each.name for each in found}) != len(found):
        raise ConfigError("a directory is named twice")
    return found


def _ids(value: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(value)


@frozen
class Policy:
    """What a station allows. `Policy()` admits nobody; `Policy(owners=[key])` admits that owner's agents.

    `owners`: rules, keys or their text forms. `revoked`: raw keys of owners, ids of agents. `budget`: per
    agent, above every rule. `state`, `image`: bytes of one arriving agent. `residents`, `busy`, `memory`: of
    the whole station. `shed`: the share of these above which newcomers are sent away, `retry` seconds long.
    `disk`: bytes that must be free where the store is, likewise.
    `any_owner`: capabilities for owners without a rule; None refuses them. `wasi`: bounds of each agent's file
    system; `directories`: those of this machine that agents may use. Raises `ConfigError`."""

    owners: tuple[OwnerRule, ...] = field(default=(), converter=_rules)
    revoked: frozenset[bytes] = field(default=frozenset(), converter=_ids)
    budget: Budget = DEFAULT_BUDGET
    state: int = 64 * MIB
    image: int = 32 * MIB
    residents: int = 10_000
    busy: int = 64
    memory: int = 4 * GIB
    shed: float = 0.9
    retry: int = 5
    disk: int = 64 * MIB
    any_owner: tuple[str, ...] | None = None
    wasi: WasiLimits = field(factory=WasiLimits, validator=_wasi)
    directories: tuple[Directory, ...] = field(default=(), converter=_directories)

    def rule(self, owner: PublicKey) -> OwnerRule | None:
        """The rule for `owner`, or None: it is not let in."""
        for rule in self.owners:
            if rule.key == owner:
                return rule
        if self.any_owner is None:
            return None
        return OwnerRule(owner, "anyone", self.any_owner, self.budget, self.residents)

    def loosened(self) -> tuple[str, ...]:
        """Sentences that say what is looser here than it should be on a network; to be shown loudly."""
        if self.any_owner is None:
            return ()
        what = ", ".join(self.any_owner) or "no capabilities"
        return (f"agents of ANY owner are admitted, with {what}: do not run this on a network you do not own",)


def development(policy: Policy) -> Policy:
    """`policy`, for `--dev` and the demonstration: agents of any owner, with every capability."""
    return evolve(policy, any_owner=("dir:*", "host:*", "service:*"))


def read_policy(text: str) -> Policy:
    """The policy that a TOML text describes. Raises `ConfigError`, which names the line or the word."""
    if len(text) > MAX_FILE:
        raise ConfigError(f"a policy of more than {MAX_FILE} characters")
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"the policy is not TOML: {error}") from error
    top = _Table(tables, "policy")
    limits, station = top.table("limits"), top.table("station")
    revoked, dev = top.table("revoked"), top.table("dev")
    wasi, directories = top.table("wasi"), top.table("directories")
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
        budget=budget,
        state=limits.size("state", default.state),
        image=limits.size("image", default.image),
        residents=station.count("residents", default.residents),
        busy=station.count("busy", default.busy),
        memory=station.size("memory", default.memory),
        shed=station.share("shed", default.shed),
        retry=-(-station.time("retry", default.retry * 10**6) // 10**6),
        disk=station.size("disk", default.disk),
        any_owner=_granted(dev.texts("any-owner"), "dev") if dev.has("any-owner") else None,
        wasi=_wasi_limits(wasi, default.wasi),
        directories=[_directory(directories.table(name), name) for name in sorted(directories.value)],
    )
    for table in (limits, station, revoked, dev, wasi, directories, top):
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


def _directory(table: _Table, name: str) -> Directory:
    table.name = f"directories.{name}"
    path = table.text("path", "")
    if not path:
        raise ConfigError(f"policy: [{table.name}] has no path")
    writable = bool(table.take("writable", False, bool))
    if not writable and (table.has("bytes") or table.has("names")):
        raise ConfigError(f"policy: [{table.name}] has bytes or names, which only one that is writable needs")
    found = Directory(name, Path(path), writable, table.size("bytes", 64 * MIB), table.count("names", 10_000))
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
    """One table of the file; words that were not read are reported by `done`."""

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
        return self.amount(word, default, _TIMES)

    def size(self, word: str, default: int) -> int:
        return self.amount(word, default, _SIZES)

    def amount(self, word: str, default: int, units: tuple[str, ...]) -> int:
        if not self.has(word):
            return default
        return amount(self.take(word, "", str), units, f"policy: [{self.name}] {word}")

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


def amount(text: str, units: tuple[str, ...], what: str) -> int:
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
    `allow=service:x` or `need=host:clone` (the last two may be repeated; the first `allow` replaces the
    default). Raises `ConfigError`."""
    budget, allowed, needed = default.budget, list[str](), list(default.needs)
    names = {attribute.name for attribute in fields(Budget)}
    for pair in pairs:
        word, _, value = pair.partition("=")
        if word in ("cpu", "memory", "carried"):
            units = _TIMES if word == "cpu" else _SIZES
            budget = evolve(budget, **{word: amount(value, units, word)})
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
