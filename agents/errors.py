"""The error tree of `agents`. Every error that this package declares is below `PortcallError`.

    PortcallError
    ├── ModuleError                a Wasm module that cannot be used
    │   ├── MalformedModule        its bytes are not a module
    │   ├── InvalidModule          it does not validate
    │   ├── UnsupportedFeature     it uses what Portcall refuses, by name
    │   └── ModuleTooLarge         it is beyond a bound that stops resource attacks
    ├── FormatError                bytes that are not what they claim to be
    │   ├── NotCanonical           not deterministic CBOR, or beyond its bounds
    │   ├── BadImage
    │   ├── BadSnapshot
    │   └── BadRecord              not the record of a run
    ├── CredentialError            a signed statement that does not hold: a code and a sentence
    │   ├── MalformedCredential    its bytes are not such a statement
    │   └── CannotOpen             sealed for another key, or altered on the way
    ├── ToolchainError             an author's compiler does not take the source
    │   └── ToolchainMissing       it is not installed, or not completely
    ├── EngineError                an engine is missing, or cannot take this module
    ├── HostCallError              raised inside a host call; never leaves a run
    │   ├── CallFailed             the guest sees an errno
    │   ├── GuestFault             the guest gave a pointer outside its memory
    │   └── EndOfRun               the agent ended itself
    ├── Diverged                   a replayed run does not do what the record says
    └── RunStopped                 raised by an engine; becomes an outcome of the run
        ├── WasmTrap               the agent's code trapped
        └── LimitReached           the agent wanted more than it is allowed

A trap, a used-up budget or a refusal is not an error: it is an outcome of `agents.run`, a value.
"""

from __future__ import annotations


class PortcallError(Exception):
    """The root: `except PortcallError` catches what this package declares, and nothing accidental."""


class ModuleError(PortcallError):
    """A Wasm module that cannot be used. `offset` is in bytes from the module's start, None when unknown."""

    def __init__(self, message: str, offset: int | None = None, function: int | str | None = None) -> None:
        self.message, self.offset, self.function = message, offset, function
        where = "" if offset is None else f" at offset {offset:#x}"
        inside = "" if function is None else f" in function {function}"
        super().__init__(f"{message}{inside}{where}")


class MalformedModule(ModuleError):
    """The bytes are not a module (spec: Binary Format)."""


class InvalidModule(ModuleError):
    """The module does not validate (spec: Validation)."""


class UnsupportedFeature(ModuleError):
    """The module uses a feature that Portcall recognises and refuses; `feature` names it, `instead` says what to do."""

    def __init__(
        self, feature: str, function: int | str | None = None, offset: int | None = None, instead: str = ""
    ) -> None:
        super().__init__(f"not supported: {feature}{'; ' if instead else ''}{instead}", offset, function)
        self.feature = feature


class ModuleTooLarge(ModuleError):
    """The module is beyond one of `agents.wasm.bounds.Bounds`; the message names the bound."""


class FormatError(PortcallError):
    """Bytes that are not what they claim to be."""


class NotCanonical(FormatError):
    """Not deterministic CBOR (RFC 8949, section 4.2.1), or deeper or larger than allowed."""


class BadImage(FormatError):
    """Not an agent image, of another version, or one that contradicts itself."""


class BadSnapshot(FormatError):
    """Not a snapshot, of another version, or one that does not belong to its image."""


class BadRecord(FormatError):
    """Not the record of a run."""


class CredentialError(PortcallError):
    """A passport, trail or result that does not hold: `code` is stable and for programs, `reason` for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class MalformedCredential(CredentialError):
    """The bytes are not the statement they should be, or are beyond its bounds."""

    def __init__(self, reason: str) -> None:
        super().__init__("malformed", reason)


class CannotOpen(CredentialError):
    """Sealed bytes that this key does not open: `not-for-us` (another key) or `altered`."""


class EngineError(PortcallError):
    """An engine is not installed, or cannot take this module, with the reason."""


class ToolchainError(PortcallError):
    """A compiler does not take the source; the message has its own words, or says what to do."""


class ToolchainMissing(ToolchainError):
    """A compiler or interpreter is not installed, or not completely; the message says how to get it."""


class HostCallError(PortcallError):
    """Raised inside a host call and turned into an answer by the runtime; never leaves a run."""


class CallFailed(HostCallError):
    """The guest sees `errno` (a WASI number, above 0); `reason` is for people."""

    def __init__(self, errno: int, reason: str = "") -> None:
        super().__init__(f"errno {errno}: {reason}")
        self.errno, self.reason = errno, reason


class GuestFault(HostCallError):
    """The guest gave a pointer or length outside its memory; it sees EFAULT."""


class EndOfRun(HostCallError):
    """The agent ended itself with `exit_code` (`exit`, `proc_exit`)."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


class Diverged(PortcallError):
    """A replayed run asks for something else than the recorded one did, and says what."""


class RunStopped(PortcallError):
    """The agent's code cannot go on. The runtime makes an outcome of it; it never leaves a run."""


class WasmTrap(RunStopped):
    """The agent's code trapped; `code` is one word for programs, `reason` a sentence for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class LimitReached(RunStopped):
    """The agent wanted more than it is allowed; `what` is memory, table, stack, cpu or wall."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(reason)
        self.what, self.reason = what, reason
