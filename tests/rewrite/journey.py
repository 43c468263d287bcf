"""Run a module undisturbed and as a traveller that hops at every opportunity, and compare."""

from __future__ import annotations

from typing import Any

import attrs
import wasmtime

from agents.rewrite import Options, rewrite
from agents.wasm.decode import decode_module
from agents.wasm.encode import encode_module
from tests.oracle import bits
from tests.oracle.bits import Value
from tests.oracle.traveller import Traveller, engine, exposing, new_store


@attrs.define
class Ticker:
    """The host function of the programs: what it answers depends on how often it was called."""

    calls: int = 0

    def answer(self, argument: int) -> int:
        self.calls += 1
        return (argument * 7 + self.calls) & 0xFFFF


@attrs.frozen
class Ending:
    """What a run leaves: results or the reason of a trap, calls of the host, memory and exported globals."""

    results: tuple[Value, ...] | str
    ticks: int
    memory: bytes
    globals: tuple[Value, ...]


def _tick_type() -> wasmtime.FuncType:
    return wasmtime.FuncType([wasmtime.ValType.i32()], [wasmtime.ValType.i32()])


def _results_of(run: Any) -> tuple[Value, ...] | str:
    try:
        return tuple(run())
    except wasmtime.Trap as error:
        return str(error.trap_code)
    except wasmtime.WasmtimeError as error:
        if "exception" in str(error):
            return "exception"
        raise


def _ending(
    results: Any, ticker: Ticker, store: wasmtime.Store, instance: wasmtime.Instance, names: list[str]
) -> Ending:
    exports = instance.exports(store)
    memory = b""
    values = []
    for name in names:
        found = exports[name]
        if isinstance(found, wasmtime.Memory):
            memory = bytes(found.read(store))
        elif isinstance(found, wasmtime.Global):
            values.append(bits.get_global(store, found))
    return Ending(results, ticker.calls, memory, tuple(values))


def undisturbed(wasm: bytes, argument: int) -> Ending:
    """Run the original."""
    store = new_store(ENGINE)
    module = wasmtime.Module(ENGINE, exposing(wasm))
    ticker = Ticker()
    instance = wasmtime.Instance(store, module, [wasmtime.Func(store, _tick_type(), ticker.answer)])
    shape = decode_module(wasm)
    count = len(shape.func_type(shape.exports_by_name["run"].index).results)
    results = _results_of(lambda: bits.call(store, instance.exports(store)["run"], [Value("i", argument)], count))
    ending = _ending(results, ticker, store, instance, _state_names(wasm))
    store.close()
    return ending


def travelling(wasm: bytes, argument: int, options: Options, hops: int = 2_000) -> tuple[Ending, int]:
    """Rewrite, run, hop at every opportunity (at most ``hops`` times); how it ended, and the hops."""
    packed = encode_module(rewrite(decode_module(wasm), options))
    store = new_store(ENGINE)
    ticker = Ticker()

    def link(traveller: Traveller) -> list[Any]:
        def host(value: int) -> int:
            answer = ticker.answer(value)
            if not traveller.may_hop():
                return answer
            traveller.suspend(lambda: [Value("i", answer)])
            return 0

        return [wasmtime.Func(store, _tick_type(), host)]

    traveller = Traveller(store, wasmtime.Module(ENGINE, packed), packed, link, hops)
    results = _results_of(lambda: traveller.invoke("run", [Value("i", argument)]))
    ending = _ending(results, ticker, store, traveller.instance, _state_names(wasm))
    store.close()
    return ending, traveller.hopped


def _state_names(wasm: bytes) -> list[str]:
    """The names under which both the original and the rewritten module expose their state."""
    shape = decode_module(exposing(wasm))
    return [export.name for export in shape.exports if export.name.startswith("portcall.")]


ENGINE = engine()
