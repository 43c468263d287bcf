"""Guest paths: from bytes to names, with every bound and refusal that does not depend on a file system.

It looks at no file. Invariant: a `Route` holds only names that are not empty, contain neither '/' nor NUL, and are
at most `WasiLimits.name_bytes` of UTF-8. It is relative: an absolute path never becomes a route.
"""

from __future__ import annotations

import attrs

from agents.brief import brief
from agents.errors import CallFailed

from .abi import EILSEQ, EINVAL, ENAMETOOLONG, ENOENT, EPERM
from .limits import WasiLimits


@attrs.frozen
class Route:
    """The names of a relative path; `directory`: it ended in a slash or a dot.

    `names` may contain '..', and ends in '.' if the path did; whoever walks the route must not go above the
    directory where it starts.
    """

    names: tuple[str, ...] = attrs.field(repr=brief)
    directory: bool = False


def parse(raw: bytes, limits: WasiLimits) -> Route:
    """The route in the guest's bytes.

    Raises `CallFailed`: EILSEQ (not UTF-8), ENOENT (empty), EPERM (absolute), EINVAL (NUL), ENAMETOOLONG.
    """
    if len(raw) > limits.path_bytes:
        raise CallFailed(ENAMETOOLONG, f"a path of {len(raw)} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise CallFailed(EILSEQ, "a path that is not UTF-8") from None
    return parse_text(text, limits)


def parse_text(text: str, limits: WasiLimits) -> Route:
    """The same for text, such as that of a symbolic link."""
    if not text:
        raise CallFailed(ENOENT, "an empty path")
    if "\0" in text:
        raise CallFailed(EINVAL, "a path with a NUL in it")
    if text[0] == "/":
        raise CallFailed(EPERM, "an absolute path")
    parts = text.split("/")
    last = parts[-1]
    names = tuple([part for part in parts if part and part != "."])
    if last == ".":
        names += (".",)  # if nothing is there, 'new/.' is not something that can be created
    if len(names) > limits.depth:
        raise CallFailed(ENAMETOOLONG, f"a path of {len(names)} names")
    longest = limits.name_bytes
    for name in names:
        if len(name) > longest or (not name.isascii() and len(name.encode()) > longest):
            raise CallFailed(ENAMETOOLONG, f"a name of more than {longest} bytes")
    return Route(names, last in ("", ".", ".."))


def valid_name(name: object, limits: WasiLimits) -> bool:
    """Whether a guest could have created this name, which came in a snapshot."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        return False
    try:
        return len(name.encode()) <= limits.name_bytes
    except UnicodeEncodeError:
        return False
