#!/bin/sh
# QuickJS-NG 0.17 as a WASI reactor (qjs-wasi-reactor.wasm 0.17.0): while a promise is awaited at the top of a module, the
# interpreter does one pending job and then waits for the next timer, also where more jobs are pending. With a timer of 400 ms
# somewhere in the program, a chain of three promises that are resolved already waits for that timer;
# without any timer it takes no time. HTML and Node.js do all jobs (a "microtask checkpoint") before they wait.
# Seen in its js_std_await, which calls js_os_poll after each job. What a host must do: drive the jobs itself, or change the call.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -qq --disable-pip-version-check wasmtime==50.0.1 qjs-wasi-reactor.wasm==0.17.0
cat >"$dir/show.py" <<'P'
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from wasmtime import Engine, Linker, Module, Store, WasiConfig

SCRIPT = """import * as os from "qjs:os";
const began = os.now();
if (%s) os.setTimeout(() => {}, 400);
let chain = Promise.resolve();
for (let n = 0; n < 3; n++) chain = chain.then(() => n);
await chain;
console.log(Math.round((os.now() - began) / 1000));
"""
(module,) = [f for f in metadata.distribution("qjs-wasi-reactor.wasm").files if f.name.endswith(".wasm")]
code = Module.from_file(engine := Engine(), str(module.locate()))


def waited(timer):
    """Milliseconds that the chain takes, as the script says."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "main.js").write_text(SCRIPT % timer)
        store, linker, config = Store(engine), Linker(engine), WasiConfig()
        config.preopen_dir(folder, "/")
        config.stdout_file = str(Path(folder) / "out")
        store.set_wasi(config)
        linker.define_wasi()
        instance = linker.instantiate(store, code)
        exports, memory = instance.exports(store), instance.exports(store)["memory"]
        exports["_initialize"](store)
        words = [b"qjs\0", b"--std\0", b"/main.js\0"]
        at = exports["malloc"](store, 64)
        place = at + 16
        for number, word in enumerate(words):
            memory.write(store, place.to_bytes(4, "little"), at + 4 * number)
            memory.write(store, word, place)
            place += len(word)
        assert exports["qjs_init_argv"](store, len(words), at) == 0
        del store
        return int((Path(folder) / "out").read_text())


without, beside = waited("false"), waited("true")
print(f"three resolved promises, awaited: {without} ms; beside a timer of 400 ms: {beside} ms")
sys.exit(0 if without < 200 <= 350 <= beside else "this has changed")
P
"$dir/venv/bin/python" "$dir/show.py"
# Seen, 2026-11-29:
#   three resolved promises, awaited: 0 ms; beside a timer of 400 ms: 401 ms
