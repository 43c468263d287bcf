"""The oracle: whatever is suspended, captured, restored and resumed gives what the undisturbed run gives.

Each is a part of the test suite, and a command that goes on for as long as it may:

    python -m tests.oracle.spec_scripts [--everywhere]    the specification's scripts, rewritten
    python -m tests.oracle.generated                      modules that wasm-smith makes
    python -m tests.oracle.journeys                       C programs and MicroPython scripts, on the ABI alone
    python -m tests.oracle.through_runtime                the same through pack, run and the virtual WASI
    python -m tests.oracle.every [--all]                  all of these and the examples, as `portcall run --hop-every 1`
"""
