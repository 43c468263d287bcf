"""The error tree of `docking`. Every error that this package declares is below `DockingError`.

    DockingError                       below `agents.errors.PortcallError`
    ├── ProtocolError                  the handoff protocol was broken
    │   ├── LocalProtocolError         by this station's own code: a bug here
    │   └── RemoteProtocolError        by the peer: its message is refused, nothing else changes
    │       └── MalformedMessage       its bytes are not a message, or are beyond a bound
    ├── StoreError                     the station's durable memory
    │   ├── StoreUnusable              cannot be opened: another version, another program's, damaged, in use
    │   └── WriteFailed                a write was not confirmed; only what is read back says what happened
    ├── ConfigError                    a policy says something that cannot be meant
    ├── IdentityError                  keys of this station and its peers
    │   ├── KeyFileError               cannot be read, is open to others, or its passphrase is wrong
    │   └── KeyChanged                 a known name shows another key: a person must decide
    ├── CarrierError                   a message could not be carried to a peer, or its answer back
    │   ├── PeerUnreachable            nothing was delivered
    │   └── NoAnswer                   it may or may not have been delivered
    └── StationError                   a station was asked for what it cannot do
        ├── UnknownAgent               no agent of that id or label is or was here
        ├── UnknownStation             no station of that name is known
        ├── AgentEnded                 an agent that was waited for did not finish well
        ├── ServiceFailed              raised by a service, to be told to the agent with its errno
        └── ControlError               the local station cannot be asked, or says no

A refusal is not an error: it is data (`docking.handoff.messages.Refuse`).
"""

from __future__ import annotations

from agents.errors import PortcallError


class DockingError(PortcallError):
    """The root of what stations declare."""


class ProtocolError(DockingError):
    """The handoff protocol was broken; the two classes below say by whom."""


class LocalProtocolError(ProtocolError):
    """This station's code asked a machine for what its state does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol. `code` is stable and for programs, `reason` for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class MalformedMessage(RemoteProtocolError):
    """The bytes are not a message of this protocol, or go beyond one of its bounds."""

    def __init__(self, reason: str, code: str = "malformed-message") -> None:
        super().__init__(code, reason)


class StoreError(DockingError):
    """The station's durable memory."""


class StoreUnusable(StoreError):
    """The file cannot serve as this station's store; the message says what to do."""


class StoreFull(StoreError):
    """The disk has no room for it: it is certainly not written, and may be tried again."""


class WriteFailed(StoreError):
    """A write was not confirmed: it may be on the disk or not.

    Nothing may be said about it until the store is reopened.
    """


class ConfigError(DockingError):
    """A policy, or another thing that people write, says something that cannot be meant; the message says
    where."""


class IdentityError(DockingError):
    """Keys of this station and of its peers."""


class KeyFileError(IdentityError):
    """A key file cannot be read or written, is open to other users, or the passphrase is wrong."""


class KeyChanged(IdentityError):
    """A known name shows another key. Nothing is sent to it until a person accepts the new key.

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
    """A message could not be carried."""


class PeerUnreachable(CarrierError):
    """The message was certainly not delivered (no route, connection refused)."""


class NoAnswer(CarrierError):
    """The message may have been delivered; no answer came."""


class StationError(DockingError):
    """A station was asked for what it cannot do; the message says why, and what to do."""


class UnknownAgent(StationError):
    """No agent of that id or label is or was here."""


class UnknownStation(StationError):
    """No station of that name is known."""


class AgentEnded(StationError):
    """An agent that was waited for trapped, used up its budget, or was disposed of."""


class ServiceFailed(StationError):
    """A service raises it: the agent's call then fails with `errno` (WASI, above 0) and `reason`."""

    def __init__(self, reason: str, errno: int = 29) -> None:
        super().__init__(reason)
        self.reason, self.errno = reason, errno


class ControlError(StationError):
    """The local station cannot be asked, or says no."""
