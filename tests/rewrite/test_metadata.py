"""The metadata and the frames: what our own code writes is read back, what others write is refused."""

from __future__ import annotations

import attrs
import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import canonical
from agents.errors import BadImage, BadSnapshot
from agents.rewrite import Options, rewrite
from agents.rewrite.metadata import (
    METADATA_SECTION,
    Frame,
    Metadata,
    decode_metadata,
    encode_metadata,
    frame_values,
    join_frames,
    split_frames,
)
from agents.wasm.decode import custom_section, decode_module
from agents.wasm.encode import encode_module
from tests.thorough import examples

from .programs import PROGRAMS


def _metadata(name: str) -> tuple[bytes, Metadata]:
    module = decode_module(bytes(wasmtime.wat2wasm(PROGRAMS[name][0])))
    section = custom_section(encode_module(rewrite(module, Options(polls="calls", suspending=None))), METADATA_SECTION)
    assert section is not None
    return section, decode_metadata(section)


SECTION_BYTES, METADATA = _metadata("exceptions held in locals and operands")


@pytest.mark.parametrize("name", PROGRAMS)
def test_metadata_is_read_back(name: str) -> None:
    data, metadata = _metadata(name)
    assert encode_metadata(metadata) == data
    assert metadata.resumes
    assert all(resume.sites for resume in metadata.resumes)


def _frames_for(resume: int, site: int, fill: int) -> Frame:
    layout = METADATA.site(resume, site).layout
    return Frame(resume, site, bytes([fill]) * (layout.size - 16))


def test_frames_are_read_back() -> None:
    frames = (_frames_for(0, 1, 7),)
    assert split_frames(METADATA, join_frames(METADATA, frames)) == frames
    values = list(frame_values(METADATA.site(0, 1), frames[0]))
    assert len(values) == len(METADATA.site(0, 1).layout.values)


@pytest.mark.parametrize(
    "damage",
    [
        lambda frame: attrs.evolve(frame, resume=len(METADATA.resumes)),
        lambda frame: attrs.evolve(frame, resume=1 << 31),
        lambda frame: attrs.evolve(frame, site=0),
        lambda frame: attrs.evolve(frame, site=999),
        lambda frame: attrs.evolve(frame, values=frame.values + b"\0"),
        lambda frame: attrs.evolve(frame, values=frame.values[:-1]) if frame.values else attrs.evolve(frame, site=-1),
    ],
)
def test_a_frame_that_is_not_the_images_is_refused(damage) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadSnapshot):
        join_frames(METADATA, (damage(_frames_for(0, 1, 0)),))


def test_a_frame_inside_a_poll_is_refused() -> None:
    poll = next(
        (r, s)
        for r, resume in enumerate(METADATA.resumes)
        for s, site in enumerate(resume.sites, 1)
        if site.kind == "poll"
    )
    inner = _frames_for(0, 1, 0)
    with pytest.raises(BadSnapshot, match="waits for nothing"):
        join_frames(METADATA, (inner, _frames_for(*poll, 0)))


@settings(max_examples=examples(100))
@given(data=st.data())
def test_damaged_frames_are_refused_or_frames(data: st.DataObject) -> None:
    good = bytearray(join_frames(METADATA, (_frames_for(0, 1, 1),)))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(good[: data.draw(st.integers(0, len(good)))])
    try:
        frames = split_frames(METADATA, cut)
    except BadSnapshot:
        return
    assert join_frames(METADATA, frames) == cut


@settings(max_examples=examples(100))
@given(data=st.data())
def test_damaged_metadata_is_refused_or_metadata(data: st.DataObject) -> None:
    good = bytearray(SECTION_BYTES)
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        metadata = decode_metadata(bytes(good))
    except BadImage:
        return
    assert decode_metadata(encode_metadata(metadata)) == metadata


def test_sites_without_any_results_to_name_are_refused() -> None:
    numbers = bytes([1, 0, 0, 0, 0, 0])  # a layout of nothing, and a site
    value = {**canonical.decode(SECTION_BYTES), "results": [], "resumes": [[0, "", numbers]]}
    with pytest.raises(BadImage):
        decode_metadata(canonical.encode(value))
