"""What a file says, as plain values: images, snapshots, capsules and modules, for `portcall inspect`.

Nothing is run and nothing is believed: signatures are `portcall verify`'s business. Invariant: the values are
those that JSON knows, and the same that the text output shows; reading raises only the project's errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from agents import canonical
from agents.capsule import FORMAT, Capsule
from agents.credentials.keys import text_of
from agents.credentials.passport import Passport, verify_passport
from agents.errors import FormatError, ModuleError
from agents.image import IMAGE, PACKED, AgentImage
from agents.outcomes import number
from agents.rewrite.metadata import Frame, Metadata, frame_values
from agents.snapshot import MAGIC, Snapshot
from agents.waits import Wait, encode_wait
from agents.wasi.abi import DIRECTORY
from agents.wasi.state import WasiState
from agents.wasm.decode import custom_section, decode_module, sections
from agents.wasm.encode import unsigned
from agents.wasm.names import Names, decode_names, module_names
from agents.wasm.syntax import Import, ImportFunc
from agents.wasm.text import print_function, print_module

MODULE = b"\0asm"
TYPE, IMPORT = 1, 2  # ids of sections
NUMBERS = {"i": "i32", "I": "i64", "f": "f32", "F": "f64", "v": "v128", "r": "reference", "x": "exnref"}
VALUES_MAX = 1000  # of one frame that are shown; a hostile image could claim millions
FRAMES_MAX = 10_000  # of one stack that are shown
Described = dict[str, Any]


class UnknownFile(FormatError):
    """The file is none of those that are known here."""


def describe(data: bytes, image: AgentImage | None = None) -> Described:
    """What the bytes of a file say. `image` is that of a snapshot; it knows the names of its functions.

    Raises `UnknownFile`, or what reading the format raises.
    """
    if data.startswith((IMAGE, PACKED)):
        return describe_image(AgentImage.unpack(data))
    if data.startswith(MAGIC):
        return describe_snapshot(Snapshot.decode(data), image)
    if data.startswith(MODULE):
        return describe_module(data)
    # A capsule is CBOR: an array of three that begins with the name of the format.
    if data[:1] == b"\x83" and FORMAT.encode() in data[:64]:
        return describe_capsule(Capsule.decode(data))
    raise UnknownFile(
        "this is no image, snapshot, capsule or WebAssembly module; portcall pack makes an image of a source"
    )


def describe_module(data: bytes) -> Described:
    """A module that was not packed."""
    return {"kind": "module", "bytes": len(data), "imports": imports(data)}


def describe_image(image: AgentImage) -> Described:
    """An image, with what may be suspended in it, and its luggage."""
    manifest, metadata = image.manifest, image.metadata
    described: Described = {
        "kind": "image",
        "digest": text_of(image.digest),
        "name": manifest.name,
        "language": manifest.language,
        "entry": manifest.entry,
        "profile": manifest.profile,
        "polls": manifest.polls,
        "abi": manifest.abi,
        "code": {"bytes": len(image.code), "digest": text_of(image.code_digest)},
        "imports": imports(image.code),
    }
    if metadata is not None:
        sites = [site for resume in metadata.resumes for site in resume.sites]
        polls = sum(site.kind == "poll" for site in sites)
        described["suspension"] = {
            "functions": len(metadata.resumes),
            "calls": len(sites) - polls,
            "polls": polls,
        }
    if image.luggage:
        described["luggage"] = {"bytes": len(image.luggage)}
    return described


def describe_snapshot(snapshot: Snapshot, image: AgentImage | None) -> Described:
    """A frozen agent: what it waits for, its stack, its memories, its virtual WASI."""
    described: Described = {
        "kind": "snapshot",
        "image": text_of(snapshot.image),
        "entry": snapshot.entry,
        "stage": {"new": "not begun", "start": "in its start function", "run": "running"}[snapshot.stage],
        "waits": _waits(snapshot),
    }
    if image is not None:
        snapshot.check(image)
    described["stack"] = _stack(snapshot.frames[:FRAMES_MAX], image)
    described["frames"] = len(snapshot.frames)
    described["memories"] = [
        {"bytes": memory.pages * 65536, "changed": memory.size, "compressed": sum(map(len, memory.blocks))}
        for memory in snapshot.memories
    ]
    described["globals"] = [
        {"index": index, "type": NUMBERS[letter], "value": _value(letter, bits)}
        for index, (letter, bits) in snapshot.globals.items()
    ]
    if snapshot.wasi:
        described["wasi"] = _wasi(snapshot.wasi)
    return described


def describe_capsule(capsule: Capsule) -> Described:
    """A capsule: whose it is, where it may go, how far it came, and the snapshot inside."""
    passport = verify_passport(capsule.passport).body
    described: Described = {
        "kind": "capsule",
        "agent": text_of(passport.agent),
        "passport": _passport(passport),
        "trail": {"links": capsule.trail.start + len(capsule.trail.links), "here": len(capsule.trail.links)},
        "results": len(capsule.results.value()),
        "image": text_of(capsule.image),
        "state": text_of(capsule.state),
    }
    image = None if capsule.image_bytes is None else AgentImage.decode(capsule.image_bytes)
    if capsule.state_bytes is not None:
        described["snapshot"] = describe_snapshot(Snapshot.decode(capsule.state_bytes), image)
    return described


def imports(code: bytes) -> list[str]:
    """`module.name` of each import. Raises `ModuleError`."""
    return [f"{entry.module}.{entry.name}" for entry in _imports(code)]


def _imports(code: bytes) -> tuple[Import, ...]:
    """The imports, read without looking at the code: as those of a module that has nothing else."""
    head = b"\0asm\1\0\0\0"
    for section, _, payload in sections(code):
        if section in (TYPE, IMPORT):
            head += bytes([section]) + unsigned(len(payload)) + bytes(payload)
    return decode_module(head).imports


def function_names(code: bytes) -> tuple[list[str], Names]:
    """Names of the imported functions, by index, and the name section. Raises `ModuleError`."""
    names = Names()
    payload = custom_section(code, "name")
    # One that does not decode is ignored (spec, appendix A.7).
    with suppress(ModuleError):
        names = decode_names(payload or b"")
    imported = [f"{e.module}.{e.name}" for e in _imports(code) if isinstance(e.desc, ImportFunc)]
    return imported, names


def code_of(data: bytes, function: str) -> Iterator[str]:
    """The text of the functions that are called `function`, or have this index, resume copies included.

    `data` is an image or a module; "all" stands for the whole module. Raises `UnknownFile` when there is none.
    """
    if not data.startswith((MODULE, IMAGE, PACKED)):
        raise UnknownFile("only an image or a .wasm has code to show; portcall pack makes an image of a source")
    code = data if data.startswith(MODULE) else AgentImage.unpack(data).code
    module = decode_module(code)
    if function == "all":
        yield print_module(module).rstrip()
        return
    names = module_names(module)
    imported = module.imported("func")
    found = False
    for index in range(imported, imported + len(module.funcs)):
        name = names.function(index) or str(index)
        if function in (str(index), name, name.removesuffix(" (resumed)")):
            found = True
            yield print_function(module, index, names).rstrip()
    if not found:
        raise UnknownFile(f"there is no function {function!r} here; `--code all` shows all")


def _waits(snapshot: Snapshot) -> Described | None:
    pending = snapshot.pending
    if pending is None:
        return None
    described: Described = {"in": f"{pending.module}.{pending.name}", "arguments": list(pending.args)}
    if pending.wait is not None:
        described |= _wait(pending.wait)
    return described


def _wait(wait: Wait) -> Described:
    name, *fields = encode_wait(wait)
    shown = [f"{len(field)} bytes" if isinstance(field, bytes) else field for field in fields]
    return {"for": name, "with": shown}


def _stack(frames: tuple[Frame, ...], image: AgentImage | None) -> list[Described]:
    if image is None or image.metadata is None:
        return [{"function": f.resume, "site": f.site, "bytes": len(f.values)} for f in frames]
    imported, names = function_names(image.code)
    return [_frame(frame, image.metadata, imported, names) for frame in frames]


def _frame(frame: Frame, metadata: Metadata, imported: list[str], names: Names) -> Described:
    resume = metadata.resumes[frame.resume]
    site = metadata.site(frame.resume, frame.site)
    local_names: Mapping[int, str] = names.locals.get(resume.function, {})
    described: Described = {
        "function": _function(resume.function, imported, names),
        "site": frame.site,
        "kind": site.kind,
    }
    if site.kind == "call":
        callee = site.callee
        described["calls"] = "through a table" if callee is None else _function(callee, imported, names)
    described["values"] = [
        {
            "what": "operand" if info.local is None else local_names.get(info.local, f"local {info.local}"),
            "type": NUMBERS[info.type],
            "value": value.hex() if isinstance(value, bytes) else _in_json(value),
        }
        for _, (info, value) in zip(range(VALUES_MAX), frame_values(site, frame), strict=False)
    ]
    return described


def _function(index: int, imported: list[str], names: Names) -> str:
    if index < len(imported):
        return imported[index]
    return names.function(index) or f"function {index}"


def _value(letter: str, bits: int | None) -> object:
    """The bits of a global, for people; of a reference, its function's position or None."""
    return bits if bits is None or letter == "r" else _in_json(number(letter, bits))


def _in_json(value: int | float) -> int | float | str:
    """JSON has no numbers for infinities and what is not a number."""
    return value if math.isfinite(value) else str(value)


def _wasi(data: bytes) -> Described:
    state = WasiState.decode(canonical.decode(data, canonical.Bounds(max_bytes=1 << 28, max_items=1_000_000)))
    files = []
    todo = [("", state.luggage.root)]
    while todo:
        path, node = todo.pop()
        for name, (_, child) in node.folder.entries.items() if node.folder is not None else ():
            if child.kind == DIRECTORY:
                todo.append((f"{path}/{name}", child))
            else:
                files.append({"path": f"{path}/{name}", "bytes": len(child.data)})
    return {
        "arguments": [argument.decode(errors="replace") for argument in state.args],
        "environment": [entry.decode(errors="replace") for entry in state.environ],
        "files": sorted(files, key=lambda file: str(file["path"])),
        "open": " ".join(str(fd) for fd, _ in state.table),
        "elapsed_ms": state.elapsed // 1_000_000,
    }


def _passport(passport: Passport) -> Described:
    return {
        "label": passport.label,
        "owner": passport.owner.text,
        "home": passport.home.station.text,
        "not_before_ms": passport.not_before,
        "expires_ms": passport.expires,
        "itinerary": str(passport.itinerary),
        "hops": passport.hops,
        "capabilities": list(passport.permit.capabilities),
    }
