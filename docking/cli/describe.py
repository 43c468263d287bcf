"""The contents of images, snapshots, capsules and modules as plain values, for `portcall inspect`.

Runs nothing and verifies nothing: signatures are the business of `portcall verify`. Invariant: the values are valid
JSON, and text output shows the same ones; reading raises only the project's errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agents import canonical
from agents.blocks import BLOCKS_PER_PAGE
from agents.capsule import CAPSULE_FORMAT, Capsule
from agents.credentials.keys import text_of
from agents.credentials.passport import Passport, verify_passport
from agents.demangle import readable
from agents.errors import FormatError
from agents.image import IMAGE_MAGICS, AgentImage, Manifest
from agents.outcomes import number
from agents.rewrite.floats import FLOATS_SECTION, floats
from agents.rewrite.metadata import Frame, Metadata, frame_values
from agents.rewrite.spilled import SPILLED_SECTION as SPILL
from agents.rewrite.spilled import spilled
from agents.snapshot import SNAPSHOT_MAGIC, MemoryRoot, Snapshot
from agents.stack import MAX_FRAMES, StackFrame, stack_of
from agents.stack.webassembly import MAX_VALUES, FunctionNames, imports_of, wasm_frames
from agents.waits import Wait, encode_wait
from agents.wasi.abi import DIRECTORY
from agents.wasi.file_blocks import ContentsElsewhere
from agents.wasi.state import WasiState
from agents.wasm.decode import WASM_MAGIC, custom_section, decode_module
from agents.wasm.names import Names, module_names
from agents.wasm.syntax import Module
from agents.wasm.text import print_function, print_module
from docking.cli.ways import shown_way

TYPE_NAMES = {"i": "i32", "I": "i64", "f": "f32", "F": "f64", "v": "v128", "r": "reference", "x": "exnref"}
Described = dict[str, Any]


class UnknownFile(FormatError):
    """The file has an unknown format."""


def describe(
    data: bytes, image: AgentImage | None = None, names: Callable[[], Mapping[str, str]] = dict[str, str]
) -> Described:
    """The contents of a file. `image`: the image of a snapshot, which has the names of its functions; `names()`: of
    stations, by their whole keys, for a capsule.

    Raises `UnknownFile`, or what reading the format raises.
    """
    if data.startswith(IMAGE_MAGICS):
        return describe_image(AgentImage.unpack(data))
    if data.startswith(SNAPSHOT_MAGIC):
        return describe_snapshot(Snapshot.decode(data), image)
    if data.startswith(WASM_MAGIC):
        return describe_module(data)
    # A capsule is CBOR: an array of three that begins with the name of the format.
    if data[:1] == b"\x83" and CAPSULE_FORMAT.encode() in data[:64]:
        return describe_capsule(Capsule.decode(data), names())
    raise UnknownFile(
        "this is no image, snapshot, capsule or WebAssembly module; portcall pack makes an image of a source"
    )


def describe_module(data: bytes) -> Described:
    """A module that was not packed."""
    return {"kind": "module", "bytes": len(data), "imports": imports(data)}


def describe_image(image: AgentImage) -> Described:
    """An image, with the functions that may be suspended, and its luggage."""
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
    if image.resumption is not None:
        digest = text_of(image.resumption_digest)
        described["resume module"] = {"bytes": len(image.resumption), "digest": digest}
    if metadata is not None:
        sites = [site for resume in metadata.resumes for site in resume.sites]
        polls = sum(site.kind == "poll" for site in sites)
        described["suspension"] = {
            "functions": len(metadata.resumes),
            "calls": len(sites) - polls,
            "polls": polls,
        }
    done = spilled(custom_section(image.code, SPILL))
    if done is not None:
        described["spilled pointers"] = {"functions": done.functions, "stores": done.stores, "bytes": done.room}
    about = floats(custom_section(image.code, FLOATS_SECTION))
    described["NaNs"] = "as each processor and engine makes them" if about.nans is None else "the same everywhere"
    if about.relaxed:
        described["relaxed instructions made exact"] = about.relaxed
    if image.luggage:
        described["luggage"] = {"bytes": len(image.luggage)}
        described["files"] = _files(_state(image.luggage, None))
    if image.started:
        described["started"] = {"bytes": len(image.started)}
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
        source = stack_of(image, snapshot)
        if source.language == "python" or source.note:
            described["python"] = source.value()
    described["stack"] = _stack(snapshot.frames[:MAX_FRAMES], image)
    described["frames"] = len(snapshot.frames)
    described["memories"] = [
        {"bytes": memory.pages * 65536, "changed": memory.size, "compressed": sum(map(len, memory.blocks))}
        for memory in snapshot.memories
    ]
    described["globals"] = [
        {"index": index, "type": TYPE_NAMES[letter], "value": _value(letter, bits)}
        for index, (letter, bits) in snapshot.globals.items()
    ]
    if snapshot.wasi:
        described["wasi"] = _wasi(snapshot.wasi, snapshot.files)
    return described


def describe_capsule(capsule: Capsule, names: Mapping[str, str]) -> Described:
    """A capsule: its owner, where it may go, how far it has come, and the snapshot inside."""
    passport = verify_passport(capsule.passport).body
    text, value = shown_way(passport.itinerary, names)
    described: Described = {
        "kind": "capsule",
        "agent": text_of(passport.agent),
        "passport": _passport(passport),
        "itinerary": text,
        "way": value,
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
    return [f"{entry.module}.{entry.name}" for entry in imports_of(code)]


def code_of(data: bytes, function: str) -> Iterator[str]:
    """The text of the functions with the name or index `function`, including their resume copies.

    `data` is an image or a module; "all" stands for the whole module. Raises `UnknownFile` if there is none.
    """
    if not data.startswith((WASM_MAGIC, *IMAGE_MAGICS)):
        raise UnknownFile("only an image or a .wasm has code to show; portcall pack makes an image of a source")
    image = AgentImage(Manifest(), data) if data.startswith(WASM_MAGIC) else AgentImage.unpack(data)
    module, metadata = decode_module(image.code), image.metadata
    resumption = None if image.resumption is None else decode_module(image.resumption)
    if function == "all":
        yield print_module(module).rstrip()
        if resumption is not None:
            yield print_module(resumption).rstrip()
        return
    names = module_names(module)
    imported = module.imported("func")
    wanted = [index for index in range(imported, len(module.func_type_indices)) if _is_called(index, function, names)]
    for index in wanted:
        yield print_function(module, index, names).rstrip()
    if resumption is not None and metadata is not None:
        for place, resume in enumerate(metadata.resumes, resumption.imported("func")):
            if resume.function in wanted:
                yield print_function(resumption, place, module_names(resumption), _linked(module, names)).rstrip()
    if not wanted:
        raise UnknownFile(f"there is no function {function!r} here; `--code all` shows all")


def _is_called(index: int, text: str, names: Names) -> bool:
    name = names.function(index) or ""
    return text in (str(index), name, readable(name)) and text != ""


def _linked(module: Module, names: Names) -> list[str | None]:
    """The names of the functions that the resume module calls, by their places in the link table."""
    export = module.exports_by_name.get("portcall.link")
    elem = next((elem for elem in module.elems if export is not None and elem.table == export.index), None)
    return [] if elem is None else [names.function(item[0].imm) for item in elem.items]


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
    names, shown = FunctionNames(image.code), wasm_frames(image, frames)
    return [_frame(frame, source, image.metadata, names) for frame, source in zip(frames, shown, strict=True)]


def _frame(frame: Frame, source: tuple[StackFrame, ...], metadata: Metadata, names: FunctionNames) -> Described:
    function = metadata.resumes[frame.resume].function
    site = metadata.site(frame.resume, frame.site)
    *inlined, itself = source
    described: Described = {**_place(itself), "site": frame.site, "kind": site.kind}
    if inlined:
        described["inlined"] = list(map(_place, inlined))
    if site.kind == "call":
        described["calls"] = "through a table" if site.callee is None else names.function(site.callee)
    described["values"] = [
        {
            "what": "operand" if info.local is None else names.local(function, info.local),
            "type": TYPE_NAMES[info.type],
            "value": value.hex() if isinstance(value, bytes) else _in_json(value),
        }
        for _, (info, value) in zip(range(MAX_VALUES), frame_values(site, frame), strict=False)
    ]
    return described


def _place(frame: StackFrame) -> Described:
    told = {"file": frame.file, "line": frame.line} if frame.file else {}
    return {"function": frame.function, **told}


def _value(letter: str, bits: int | None) -> object:
    """The bits of a global, for display; of a reference, its function's position or None."""
    return bits if bits is None or letter == "r" else _in_json(number(letter, bits))


def _in_json(value: int | float) -> int | float | str:
    """The value for JSON, which has no infinities and no NaN."""
    return value if math.isfinite(value) else str(value)


def _state(data: bytes, files: MemoryRoot | None) -> WasiState:
    value = canonical.decode(data, canonical.DecodeBounds(max_bytes=1 << 28, max_items=1_000_000))
    return WasiState.decode(value, contents=None if files is None else ContentsElsewhere(files.pages * BLOCKS_PER_PAGE))


def _files(state: WasiState) -> list[Described]:
    """The files of its luggage, by path."""
    files: list[Described] = []
    todo = [("", state.luggage.root)]
    while todo:
        path, node = todo.pop()
        for name, (_, child) in node.folder.entries.items() if node.folder is not None else ():
            if child.kind == DIRECTORY:
                todo.append((f"{path}/{name}", child))
            else:
                files.append({"path": f"{path}/{name}", "bytes": len(child.data)})
    return sorted(files, key=lambda file: str(file["path"]))


def _wasi(data: bytes, files: MemoryRoot | None) -> Described:
    state = _state(data, files)
    return {
        "arguments": [argument.decode(errors="replace") for argument in state.args],
        "environment": [entry.decode(errors="replace") for entry in state.environ],
        "files": _files(state),
        "open": " ".join(str(fd) for fd, _ in state.table),
        "elapsed_ms": state.elapsed_ns // 1_000_000,
    }


def _passport(passport: Passport) -> Described:
    return {
        "label": passport.label,
        "owner": passport.owner.text,
        "home": passport.home.station.text,
        "not_before_ms": passport.not_before,
        "expires_ms": passport.expires,
        "hops": passport.hops,
        "capabilities": list(passport.permit.capabilities),
    }
