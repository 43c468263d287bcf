// The calls that an agent makes of its station (ABI version 1 of the imports `portcall`), for AssemblyScript.
//
// Results below 0 are minus an error number of WASI; AssemblyScript has no exceptions to throw. A text that
// cannot be had is empty, a reply or message null, and `lastError` then says why.

@external("portcall", "go") declare function _go(host: usize, size: i32): i32;
@external("portcall", "go_wait") declare function _goWait(host: usize, size: i32, waitMs: i32): i32;
@external("portcall", "go_at") declare function _goAt(host: usize, size: i32, entry: usize, entrySize: i32): i32;
@external("portcall", "here") declare function _here(buffer: usize, capacity: i32): i32;
@external("portcall", "me") declare function _me(buffer: usize, capacity: i32): i32;
@external("portcall", "next_stop") declare function _nextStop(buffer: usize, capacity: i32): i32;
@external("portcall", "call")
declare function _call(service: usize, size: i32, request: usize, requestSize: i32, reply: usize, capacity: i32): i32;
@external("portcall", "send") declare function _send(to: usize, size: i32, message: usize, messageSize: i32): i32;
@external("portcall", "accept") declare function _accept(buffer: usize, capacity: i32, timeoutMs: i32): i32;
@external("portcall", "reply")
declare function _reply(id: usize, size: i32, response: usize, responseSize: i32): i32;
@external("portcall", "recv") declare function _recv(buffer: usize, capacity: i32, timeoutMs: i32): i32;
@external("portcall", "sender") declare function _sender(buffer: usize, capacity: i32): i32;
@external("portcall", "select")
declare function _select(
  from: usize, size: i32, topic: usize, topicSize: i32, buffer: usize, capacity: i32, timeoutMs: i32,
): i32;
@external("portcall", "about") declare function _about(buffer: usize, capacity: i32): i32;
@external("portcall", "ask")
declare function _ask(
  to: usize, size: i32, topic: usize, topicSize: i32, question: usize, questionSize: i32, timeoutMs: i32, id: usize,
  capacity: i32,
): i32;
@external("portcall", "answer")
declare function _answer(id: usize, size: i32, buffer: usize, capacity: i32, timeoutMs: i32): i32;
@external("portcall", "subscribe") declare function _subscribe(topic: usize, size: i32): i32;
@external("portcall", "unsubscribe") declare function _unsubscribe(topic: usize, size: i32): i32;
@external("portcall", "publish")
declare function _publish(topic: usize, size: i32, message: usize, messageSize: i32, everywhere: i32): i32;
@external("portcall", "offer")
declare function _offer(service: usize, size: i32, attributes: usize, attributesSize: i32): i32;
@external("portcall", "withdraw") declare function _withdraw(service: usize, size: i32): i32;
@external("portcall", "find")
declare function _find(
  service: usize, size: i32, label: usize, labelSize: i32, everywhere: i32, buffer: usize, capacity: i32,
): i32;
@external("portcall", "send_here")
declare function _sendHere(to: usize, size: i32, message: usize, messageSize: i32): i32;
@external("portcall", "sleep") declare function _sleep(ms: u32): i32;
@external("portcall", "clone") declare function _clone(id: usize, capacity: i32): i32;
@external("portcall", "fork") declare function _fork(count: u32, ids: usize, capacity: i32): i32;
@external("portcall", "notice") declare function _notice(buffer: usize, capacity: i32): i32;
@external("portcall", "report") declare function _report(key: usize, size: i32, value: usize, valueSize: i32): i32;
@external("portcall", "log") declare function _log(level: u32, text: usize, size: i32): i32;
@external("portcall", "lookup")
declare function _lookup(service: usize, size: i32, buffer: usize, capacity: i32): i32;
@external("portcall", "exit") declare function _exit(code: u32): void;

/** How much a line of the log matters. */
export enum Level { ERROR, WARNING, INFO, DETAIL }

/** Minus the error number of the last call that gave null or an empty text; 0 when it went well. */
export let lastError: i32 = 0;

/** Move to a station, with the whole stack: 0 there; below 0: still here. */
export function go(station: string): i32 {
  const host = utf8(station);
  return _go(at(host), host.byteLength);
}

/** The same; sleeps up to `waitMs` (below 0: for ever) while the station cannot be reached or is full. */
export function goWait(station: string, waitMs: i32): i32 {
  const host = utf8(station);
  return _goWait(at(host), host.byteLength, waitMs);
}

/** Move to a station without the stack; the export `entry` is called there. Returns only when it fails. */
export function goAt(station: string, entry: string): i32 {
  const host = utf8(station), name = utf8(entry);
  return _goAt(at(host), host.byteLength, at(name), name.byteLength);
}

/** The name of this station. */
export function here(): string {
  return text(filled((buffer, capacity) => _here(buffer, capacity)));
}

/** This agent's id. */
export function me(): string {
  return text(filled((buffer, capacity) => _me(buffer, capacity)));
}

/** The itinerary's next stop; empty at its end. */
export function nextStop(): string {
  return text(filled((buffer, capacity) => _nextStop(buffer, capacity)));
}

/** The reply of a service of this station; null and `lastError` when it fails. */
export function call(service: string, request: ArrayBuffer): ArrayBuffer | null {
  const name = utf8(service);
  let reply = new ArrayBuffer(256);
  while (true) {
    const size = _call(at(name), name.byteLength, at(request), request.byteLength, at(reply), reply.byteLength);
    if (size < 0) return failed(size);
    if (size <= reply.byteLength) return cut(reply, size);
    reply = new ArrayBuffer(size);
  }
}

/** Hand a message over for delivery to the agent `to`. */
export function send(to: string, message: ArrayBuffer): i32 {
  const name = utf8(to);
  return _send(at(name), name.byteLength, at(message), message.byteLength);
}

/** The next message, waited for at most `timeoutMs` (below 0: for ever); null and `lastError` when none came. */
export function recv(timeoutMs: i32 = -1): ArrayBuffer | null {
  let message = new ArrayBuffer(256);
  while (true) {
    const size = _recv(at(message), message.byteLength, timeoutMs);
    if (size < 0) return failed(size);
    if (size <= message.byteLength) return cut(message, size);
    message = new ArrayBuffer(size);
  }
}

/** A message to this agent. */
export class Message {
  constructor(
    /** What it says. */
    public body: ArrayBuffer,
    /** An agent's id or a station's name. */
    public sender: string,
    /** May be empty. */
    public topic: string,
    /** What `reply` takes; empty if the message is no question. */
    public id: string,
  ) {}

  /** The body as text. */
  text(): string {
    return text(this.body);
  }

  /** Answer it, if it is a question, here or at a later station: once. 0, or below 0. */
  reply(answer: ArrayBuffer): i32 {
    return reply(this.id, answer);
  }
}

/**
 * The next message of the agent or station `from` and about `topic` (empty: any), waited for at most `timeoutMs` (below
 * 0: for ever); null and `lastError` when none came.
 */
export function receive(from: string = "", topic: string = "", timeoutMs: i32 = -1): Message | null {
  const who = utf8(from), what = utf8(topic);
  let message = new ArrayBuffer(256);
  while (true) {
    const size = _select(
      at(who), who.byteLength, at(what), what.byteLength, at(message), message.byteLength, timeoutMs,
    );
    if (size < 0) { lastError = size; return null; }
    if (size <= message.byteLength) { message = cut(message, size); break; }
    message = new ArrayBuffer(size);
  }
  const known = text(filled((buffer, capacity) => _about(buffer, capacity))).split("\n");
  return new Message(message, part(known, 0), part(known, 1), part(known, 2));
}

/** A question that was asked. Its answer can be taken here or at a later station, once. */
export class Question {
  constructor(public id: string) {}

  /**
   * The answer, waited for at most `timeoutMs` (below 0: as long as it may come); null and `lastError` when none came
   * in time (-73), or the question could not be delivered (-23).
   */
  answer(timeoutMs: i32 = -1): ArrayBuffer | null {
    const name = utf8(this.id);
    let reply = new ArrayBuffer(256);
    while (true) {
      const size = _answer(at(name), name.byteLength, at(reply), reply.byteLength, timeoutMs);
      if (size < 0) return failed(size);
      if (size <= reply.byteLength) return cut(reply, size);
      reply = new ArrayBuffer(size);
    }
  }
}

/** What the agent `to` answers within `timeoutMs` (below 0: 7 days); null and `lastError` when it does not. */
export function ask(to: string, message: ArrayBuffer, topic: string = "", timeoutMs: i32 = 30000): ArrayBuffer | null {
  const question = askLater(to, message, topic, timeoutMs);
  return question === null ? null : question.answer();
}

/**
 * Ask the agent `to`, and go on. An answer that comes after `timeoutMs` (below 0: 7 days) is dropped. Null and
 * `lastError` when it cannot be asked.
 */
export function askLater(
  to: string, message: ArrayBuffer, topic: string = "", timeoutMs: i32 = 30000,
): Question | null {
  const who = utf8(to), what = utf8(topic), id = new ArrayBuffer(64);
  const size = _ask(
    at(who), who.byteLength, at(what), what.byteLength, at(message), message.byteLength, timeoutMs, at(id),
    id.byteLength,
  );
  if (size < 0) { lastError = size; return null; }
  return new Question(text(cut(id, size)));
}

/** Receive what is published to a topic, from now on and wherever this agent goes. */
export function subscribe(topic: string): i32 {
  const name = utf8(topic);
  return _subscribe(at(name), name.byteLength);
}

/** Receive what is published to a topic no more. */
export function unsubscribe(topic: string): i32 {
  const name = utf8(topic);
  return _unsubscribe(at(name), name.byteLength);
}

/** Send a message to the other agents here, or `everywhere`, that subscribe to a topic; how many got it here. */
export function publish(topic: string, message: ArrayBuffer, everywhere: bool = false): i32 {
  const name = utf8(topic);
  return _publish(at(name), name.byteLength, at(message), message.byteLength, i32(everywhere));
}

/** Offer a service to other agents while this one is here; `attributes` is what they are told of it. */
export function offer(service: string, attributes: string = ""): i32 {
  const name = utf8(service), told = utf8(attributes);
  return _offer(at(name), name.byteLength, at(told), told.byteLength);
}

/** Offer a service no more. */
export function withdraw(service: string): i32 {
  const name = utf8(service);
  return _withdraw(at(name), name.byteLength);
}

/** An agent that was found, and what it says of its service. */
export class Found {
  constructor(public id: string, public station: string, public label: string, public attributes: string) {}
}

/**
 * The other agents here, or `everywhere`, that offer a service and have a label (empty: any); none and `lastError` when
 * that fails.
 */
export function find(service: string = "", label: string = "", everywhere: bool = false): Found[] {
  const what = utf8(service), who = utf8(label), agents: Found[] = [];
  let lines = new ArrayBuffer(1024);
  while (true) {
    const size = _find(
      at(what), what.byteLength, at(who), who.byteLength, i32(everywhere), at(lines), lines.byteLength,
    );
    if (size <= 0) { lastError = size; return agents; }
    if (size <= lines.byteLength) { lines = cut(lines, size); break; }
    lines = new ArrayBuffer(size);
  }
  const each = text(lines).split("\n");
  for (let i = 0; i < each.length; i++) {
    const parts = each[i].split("\t");
    agents.push(new Found(part(parts, 0), part(parts, 1), part(parts, 2), part(parts, 3)));
  }
  return agents;
}

/** A local channel to an agent that is at this station: what is sent on it goes to that agent while it is here. */
export class Channel {
  constructor(public agent: string) {}

  /** Send it a message; -23 when it is not here any more. */
  send(message: ArrayBuffer): i32 {
    const name = utf8(this.agent);
    return _sendHere(at(name), name.byteLength, at(message), message.byteLength);
  }

  /** Its next message, waited for at most `timeoutMs` (below 0: for ever); null and `lastError` when none came. */
  receive(timeoutMs: i32 = -1): Message | null {
    return receive(this.agent, "", timeoutMs);
  }
}

/** A local channel to another agent that is here, by its id; see `find`. */
export function meet(agent: string): Channel {
  return new Channel(agent);
}

/**
 * The next request of a client, as `message/http`, waited for at most `timeoutMs` (below 0: for ever); null and
 * `lastError` when none came. Its header `portcall-request` is the id for `reply`.
 */
export function accept(timeoutMs: i32 = -1): ArrayBuffer | null {
  let request = new ArrayBuffer(4096);
  while (true) {
    const size = _accept(at(request), request.byteLength, timeoutMs);
    if (size < 0) return failed(size);
    if (size <= request.byteLength) return cut(request, size);
    request = new ArrayBuffer(size);
  }
}

/** Answer a request: a response of HTTP/1.1, without `Content-Length`. Or the question of an agent: see `Message`. */
export function reply(id: string, response: ArrayBuffer): i32 {
  const name = utf8(id);
  return _reply(at(name), name.byteLength, at(response), response.byteLength);
}

/** Who sent the message received last: an agent's id or a station's name. */
export function sender(): string {
  return text(filled((buffer, capacity) => _sender(buffer, capacity)));
}

/** Sleep; the agent waits as data and holds no thread. */
export function sleep(ms: u32): i32 {
  return _sleep(ms);
}

/** Become two agents: the new one's id in the original, null in the clone, or when it fails (`lastError`). */
export function clone(): string | null {
  const id = new ArrayBuffer(1024);
  lastError = 0;
  const original = _clone(at(id), id.byteLength);
  if (original < 0) lastError = original;
  return original == 1 ? String.UTF8.decode(id, true) : null;
}

/** Their ids in the original, after `fork`. */
export let forked: string[] = [];

/**
 * Become `count` agents more, all from here or none: 0 in the original, with their ids in `forked`; 1 to `count` in each
 * of them; below 0 when it fails.
 */
export function fork(count: u32): i32 {
  const ids = new ArrayBuffer(1024);
  const number = _fork(count, at(ids), ids.byteLength);
  forked = number == 0 ? String.UTF8.decode(ids, true).split("\n") : [];
  return number;
}

/**
 * What this station has to tell by itself, once: `retracted`, `budget_low cpu`, `budget_low messages`; empty if there is
 * nothing. An agent that exports `portcall_on_retracted` or `portcall_on_budget_low` is told by these.
 */
export function notice(): string {
  return text(filled((buffer, capacity) => _notice(buffer, capacity)));
}

/** Append a result to this agent's signed chain. */
export function report(key: string, value: string): i32 {
  return reportBytes(key, utf8(value));
}

/** The same with bytes. */
export function reportBytes(key: string, value: ArrayBuffer): i32 {
  const name = utf8(key);
  return _report(at(name), name.byteLength, at(value), value.byteLength);
}

/** One line for the station's log. */
export function log(line: string, level: Level = Level.INFO): void {
  const bytes = utf8(line);
  _log(level, at(bytes), bytes.byteLength);
}

/** Names of stations that offer a service, best first. */
export function lookup(service: string): string[] {
  const name = utf8(service);
  let names = new ArrayBuffer(1024);
  while (true) {
    const size = _lookup(at(name), name.byteLength, at(names), names.byteLength);
    if (size <= 0) { lastError = size; return []; }
    if (size <= names.byteLength) return text(cut(names, size)).split("\n");
    names = new ArrayBuffer(size);
  }
}

/** End the agent, at once. */
export function exit(code: u32): void {
  _exit(code);
}

function at(bytes: ArrayBuffer): usize {
  return changetype<usize>(bytes);
}

function utf8(text: string): ArrayBuffer {
  return String.UTF8.encode(text);
}

function text(bytes: ArrayBuffer): string {
  return String.UTF8.decode(bytes);
}

function part(parts: string[], index: i32): string {
  return index < parts.length ? parts[index] : "";
}

function failed(result: i32): ArrayBuffer | null {
  lastError = result;
  return null;
}

function cut(bytes: ArrayBuffer, size: i32): ArrayBuffer {
  lastError = 0;
  return bytes.slice(0, size);
}

function filled(give: (buffer: usize, capacity: i32) => i32): ArrayBuffer {
  let bytes = new ArrayBuffer(256);
  while (true) {
    const size = give(at(bytes), bytes.byteLength);
    if (size < 0) { lastError = size; return new ArrayBuffer(0); }
    if (size <= bytes.byteLength) return cut(bytes, size);
    bytes = new ArrayBuffer(size);
  }
}
