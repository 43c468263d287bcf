// One WebAssembly instance, worked by bytes: what `instance.py` asks, and what the agent asks its host.
//
// A frame is a list of commands (u32 length, u8 number, operands), carried out in order; the last one gives the reply: a
// status byte and what belongs to it. All numbers are little endian. Values cross as the bits of integers: floats and
// vectors have been turned into these by code that `bits.py` adds, since JavaScript does not keep the bits of a NaN.
//
// Where the bytes come from is not known here: see `worker.cjs`, and `inside.py` for a Python that runs in JavaScript.
'use strict';

const [OK, TRAP, STACK, LIMIT, ERROR, RAISED, HOST_CALL, TICK] = [0, 1, 2, 3, 4, 5, 6, 7];
const PAGE = 4096;
const CHUNK = 16 * PAGE;
const ZEROS = new Uint8Array(CHUNK);
const FEW_FRAMES = 200; // of JavaScript's stack, for what answers a host call
const TICK_IMPORT = ['portcall.meter', 'tick'];
const CEILING = 'portcall.meter.ceiling';
const ELEMENTS = 'portcall.meter.elements';
const text = new TextDecoder();

// (module (func (export "t") unreachable)): agent code can catch what JavaScript throws, but not a trap.
const TRAPPING = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 116, 0, 0, 10, 5, 1, 3, 0, 0, 11,
]);
const trap = new WebAssembly.Instance(new WebAssembly.Module(TRAPPING)).exports.t;

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }
  u8() { return this.bytes[this.at++]; }
  u16() { this.at += 2; return this.view.getUint16(this.at - 2, true); }
  u32() { this.at += 4; return this.view.getUint32(this.at - 4, true); }
  big() { this.at += 8; return this.view.getBigInt64(this.at - 8, true); }
  u64() { return Number(this.big()); }
  take(size) { this.at += size; return this.bytes.subarray(this.at - size, this.at); }
  name() { return text.decode(this.take(this.u16())); }
  value(letter) { return letter === 'i' ? this.u32() | 0 : this.big(); }
}

class Writer {
  constructor(status, size = 64) {
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
    this.bytes[0] = status;
    this.at = 1;
  }
  room(size) {
    if (this.at + size <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(2 * this.bytes.length, this.at + size));
    larger.set(this.bytes.subarray(0, this.at));
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
  }
  u32(value) { this.room(4); this.view.setUint32(this.at, value, true); this.at += 4; return this; }
  big(value) { this.room(8); this.view.setBigUint64(this.at, BigInt.asUintN(64, value), true); this.at += 8; return this; }
  put(bytes) { this.room(bytes.length); this.bytes.set(bytes, this.at); this.at += bytes.length; return this; }
  value(letter, value) { return letter === 'i' ? this.u32(value) : this.big(value); }
  done() { return this.bytes.subarray(0, this.at); }
}

const DONE = new Writer(OK).done();

function same(a, b) {
  if (typeof Buffer !== 'undefined') return Buffer.compare(a, b) === 0;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

// Fails here, before anything was sent, if the stack is too short for an exchange with the host.
function deep(frames) {
  return frames ? deep(frames - 1) + 1 : 0;
}

// A method of a memory or table with a number first: a BigInt where its addresses have 64 bits, but not in every version.
function numbered(what, method, number, ...rest) {
  try {
    return what[method](number, ...rest);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return what[method](BigInt(number), ...rest);
  }
}

// The pages of a memory that are not zero.
function kept(bytes) {
  const pages = new Map();
  for (let at = 0; at < bytes.length; at += CHUNK) {
    if (same(bytes.subarray(at, at + CHUNK), ZEROS)) continue;
    for (let page = at; page < at + CHUNK; page += PAGE) {
      const part = bytes.subarray(page, page + PAGE);
      if (!same(part, ZEROS.subarray(0, PAGE))) pages.set(page / PAGE, part.slice());
    }
  }
  return pages;
}

class Machine {
  // ask: sends a message to the host and returns the frame that answers it. raised: the reasons for a tick, or 0.
  constructor(ask, raised) {
    this.ask = ask;
    this.raised = raised;
    this.programs = new Map();
    this.close();
  }

  // The reply to a frame of commands.
  handle(frame) {
    try {
      return this.perform(frame);
    } catch (error) {
      return this.failed(error);
    }
  }

  perform(frame) {
    const reader = new Reader(frame);
    let reply = DONE;
    while (reader.at < frame.length) {
      const end = reader.u32() + reader.at;
      reply = COMMANDS[reader.u8()].call(this, reader, end);
      reader.at = end;
    }
    return reply;
  }

  failed(error) {
    const stopped = this.stopping;
    this.stopping = false;
    if (stopped) return new Writer(RAISED).done();
    let status = ERROR;
    let said = String(error && error.message);
    if (error instanceof WebAssembly.RuntimeError) status = TRAP;
    else if (error instanceof WebAssembly.Exception) [status, said] = [TRAP, 'uncaught exception'];
    else if (error instanceof RangeError) status = said.includes('call stack') ? STACK : LIMIT;
    return new Writer(status).put(new TextEncoder().encode(said.slice(0, 2000))).done();
  }

  // --- programs ---

  load(reader, end) {
    const id = reader.u32();
    this.programs.set(id, { module: new WebAssembly.Module(reader.take(end - reader.at)), initial: null });
    return DONE;
  }

  unload(reader) {
    this.programs.delete(reader.u32());
    return DONE;
  }

  instantiate(reader) {
    const program = this.programs.get(reader.u32());
    const ceiling = reader.u32();
    const elements = reader.u32();
    const host = {};
    for (let index = 0, count = reader.u32(); index < count; index++) {
      host[index] = this.imported(index, reader.name(), reader.name());
    }
    this.close();
    this.limits = [ceiling, elements];
    const tick = () => {
      const reasons = this.raised();
      if (reasons !== 0) this.answer(this.sized(new Writer(TICK).u32(reasons)).done());
    };
    this.ticking = { [TICK_IMPORT[0]]: { [TICK_IMPORT[1]]: tick } };
    const globals = [];
    for (let index = 0, count = reader.u32(); index < count; index++) globals.push([reader.name(), reader.name()]);
    for (let index = 0, count = reader.u32(); index < count; index++) this.memories.push(reader.name());
    this.exports = new WebAssembly.Instance(program.module, { host, ...this.ticking }).exports;
    this.limit(this.exports);
    for (const [letter, name] of globals) this.globals.push(this.reached(letter, name));
    if (program.initial === null) {
      program.initial = new Map();
      for (const name of this.memories) program.initial.set(name, kept(this.bytes(name)));
    }
    this.initial = program.initial;
    return this.sized(new Writer(OK)).done();
  }

  extend(reader) {
    const { module } = this.programs.get(reader.u32());
    this.added = new WebAssembly.Instance(module, { portcall: this.exports, ...this.ticking }).exports;
    this.limit(this.added);
    return this.sized(new Writer(OK)).done();
  }

  limit(exports) {
    exports[CEILING].value = this.limits[0] | 0;
    exports[ELEMENTS].value = this.limits[1] | 0;
  }

  close() {
    this.exports = this.added = this.initial = this.limits = this.ticking = null;
    this.globals = [];
    this.memories = [];
    this.ids = new Map();
    this.stopping = false;
    return DONE;
  }

  // --- calls, and what the agent asks ---

  call(reader) {
    const name = reader.name();
    const [params, results] = [reader.name(), reader.name()];
    const values = [];
    for (const letter of params) values.push(reader.value(letter));
    const found = name in this.exports ? this.exports[name] : this.added[name];
    const returned = found(...values);
    const out = this.sized(new Writer(OK));
    if (results.length === 1) return out.value(results, returned).done();
    for (let index = 0; index < results.length; index++) out.value(results[index], returned[index]);
    return out.done();
  }

  imported(index, params, results) {
    return (...values) => {
      const out = this.sized(new Writer(HOST_CALL).u32(index));
      for (let each = 0; each < params.length; each++) out.value(params[each], values[each]);
      const reader = this.answer(out.done());
      if (results.length === 0) return undefined;
      if (results.length === 1) return reader.value(results);
      return Array.from(results, (letter) => reader.value(letter));
    };
  }

  answer(message) {
    deep(FEW_FRAMES);
    const reader = this.perform(this.ask(message));
    if (!(reader instanceof Reader)) {
      this.stopping = true;
      trap();
    }
    return reader;
  }

  returned(reader, end) {
    return new Reader(reader.take(end - reader.at));
  }

  raise() {
    return null;
  }

  // --- state ---

  // The pages of each memory: a host call and a reply tell them, since agent code may have grown it.
  sized(out) {
    for (const name of this.memories) out.u32(this.exports === null ? 0 : this.exports[name].buffer.byteLength / 65536);
    return out;
  }

  bytes(name) {
    return new Uint8Array(this.exports[name].buffer);
  }

  read(reader) {
    const bytes = this.bytes(reader.name());
    const at = reader.u64();
    const size = reader.u64();
    return new Writer(OK, size + 1).put(bytes.subarray(at, at + size)).done();
  }

  write(reader, end) {
    const bytes = this.bytes(reader.name());
    const at = reader.u64();
    bytes.set(reader.take(end - reader.at), at);
    return DONE;
  }

  growMemory(reader) {
    numbered(this.exports[reader.name()], 'grow', reader.u32());
    return DONE;
  }

  // The runs of pages that differ from a fresh instance, or from zeros; then their contents.
  changed(reader) {
    const name = reader.name();
    const bytes = this.bytes(name);
    const initial = reader.u8() ? new Map() : this.initial.get(name);
    const runs = [];
    for (let at = 0; at < bytes.length; at += CHUNK) {
      let fresh = true;
      for (let page = at / PAGE; page < (at + CHUNK) / PAGE; page++) fresh = fresh && !initial.has(page);
      if (fresh && same(bytes.subarray(at, at + CHUNK), ZEROS)) continue;
      for (let page = at / PAGE; page < (at + CHUNK) / PAGE; page++) {
        const was = initial.get(page) || ZEROS.subarray(0, PAGE);
        if (same(bytes.subarray(page * PAGE, page * PAGE + PAGE), was)) continue;
        const last = runs[runs.length - 1];
        if (last !== undefined && last[0] + last[1] === page) last[1]++;
        else runs.push([page, 1]);
      }
    }
    const size = runs.reduce((sum, [, count]) => sum + 8 + count * PAGE, 16);
    const out = new Writer(OK, size).u32(runs.length);
    for (const [first, count] of runs) out.u32(first).u32(count);
    for (const [first, count] of runs) out.put(bytes.subarray(first * PAGE, (first + count) * PAGE));
    return out.done();
  }

  // How to get and set a global of a number type, as two words of 64 bits.
  reached(letter, name) {
    const found = this.exports[name];
    if (letter === 'i') {
      return { get: () => [BigInt(found.value >>> 0), 0n], set: (low) => { found.value = Number(BigInt.asIntN(32, low)); } };
    }
    if (letter === 'I') return { get: () => [found.value, 0n], set: (low) => { found.value = low; } };
    const get = this.exports[`portcall.meter.get.${name}`];
    const set = this.exports[`portcall.meter.set.${name}`];
    if (letter === 'v') return { get, set };
    if (letter === 'F') return { get: () => [get(), 0n], set: (low) => set(low) };
    return { get: () => [BigInt(get() >>> 0), 0n], set: (low) => set(Number(BigInt.asIntN(32, low))) };
  }

  getGlobals() {
    const out = new Writer(OK, 1 + 16 * this.globals.length);
    for (const { get } of this.globals) {
      const [low, high] = get();
      out.big(low).big(high);
    }
    return out.done();
  }

  setGlobal(reader) {
    this.globals[reader.u32()].set(reader.big(), reader.big());
    return DONE;
  }

  // --- references ---

  identity(value) {
    if (value === null || value === undefined) return 0;
    if (typeof value !== 'function') throw new TypeError('a reference to something that cannot be named');
    if (!this.ids.has(value)) this.ids.set(value, this.ids.size + 1);
    return this.ids.get(value);
  }

  elements(reader) {
    const table = this.exports[reader.name()];
    const size = Number(table.length);
    const out = new Writer(OK, 16 + 4 * size);
    for (let index = 0; index < size; index++) out.u32(this.identity(numbered(table, 'get', index)));
    return out.done();
  }

  chosen(reader) {
    const table = this.exports[reader.name()];
    const index = reader.u32();
    return index === 0xffffffff ? null : numbered(table, 'get', index);
  }

  growTable(reader) {
    const table = this.exports[reader.name()];
    const more = reader.u32() - Number(table.length);
    if (more > 0) numbered(table, 'grow', more, null);
    return DONE;
  }

  setElement(reader) {
    const table = this.exports[reader.name()];
    const index = reader.u32();
    numbered(table, 'set', index, this.chosen(reader));
    return DONE;
  }

  getReference(reader) {
    return new Writer(OK).u32(this.identity(this.exports[reader.name()].value)).done();
  }

  setReference(reader) {
    const found = this.exports[reader.name()];
    found.value = this.chosen(reader);
    return DONE;
  }
}

const its = Machine.prototype;
const COMMANDS = [
  its.load, its.unload, its.instantiate, its.extend, its.close, its.call, its.returned, its.raise, its.read, its.write,
  its.growMemory, its.changed, its.getGlobals, its.setGlobal, its.elements, its.growTable, its.setElement,
  its.getReference, its.setReference,
];

module.exports = { Machine };
