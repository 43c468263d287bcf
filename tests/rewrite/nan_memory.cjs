// Calls functions of a module one after another: node nan_memory.cjs MODULE NAME..; for each, the SHA-256 of its memory.
const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");
const [, , path, ...names] = process.argv;
const instance = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(path)), {});
for (const name of names) {
    let ended = "";
    try {
        instance.exports[name]();
    } catch (error) {
        if (!(error instanceof WebAssembly.RuntimeError)) throw error;
        ended = "trap";
    }
    console.log(createHash("sha256").update(new Uint8Array(instance.exports.memory.buffer)).update(ended).digest("hex"));
}
