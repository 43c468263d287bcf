"""How the engine is set up; and, run as a program, the process that compiles one module for another process.

Standard input: a line of JSON, then the module. Standard output: nanoseconds of processor time (8 bytes, the least
first), then the compiled module. A module that is refused ends it
with `REFUSED` and the reason on the error output; a limit that is reached ends it by a signal. It imports nothing but
wasmtime, so that it begins soon.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import wasmtime

REFUSED = 3
MEMORY_RESERVATION = 4 << 30  # bytes of address space for each memory: up to this size it does not move


def configured(interruptible: bool, stack: int, *, parallel: bool) -> wasmtime.Engine:
    """An engine with everything that Portcall supports switched on, and everything else switched off or limited.

    `parallel`: it compiles in threads of its own, whose time is not the caller's.
    """
    import wasmtime

    config = wasmtime.Config()
    config.epoch_interruption = interruptible
    # It has to be the smaller of the two, although nothing here runs on stacks of its own.
    wasmtime._ffi.wasmtime_config_async_stack_size_set(config.ptr(), max(2 * stack, 2 << 20))
    config.max_wasm_stack = stack
    for feature in ("exceptions", "multi_memory", "memory64", "tail_call", "function_references"):
        setattr(config, f"wasm_{feature}", True)
    config.wasm_gc = True  # function references need it; the decoder refuses GC types
    # One result on every processor; programs without such instructions are compiled as they were.
    wasmtime._ffi.wasmtime_config_wasm_relaxed_simd_deterministic_set(config.ptr(), True)
    config.memory_reservation = MEMORY_RESERVATION
    config.cranelift_opt_level = "speed"
    config.parallel_compilation = parallel
    return wasmtime.Engine(config)


def _limit(cpu_s: float, memory: int) -> None:
    import resource

    # By the timer, since the limit counts whole seconds; by the limit too, which nothing can unset.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, max(cpu_s, 1e-3))
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s) + 2, int(cpu_s) + 2))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)  # agents and the station come first


def _main() -> int:
    order = json.loads(sys.stdin.buffer.readline())
    code = sys.stdin.buffer.read()
    sys.path[:] = order["path"]
    import wasmtime

    if sys.platform != "win32":
        _limit(order["cpu_s"], order["memory"])
    try:
        engine = configured(order["interruptible"], order["stack"], parallel=True)
        began = time.process_time_ns()
        compiled = wasmtime.Module(engine, code).serialize()
    except wasmtime.WasmtimeError as error:
        sys.stderr.write(str(error)[:4000])
        return REFUSED
    sys.stdout.buffer.write((time.process_time_ns() - began).to_bytes(8, "little"))
    sys.stdout.buffer.write(compiled)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    os._exit(_main())  # nothing is to be taken down, and that takes long
