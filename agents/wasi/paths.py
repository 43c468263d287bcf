"""Guest paths: from bytes to names, with every bound and refusal that does not depend on a file system.

This looks at no file. Invariant: a `Route` holds only names that are not empty, hold neither '/' nor NUL, are
at most `Limits.name_bytes` of UTF-8, and are relative: an absolute path never becomes a route.
"""

from __future__ import annotations

import attrs

from agents.errors import CallFailed

from .abi import EILSEQ, EINVAL, ENAMETOOLONG, ENOENT, EPERM
from .limits import Limits


@attrs.frozen
class Route:
    """The names of a relative path; `directory` when it ended in a slash or a dot.

    `names` may hold '..', and ends in '.' when the path did; whoever walks the route must not pass above the
    directory where it starts.
    """

    names: tuple[str, ...]
    directory: bool = False


def parse(raw: bytes, limits: Limits) -> Route:
    """The route that the guest's bytes name.

    Raises `CallFailed`: EILSEQ (not UTF-8), ENOENT (empty), EPERM (absolute), EINVAL (NUL), ENAMETOOLONG.
    """
    if len(raw) > limits.path_bytes:
        raise CallFailed(ENAMETOOLONG, f"a path of {len(raw)} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise CallFailed(EILSEQ, "a path that is not UTF-8") from None
    return parse_text(text, limits)


def parse_text(text: str, limits: Limits) -> Route:
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
        names += (".",)  # where nothing is, 'new/.' is nothing that can be made
    if len(names) > limits.depth:
        raise CallFailed(ENAMETOOLONG, f"a path of {len(names)} names")
    longest = limits.name_bytes
    for name in names:
        if len(name) > longest or (not name.isascii() and len(name.encode()) > longest):
            raise CallFailed(ENAMETOOLONG, f"a name of more than {longest} bytes")
    return Route(names, last in ("", ".", ".."))


def valid_name(name: object, limits: Limits) -> bool:
    """Whether a name that came in a snapshot could have been made by a guest."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        return False
    try:
        return len(name.encode()) <= limits.name_bytes
    except UnicodeEncodeError:
        return False
