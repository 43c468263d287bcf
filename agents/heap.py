"""The heap size of an interpreter: MicroPython allocates its heap at the start, all at once, and never more.

So the size must be known before the agent starts, and must fit what the agent may have. It is an option on the
interpreter's command line, before the agent's own arguments. It is set when a script is packed
(`DEFAULT_HEAP_BYTES`); by an owner who says how much memory the agent may have (`sized`); and by a station that gives
less (`fitted`), since an interpreter that does not get its heap ends before the script begins. After the first
instruction none of this has any effect.

Not here: how a command line becomes a running interpreter. Other programs' command lines are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence

MIB = 1 << 20
DEFAULT_HEAP_BYTES = 16 * MIB
_PROGRAM, _OPTION, _NAME = b"micropython", b"-X", b"heapsize="
_UNIT = 1024


def option(size: int = DEFAULT_HEAP_BYTES) -> list[str]:
    """The command line words that ask for a heap of `size` bytes, rounded down to KiB."""
    return [_OPTION.decode(), f"{_NAME.decode()}{max(size // _UNIT, 1)}K"]


def heap_of(memory: int) -> int:
    """Bytes of heap for an agent that may have `memory` bytes; the rest is for data, stack and frames."""
    return max(memory - max(MIB, memory // 8), memory // 2)


def sized(args: Sequence[bytes], memory: int) -> list[bytes]:
    """The command line, with the heap that suits `memory` bytes if it asks for one."""
    return _with(args, heap_of(memory))


def fitted(args: Sequence[bytes], memory: int) -> list[bytes]:
    """The command line, with a heap that fits into `memory` bytes if it asks for a larger one."""
    return _with(args, min(_asked(args), heap_of(memory)))


def _asks(args: Sequence[bytes]) -> bool:
    return len(args) > 2 and args[0] == _PROGRAM and args[1] == _OPTION and args[2].startswith(_NAME)


def _asked(args: Sequence[bytes]) -> int:
    """Bytes; 0 if it does not ask for a heap in the form that `option` writes."""
    digits = args[2].removeprefix(_NAME).removesuffix(b"K") if _asks(args) else b""
    return int(digits) * _UNIT if digits.isdigit() and len(digits) < 12 else 0


def _with(args: Sequence[bytes], size: int) -> list[bytes]:
    if not _asked(args):
        return list(args)
    return [args[0], *(word.encode() for word in option(size)), *args[3:]]
