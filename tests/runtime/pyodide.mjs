// Runs a Python script in Pyodide: node pyodide.mjs PYODIDE CHECKOUT SCRIPT; both folders are there by their own names.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , pyodide, checkout, script] = process.argv;
const { loadPyodide } = await import(pathToFileURL(`${pyodide}/node_modules/pyodide/pyodide.mjs`));
const python = await loadPyodide();
for (const folder of [checkout, pyodide, process.cwd()]) {
    if (python.FS.analyzePath(folder).exists) continue; // inside another one
    python.FS.mkdirTree(folder);
    python.mountNodeFS(folder, folder);
}
python.runPython(`import sys; sys.path[:0] = [${JSON.stringify(checkout)}, ${JSON.stringify(`${pyodide}/site`)}]`);
try {
    console.log(python.runPython(readFileSync(script, "utf8")));
} catch (error) {
    console.log(String(error.message).slice(-3000));
    process.exitCode = 1;
}
