// A thread that runs one instance at a time: it reads frames from one pipe and writes replies to another.
//
// A frame: u32 length, u8 kind (0 a request, 1 the answer to what was asked), commands. A reply: u32 length, f64
// microseconds of processor time since the last one, and the machine's bytes. While agent code waits for an answer of its
// host, requests are served: it asks for memory, or calls another export.
'use strict';

const fs = require('fs');
const path = require('path');
const { workerData } = require('worker_threads');
const { Machine } = require('./machine.cjs');

const { folder, number, flags } = workerData;
const incoming = fs.openSync(path.join(folder, `${number}.in`), 'r');
const outgoing = fs.openSync(path.join(folder, `${number}.out`), 'w');
const raised = new Int32Array(flags);
const ANSWER = 1;

let buffer = Buffer.alloc(1 << 16);
const head = Buffer.alloc(12);
let used = 0;

// Microseconds of this thread's processor time; before node 22.19, of the wall clock, which is never less.
function clock() {
  if (process.threadCpuUsage === undefined) return performance.now() * 1000;
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

// Reads until there are `size` bytes in the buffer.
function fill(from, size) {
  let have = from;
  while (have < size) {
    const got = fs.readSync(incoming, buffer, have, buffer.length - have, null);
    if (got === 0) process.exit(0); // nobody is there any more
    have += got;
  }
  return have;
}

function receive() {
  let have = fill(0, 4);
  const size = buffer.readUInt32LE(0) + 4;
  if (size > buffer.length) {
    const larger = Buffer.alloc(size);
    buffer.copy(larger, 0, 0, have);
    buffer = larger;
  }
  have = fill(have, size);
  const frame = buffer.subarray(4, size);
  if (buffer.length > 1 << 20) buffer = Buffer.alloc(1 << 16);
  return frame;
}

function put(bytes) {
  for (let at = 0; at < bytes.length;) at += fs.writeSync(outgoing, bytes, at, bytes.length - at);
}

function send(message) {
  const now = clock();
  const size = head.length + message.length;
  const whole = size <= 1 << 16 ? Buffer.allocUnsafe(size) : head;
  whole.writeUInt32LE(message.length, 0);
  whole.writeDoubleLE(now - used, 4);
  used = now;
  if (whole === head) put(head);
  else whole.set(message, head.length);
  put(whole === head ? message : whole);
}

function ask(message) {
  send(message);
  for (;;) {
    const frame = receive();
    if (frame[0] === ANSWER) return frame.subarray(1);
    send(machine.handle(frame.subarray(1)));
  }
}

const machine = new Machine(ask, () => (raised[number] === 0 ? 0 : Atomics.exchange(raised, number, 0)));
used = clock();
send(new Uint8Array(1));
for (;;) send(machine.handle(receive().subarray(1)));
