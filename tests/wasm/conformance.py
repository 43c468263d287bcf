"""How `agents.wasm` judges every binary module of the specification's scripts.

    python -m tests.wasm.conformance        a table, and exit status 1 when anything failed

A valid module has to pass the validator and come back from the encoder as the same bytes, or as a module
that decodes to the same and that the engine judges the same. An invalid or malformed one has to be rejected.
A module that needs a refused feature has to be refused by that name.
"""

from __future__ import annotations

import collections
import sys
import tempfile
from pathlib import Path

import attrs

from agents.errors import InvalidModule, MalformedModule, UnsupportedFeature
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from agents.wasm.validate import validate_module

from .tools import Command, commands, engine_accepts, spec_folder, spec_scripts, wasm_tools

WRONG = ("assert_malformed", "assert_invalid")


@attrs.frozen
class Verdict:
    """`outcome` is "passed", "refused" or "failed"; `what` says more."""

    command: Command
    outcome: str
    what: str


def judge(command: Command) -> Verdict:
    """Decode, validate, encode and compare. Any exception but the three declared ones is the caller's to
    see.
    """
    wrong = command.kind in WRONG
    try:
        module = decode_module(command.module)
        validate_module(module)
    except (MalformedModule, InvalidModule) as error:
        if error.offset is None:
            return Verdict(command, "failed", f"no offset: {error}")
        return Verdict(command, "passed" if wrong else "failed", str(error))
    except UnsupportedFeature as error:
        return Verdict(command, "refused" if error.offset is not None else "failed", error.feature)
    if wrong:
        return Verdict(command, "failed", "accepted")
    again = encode_module(module)
    if again == command.module:
        return Verdict(command, "passed", "same bytes")
    if encode_module(decode_module(again)) != again:
        return Verdict(command, "failed", "not the same after a second round")
    if engine_accepts(again) != engine_accepts(command.module):
        return Verdict(command, "failed", "the engine judges the encoded module otherwise")
    return Verdict(command, "passed", "other bytes, same judgement")


def judge_script(script: Path, folder: Path) -> list[Verdict]:
    """The verdicts on one script."""
    return [judge(command) for command in commands(script, folder)]


def main() -> int:
    """Judge every script and print how many of each."""
    if not spec_scripts() or wasm_tools() is None:
        print("the specification's scripts or wasm-tools are absent", file=sys.stderr)
        return 2
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    features: collections.Counter[str] = collections.Counter()
    folder = spec_folder()
    assert folder is not None
    for script in spec_scripts():
        with tempfile.TemporaryDirectory() as scratch:
            for verdict in judge_script(script, Path(scratch)):
                counts[verdict.command.kind, verdict.outcome] += 1
                if verdict.outcome == "refused":
                    features[verdict.what] += 1
                if verdict.outcome == "failed":
                    print(f"{script.relative_to(folder)}:{verdict.command.line}: {verdict.what}")
    kinds = sorted({kind for kind, _ in counts})
    print(f"{'':24}{'passed':>8}{'refused':>8}{'failed':>8}")
    for kind in kinds:
        print(f"{kind:24}" + "".join(f"{counts[kind, o]:8}" for o in ("passed", "refused", "failed")))
    totals = [sum(counts[kind, o] for kind in kinds) for o in ("passed", "refused", "failed")]
    print(f"{'all':24}" + "".join(f"{total:8}" for total in totals))
    for feature, count in features.most_common():
        print(f"refused {count:4}  {feature}")
    return 1 if totals[2] else 0


if __name__ == "__main__":
    sys.exit(main())
