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

// Proposals that every engine here has to have; where they are no options any more, they are always on.
for (const name of ['exnref', 'memory64', 'multi-memory']) v8.setFlagsFromString(`--experimental-wasm-${name}`);

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
process.stdin.on('end', () => process.exit(0));
