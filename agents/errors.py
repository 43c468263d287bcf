"""The exceptions of `agents`. Every error that this package declares is below `PortcallError`.

    PortcallError
    ├── ModuleError                a Wasm module that cannot be used
    │   ├── MalformedModule        its bytes are not a module
    │   ├── InvalidModule          it does not validate
    │   ├── UnsupportedFeature     it uses a feature that Portcall refuses, by name
    │   └── ModuleTooLarge         it exceeds a bound that stops resource attacks
    ├── FormatError                bytes that are not what they claim to be
    │   ├── NotCanonical           not deterministic CBOR, or beyond its bounds
    │   ├── BadImage
    │   ├── BadSnapshot
    │   ├── BadRecord              not the record of a run
    │   └── Unreadable             a frozen memory that is not as its interpreter leaves it
    ├── CredentialError            a signed statement that does not verify: a code and a sentence
    │   ├── MalformedCredential    its bytes are not such a statement
    │   └── CannotOpen             sealed for another key, or altered on the way
    ├── WayError                   a text that describes no way for an agent; it shows the place
    ├── ToolchainError             an author's compiler rejects the source
    │   └── ToolchainMissing       it is not installed, or not completely
    ├── EngineError                an engine is missing, or cannot run this module
    │   ├── EngineLost             the process of an engine has ended, and with it what ran there
    │   └── MemoryMissing          a run was given up, since the rest of its memory does not come
    ├── HostCallError              raised inside a host call; never leaves a run
    │   ├── CallFailed             the guest sees an errno
    │   ├── GuestFault             the guest passed a pointer outside its memory
    │   └── EndOfRun               the agent ended itself
    ├── Diverged                   a replayed run departs from the record
    └── RunStopped                 raised by an engine; becomes an outcome of the run
        ├── WasmTrap               the agent's code trapped
        └── LimitReached           the agent wanted more than it is allowed

A trap, a used-up budget or a refusal is not an error: it is an outcome of `agents.run`, a value.
"""

from __future__ import annotations

from unicodedata import combining, east_asian_width

SHOWN_CHARS = 60  # characters before and after the place of a mistake
NAME_CHARS = 200  # characters of a function's name: C++ names are long, and names from strangers can be anything


class PortcallError(Exception):
    """The root: `except PortcallError` catches what this package declares, and nothing else."""


class ModuleError(PortcallError):
    """A Wasm module that cannot be used. `offset`: bytes from the module's start, None if unknown."""

    def __init__(self, message: str, offset: int | None = None, function: int | str | None = None) -> None:
        self.message, self.offset, self.function = message, offset, function
        super().__init__(self._sentence(""))

    def name(self, called: str) -> None:
        """Add the function's name to the message, for people; a long name is cut."""
        shown = "".join(c if c.isprintable() else "?" for c in called[:NAME_CHARS])
        self.args = (self._sentence(f" (${shown})"),)

    def _sentence(self, called: str) -> str:
        where = "" if self.offset is None else f" at offset {self.offset:#x}"
        inside = "" if self.function is None else f" in function {self.function}{called}"
        return f"{self.message}{inside}{where}"


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
    """The module exceeds one of `agents.wasm.bounds.ModuleBounds`; the message names the bound."""


class FormatError(PortcallError):
    """Bytes that are not what they claim to be."""


class NotCanonical(FormatError):
    """Not deterministic CBOR (RFC 8949, section 4.2.1), or deeper or larger than allowed."""


class BadImage(FormatError):
    """Not an agent image, an image of another version, or one that contradicts itself."""


class BadSnapshot(FormatError):
    """Not a snapshot, a snapshot of another version, or one that does not belong to its image."""


class CannotUpgrade(PortcallError):
    """A frozen agent cannot go on with another module. `problems`: what is in the way, a sentence each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class BadDwarf(FormatError):
    """Debug information that cannot be read, or not within bounds."""


class BadRecord(FormatError):
    """Not the record of a run."""


class Unreadable(FormatError):
    """What lies in the memory of a frozen agent is not what its interpreter keeps there, or too much of it."""


class CredentialError(PortcallError):
    """A passport, trail or result that does not verify: `code` is stable and for programs, `reason` for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class MalformedCredential(CredentialError):
    """The bytes are not the expected statement, or exceed its bounds."""

    def __init__(self, reason: str) -> None:
        super().__init__("malformed", reason)


class CannotOpen(CredentialError):
    """Sealed bytes that this key does not open: `not-for-us` (another key) or `altered`."""


class WayError(PortcallError):
    """A text that does not describe where an agent may go. `reason`: a sentence; `at`: where, in characters, or None.

    The message shows the text, and a caret below the place.
    """

    def __init__(self, reason: str, text: str, at: int | None = None) -> None:
        super().__init__(f"the way is not understood: {reason}{_pointed(text, at)}")
        self.reason, self.text, self.at = reason, text, at


def _pointed(text: str, at: int | None) -> str:
    """The text around a place, and a caret below it, each on a line of its own."""
    if at is None:
        return ""
    begin = max(at - SHOWN_CHARS, 0)
    end = at + SHOWN_CHARS
    head, tail = "..." if begin else "", "..." if end < len(text) else ""
    before = head + "".join(c if c.isprintable() else "?" for c in text[begin:at])
    after = "".join(c if c.isprintable() else "?" for c in text[at:end])
    # Wide characters take two columns, those that combine with the one before none.
    columns = sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in before)
    return f"\n  {before}{after}{tail}\n  {' ' * columns}^"


class EngineError(PortcallError):
    """An engine is not installed, or cannot run this module; the message gives the reason."""


class EngineLost(EngineError):
    """The process of an engine has ended: what ran there since its last snapshot is lost."""


class MemoryMissing(EngineError):
    """A run was given up because pages of its memory do not come: what it did since says nothing about the agent."""

    def __init__(self) -> None:
        super().__init__("the run was given up: the rest of the agent's memory has not come")


class CompilingTooCostly(EngineError):
    """Compiling a module takes more than it may. `what`: `cpu` or `memory`; `reason`: a sentence."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(reason)
        self.what, self.reason = what, reason


class ToolchainError(PortcallError):
    """A compiler rejects the source; the message has the compiler's own words, or says what to do."""


class ToolchainMissing(ToolchainError):
    """A compiler or interpreter is not installed, or not completely; the message says how to get it."""


class HostCallError(PortcallError):
    """Raised inside a host call; the runtime turns it into an answer. Never leaves a run."""


class CallFailed(HostCallError):
    """The guest sees `errno` (a WASI number, above 0); `reason` is for people."""

    def __init__(self, errno: int, reason: str = "") -> None:
        super().__init__(f"errno {errno}: {reason}")
        self.errno, self.reason = errno, reason


class GuestFault(HostCallError):
    """The guest passed a pointer or length outside its memory; it sees EFAULT."""


class EndOfRun(HostCallError):
    """The agent ended itself with `exit_code` (`exit`, `proc_exit`)."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


class Diverged(PortcallError):
    """A replayed run asks for something other than the recorded one did; the message says what."""


class RunStopped(PortcallError):
    """The agent's code cannot go on. The runtime turns it into an outcome; it never leaves a run."""


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
