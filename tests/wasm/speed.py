"""What decoding, validating and encoding a module costs.

python -m tests.wasm.speed FILE...        seconds of processor time per MB (10**6 bytes) of code section
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agents.wasm.decode import CODE, decode_module, sections
from agents.wasm.encode import encode_module
from agents.wasm.validate import validate_module

T = TypeVar("T")


def main() -> int:
    """The command."""
    for name in sys.argv[1:]:
        data = Path(name).read_bytes()
        size = sum(len(content) for ident, _, content in sections(data) if ident == CODE) / 1e6

        def timed(what: str, run: Callable[[], T], size: float = size) -> T:
            start = time.process_time()
            result = run()
            spent = time.process_time() - start
            print(f"  {what:9}{spent:7.2f} s {spent / size:7.2f} s/MB")
            return result

        print(f"{name}: {len(data) / 1e6:.2f} MB, {size:.2f} MB of code")
        module = timed("decode", lambda: decode_module(data))  # noqa: B023 - run at once
        timed("validate", lambda: validate_module(module))  # noqa: B023 - run at once
        timed("encode", lambda: encode_module(module))  # noqa: B023 - run at once
        print(f"  peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB of memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
