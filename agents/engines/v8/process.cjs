// The process of the engine v8: starts threads, and tells them that their host wants to be asked.
//
// Standard input carries records of nine bytes: u8 what, u32 thread, u32 operand. Its end is the end of the process.
'use strict';

const path = require('path');
const v8 = require('v8');
const { Worker } = require('worker_threads');

const [START, RAISE, END] = [0, 1, 2];
const RECORD = 9;
const MOST = 4096; // threads
const [, , folder] = process.argv;

// Proposals that every engine here has to have, and a section that needs them: switched on where they are not yet.
const NEEDED = {
  exnref: [1, 5, 1, 0x60, 1, 0x69, 0],
  memory64: [5, 3, 1, 4, 0],
  'multi-memory': [5, 5, 2, 0, 0, 0, 0],
};
for (const [name, section] of Object.entries(NEEDED)) {
  const module = new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...section]);
  if (!WebAssembly.validate(module)) v8.setFlagsFromString(`--experimental-wasm-${name}`);
}

const flags = new SharedArrayBuffer(4 * MOST);
const raised = new Int32Array(flags);
const workers = new Map();
let rest = Buffer.alloc(0);

function act(what, number, operand) {
  if (what === START) {
    raised[number] = 0;
    const worker = new Worker(path.join(__dirname, 'worker.cjs'), {
      workerData: { folder, number, flags },
      resourceLimits: { stackSizeMb: operand },
      env: {},
    });
    workers.set(number, worker);
    worker.on('error', (error) => console.error(String(error && error.stack)));
    worker.on('exit', () => workers.delete(number));
  } else if (what === RAISE) {
    Atomics.or(raised, number, operand);
  } else if (what === END && workers.has(number)) {
    workers.get(number).terminate();
  }
}

process.stdin.on('data', (data) => {
  rest = Buffer.concat([rest, data]);
  let at = 0;
  for (; at + RECORD <= rest.length; at += RECORD) act(rest[at], rest.readUInt32LE(at + 1), rest.readUInt32LE(at + 5));
  rest = rest.subarray(at);
});
// Not `process.exit`, which waits for threads that wait for what they read.
process.stdin.on('end', () => process.kill(process.pid, 'SIGKILL'));
