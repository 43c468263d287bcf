"""The exceptions of `docking`. Every error that this package declares is below `DockingError`.

    DockingError                       below `agents.errors.PortcallError`
    ├── ProtocolError                  the handoff protocol was violated
    │   ├── LocalProtocolError         by this station's own code: a bug here
    │   └── RemoteProtocolError        by the peer: its message is refused, nothing else changes
    │       └── MalformedMessage       its bytes are not a message, or exceed a bound
    ├── StoreError                     the station's durable storage failed
    │   ├── StoreUnusable              cannot be opened: another version, another program's, damaged, in use
    │   ├── StoreFull                  the disk has no space; nothing was written
    │   └── WriteFailed                a write was not confirmed; only reading it back shows what happened
    ├── ConfigError                    a policy is invalid
    ├── IdentityError                  keys of this station and its peers
    │   ├── KeyFileError               cannot be read, is open to others, or its passphrase is wrong
    │   │   └── KeyExists              is there already, and is not overwritten
    │   └── KeyChanged                 a known name shows another key: an operator must decide
    ├── CarrierError                   a message could not be delivered to a peer, or its answer back
    │   ├── PeerUnreachable            nothing was delivered
    │   └── NoAnswer                   it may or may not have been delivered
    └── StationError                   a station was asked for something it cannot do
        ├── UnknownAgent               no agent of that id or label is or was here
        ├── UnknownStation             no station of that name is known
        ├── TasksRefused               an itinerary names a task that the agent cannot do
        ├── AgentEnded                 an agent that was waited for did not finish normally
        ├── ServiceFailed              raised by a service, to be returned to the agent with its errno
        └── ControlError               the local station cannot be asked, or refuses

A refusal is not an error: it is data (`docking.handoff.messages.Refuse`).
"""

from __future__ import annotations

from agents.errors import PortcallError


class DockingError(PortcallError):
    """The root of the errors that stations raise."""


class ProtocolError(DockingError):
    """The handoff protocol was violated; the subclasses say by whom."""


class LocalProtocolError(ProtocolError):
    """This station's code asked a state machine for something that its state does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer violated the protocol. `code` is stable and for programs, `reason` for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class MalformedMessage(RemoteProtocolError):
    """The bytes are not a message of this protocol, or exceed one of its bounds."""

    def __init__(self, reason: str, code: str = "malformed-message") -> None:
        super().__init__(code, reason)


class StoreError(DockingError):
    """The station's durable storage failed."""


class StoreUnusable(StoreError):
    """The file cannot serve as this station's store; the message says what to do."""


class StoreFull(StoreError):
    """The disk has no space for it: it is certainly not written, and may be tried again."""


class WriteFailed(StoreError):
    """A write was not confirmed: it may or may not be on disk.

    Nothing may be said about it until the store is reopened.
    """


class ConfigError(DockingError):
    """A policy, or other input written by people, is invalid; the message says where."""


class IdentityError(DockingError):
    """The keys of this station or of its peers are missing, unusable or not the expected ones."""


class KeyFileError(IdentityError):
    """A key file cannot be read or written, is open to other users, or the passphrase is wrong."""


class KeyExists(KeyFileError):
    """There is a key file already, and it is not overwritten."""


class KeyChanged(IdentityError):
    """A known name shows another key. Nothing is sent to it until an operator accepts the new key.

    `pinned`, `offered`: the two keys, in text form.
    """

    def __init__(self, name: str, pinned: str, offered: str) -> None:
        super().__init__(
            f"the station {name!r} shows another key than before. It may have been set up anew, or someone "
            f"else answers in its name. Known: {pinned}. Now: {offered}. If its keeper confirms the new key, "
            f"accept it with: portcall key accept {name} {offered} --home FOLDER-OF-YOUR-STATION"
        )
        self.name, self.pinned, self.offered = name, pinned, offered


class CarrierError(DockingError):
    """A message could not be delivered."""


class PeerUnreachable(CarrierError):
    """The message was certainly not delivered (no route, connection refused)."""


class NoAnswer(CarrierError):
    """The message may have been delivered; no answer came."""


class StationError(DockingError):
    """A station was asked for something it cannot do; the message says why, and what to do."""


class UnknownAgent(StationError):
    """No agent of that id or label is or was here."""


class UnknownStation(StationError):
    """No station of that name is known."""


class TasksRefused(StationError):
    """An itinerary names a task that the agent cannot do. `code` is stable and for programs, `reason` for people.

    `no-tasks`: none at all; `no-such-task`: not this one; `task-parameters`: not without arguments.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class AgentEnded(StationError):
    """An agent that was waited for trapped, used up its budget, or was disposed of."""


class ServiceFailed(StationError):
    """Raised by a service: the agent's call then fails with `errno` (WASI, above 0) and `reason`."""

    def __init__(self, reason: str, errno: int = 29) -> None:
        super().__init__(reason)
        # A service that gives something else fails all the same, and with nothing worse.
        self.reason, self.errno = str(reason), errno if type(errno) is int and 0 < errno < 2**15 else 29


class ControlError(StationError):
    """The local station cannot be asked, or refuses."""
