"""The stack of a frozen agent in a compiled language: the lines at which its functions are, to the line."""

from __future__ import annotations

from pathlib import Path

import pytest

import agents
from agents.errors import ToolchainMissing
from agents.image import AgentImage
from agents.outcomes import Waiting
from agents.sdk.sources import load_image
from agents.snapshot import Snapshot
from agents.stack import stack_of
from tests.patience import PATIENCE
from tests.sdk.languages import missing

PROGRAMS = {
    "beach.c": """#include <portcall.h>
static int total;
static inline __attribute__((always_inline)) int rest(int n) {
    return portcall_sleep(n);  /* SUSPENDED */
}
__attribute__((noinline)) static int visit(int depth) {
    if (depth > 0)
        return total += visit(depth - 1) + 1;  /* NESTED */
    return rest(1000) + total;  /* INLINED */
}
int main(int argc, char **argv) {
    int found = visit(2);  /* CALLED */
    total += found;
    return total;
}
""",
    "beach.rs": """use std::sync::atomic::{AtomicI32, Ordering};
static TOTAL: AtomicI32 = AtomicI32::new(0);

#[inline(always)]
fn rest(n: u64) -> i32 {
    let _ = portcall::sleep(std::time::Duration::from_secs(n)); // SUSPENDED
    TOTAL.load(Ordering::Relaxed)
}

#[inline(never)]
fn visit(depth: i32) -> i32 {
    if depth > 0 {
        let found = visit(depth - 1); // NESTED
        TOTAL.fetch_add(found, Ordering::Relaxed);
    }
    if depth == 0 {
        TOTAL.fetch_add(rest(1000), Ordering::Relaxed); // INLINED
    }
    TOTAL.load(Ordering::Relaxed)
}

fn main() {
    let found = visit(2); // CALLED
    std::process::exit(found);
}
""",
    "beach.zig": """const portcall = @import("portcall");
var total: i32 = 0;

inline fn rest(n: u64) void {
    portcall.sleep(n) catch {}; // SUSPENDED
    total += 1;
}

noinline fn visit(depth: i32) i32 {
    if (depth > 0) {
        total += visit(depth - 1); // NESTED
        return total;
    }
    rest(1000); // INLINED
    return total;
}

pub fn main() void {
    const found = visit(2); // CALLED
    portcall.exit(@intCast(found));
}
""",
}
LOOP = """static volatile int sink;
int main(int argc, char **argv) {
    int i = 0;
    while (i < 1000)
        sink += i++;  /* LOOP */
    return sink;
}
"""


def packed(name: str, source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AgentImage:
    monkeypatch.setattr("agents.sdk.toolchains.COMPILE_TIMEOUT_S", PATIENCE)
    (folder / name).write_text(source)
    try:
        return load_image(folder / name)
    except ToolchainMissing as reason:
        missing(reason)
        raise


def marked(source: str, mark: str) -> int:
    """The number of the line with a mark."""
    return next(number for number, line in enumerate(source.splitlines(), 1) if line.rstrip(" */").endswith(mark))


@pytest.mark.parametrize("name", PROGRAMS)
def test_nested_and_inlined_calls_are_at_their_lines(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PROGRAMS[name]
    image = packed(name, source, tmp_path, monkeypatch)
    outcome = agents.run(image)
    assert isinstance(outcome, Waiting)
    frames = [frame for frame in stack_of(image, outcome.snapshot).frames if frame.file == name]
    found = [(frame.function.replace("::", ".").rpartition(".")[2], frame.line) for frame in frames]
    expected = [
        ("rest", "SUSPENDED"),
        ("visit", "INLINED"),
        ("visit", "NESTED"),
        ("visit", "NESTED"),
        ("main", "CALLED"),
    ]
    assert found == [(function, marked(source, mark)) for function, mark in expected]


def test_a_loop_is_at_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = packed("loop.c", LOOP, tmp_path, monkeypatch)
    taken: list[bytes] = []
    agents.run(image, hop_every=1, hops=20, on_hop=taken.append)
    inner = [stack_of(image, Snapshot.decode(each)).frames[0] for each in taken]
    lines = {frame.line for frame in inner if frame.function == "main"}
    assert lines == {marked(LOOP, "LOOP")}
