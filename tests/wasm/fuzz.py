"""Random and damaged modules against the decoder, the encoder and the validator, with the engine as the
judge.

    python -m tests.wasm.fuzz --seconds 60 [--seed N] [--spec] [--smith]

`--spec` starts from the specification's modules too, `--smith` from modules that `wasm-tools smith` makes.
What has to hold for any bytes at all is `examine`. A failure is written to `fuzz-failure.wasm`, with exit
status 1.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from agents.errors import InvalidModule, MalformedModule, ModuleError, UnsupportedFeature
from agents.wasm.bounds import ModuleBounds
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from agents.wasm.syntax import Module
from agents.wasm.validate import validate_module
from tests.fuzz.amount import Amount

from .generate import change, damage, random_module
from .tools import commands, engine_accepts, run_tool, spec_scripts, wasm_tools

BOUNDS = ModuleBounds(module=1 << 20, entries=10_000)
REFUSED_BY_SMITH = ("gc", "threads", "custom-page-sizes", "shared-everything-threads", "wide-arithmetic")
REFUSED_BY_SMITH += ("compact-imports", "custom-descriptors")


class Disagreement(AssertionError):
    """Something that has to hold does not."""


def examine(data: bytes, accepts: Callable[[bytes], bool] | None = None) -> str:
    """What came of `data`. Raises `Disagreement`, or whatever undeclared exception was met.

    `accepts` is an engine's judgement: where ours is "valid" or "invalid" it has to be the same.
    """
    try:
        module = decode_module(data, BOUNDS)
    except ModuleError as error:
        return _rejected(data, error, accepts)
    again = encode_module(module)
    second = decode_module(again)
    if encode_module(second) != again:
        raise Disagreement("encoding is not stable")
    if (module.funcs, module.elems, module.datas) != (second.funcs, second.elems, second.datas):
        raise Disagreement("decoding what was encoded gives another module")
    try:
        validate_module(module, BOUNDS)
    except ModuleError as error:
        return _rejected(data, error, accepts)
    if accepts is not None and not accepts(data):
        raise Disagreement("we accept what the engine rejects")
    return "valid"


def _rejected(data: bytes, error: ModuleError, accepts: Callable[[bytes], bool] | None) -> str:
    if error.offset is None:
        raise Disagreement(f"no offset: {error}")
    if error.offset is not None and not 0 <= error.offset <= len(data):
        raise Disagreement(f"an offset outside of the module: {error}")
    if isinstance(error, (MalformedModule, InvalidModule)) and accepts is not None and accepts(data):
        raise Disagreement(f"the engine accepts what we reject: {error}")
    if isinstance(error, UnsupportedFeature):
        return "refused"
    return {MalformedModule: "malformed", InvalidModule: "invalid"}.get(type(error), "too large")


def smith_module(rng: Random) -> bytes | None:
    """A valid module without refused features."""
    flags = [word for feature in REFUSED_BY_SMITH for word in (f"--{feature}-enabled", "false")]
    return run_tool("smith", *flags, data=rng.randbytes(rng.choice([200, 1000, 4000])))


def case(rng: Random, corpus: list[bytes], smith: bool) -> bytes:
    """The bytes of one try."""
    roll = rng.random()
    if roll < 0.05:
        return b"\0asm\1\0\0\0" + rng.randbytes(rng.randrange(60))
    if smith and roll < 0.1:
        made = smith_module(rng)
        if made is not None:
            corpus.append(made)
            return made
    if roll < 0.4:
        return encode_module(random_module(rng))
    base = rng.choice(corpus)
    if roll < 0.7:
        return damage(rng, base)
    try:
        module: Module = decode_module(base, BOUNDS)
    except ModuleError:
        return damage(rng, base)
    return encode_module(change(rng, module))


def spec_modules() -> list[bytes]:
    """Every module of the specification's scripts of at most 20 kB."""
    found: list[bytes] = []
    for script in spec_scripts():
        with tempfile.TemporaryDirectory() as scratch:
            found += [c.module for c in commands(script, Path(scratch)) if len(c.module) <= 20_000]
    return found


def run(
    rng: Random, corpus: list[bytes], smith: bool, amount: Amount, use_engine: bool = True
) -> collections.Counter[str]:
    """Try cases of that amount; how many came out as what. A failing case is saved, and its error raised."""
    counts: collections.Counter[str] = collections.Counter()
    corpus = corpus + [encode_module(random_module(rng)) for _ in range(20)]
    while amount.more():
        data = amount.give(case(rng, corpus, smith))
        try:
            outcome = examine(data, engine_accepts if use_engine else None)
        except BaseException:
            Path("fuzz-failure.wasm").write_bytes(data)
            raise
        counts[outcome] += 1
        if outcome == "valid" and len(corpus) < 20_000:
            corpus.append(data)
    return counts


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.wasm.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--bytes", type=int, default=0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--spec", action="store_true")
    parser.add_argument("--smith", action="store_true")
    args = parser.parse_args()
    if (args.spec or args.smith) and wasm_tools() is None:
        print("wasm-tools is not installed", file=sys.stderr)
        return 2
    seed = time.time_ns() if args.seed is None else args.seed
    print(f"seed {seed}")
    corpus = spec_modules() if args.spec else []
    amount = Amount(args.seconds, args.bytes)
    try:
        counts = run(Random(seed), corpus, args.smith, amount)
    except Exception as error:
        print(f"fuzz-failure.wasm: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"{amount.given} bytes, " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
