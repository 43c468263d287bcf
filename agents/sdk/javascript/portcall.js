// What an agent in JavaScript asks of its station: the global object `portcall`. Travels with the agent.
//
// Each function writes or reads a file below /portcall/. A call that is refused or fails throws a PortcallError
// with the station's number as its errno. Replies and messages are text; what is no UTF-8 comes as one character
// for each byte.
"use strict";

class PortcallError extends Error {
  constructor(name, errno) {
    super(`${name}: error ${errno}`);
    this.name = "PortcallError";
    this.errno = errno;
  }
}

const portcall = (() => {
  function checked(name, result) {
    if (result < 0) throw new PortcallError(name, -result);
    return result;
  }

  function using(name, flags, act) {
    const fd = checked(name, os.open(`/portcall/${name}`, flags));
    try {
      return act(fd);
    } finally {
      os.close(fd);
    }
  }

  function put(name, fd, value) {
    const text = unescape(encodeURIComponent(value));
    const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    checked(name, os.write(fd, bytes.buffer, 0, bytes.length));
  }

  function take(name, fd) {
    const chunk = new Uint8Array(4096);
    let text = "";
    for (let size; (size = checked(name, os.read(fd, chunk.buffer, 0, chunk.length))) > 0; )
      text += String.fromCharCode(...chunk.subarray(0, size));
    try {
      return decodeURIComponent(escape(text));
    } catch {
      return text;
    }
  }

  // What is called at events of this agent's life; the last two are told by the station at the end of a call.
  const EVENTS = ["departing", "arrived", "sleeping", "woken", "cloned", "message", "retracted", "budget_low"];
  const callbacks = new Map();
  let attending = false;

  function attend() {
    if (attending || !(callbacks.has("retracted") || callbacks.has("budget_low"))) return;
    attending = true;
    try {
      for (let said; (said = using("notice", os.O_RDONLY, (fd) => take("notice", fd))); )
        callbacks.get(said.split(" ")[0])?.();
    } finally {
      attending = false;
    }
  }

  function happens(event) {
    callbacks.get(event)?.();
    if (event !== "departing" && event !== "sleeping") attend();
  }

  // Calls that say themselves what happens.
  const ofEvents = new Set(["go", "sleep", "inbox", "select", "about", "clone", "fork"]);

  function attended(name, result) {
    if (!ofEvents.has(name.split("/")[0])) attend();
    return result;
  }

  const read = (name) => attended(name, using(name, os.O_RDONLY, (fd) => take(name, fd)));
  const write = (name, value) => attended(name, using(name, os.O_WRONLY, (fd) => put(name, fd, value)));
  const give = (name, value) => (value ? write(name, value) : read(name)); // no text at all would be no write at all
  const ms = (seconds) => (seconds === null ? "-" : Math.min(Math.floor(seconds * 1000), 2 ** 31 - 1));

  function receive({ sender = "", topic = "", timeout = null } = {}) {
    const body = read(`select/${ms(timeout)}/${sender || "-"}/${topic || "-"}`);
    const [from, about, id] = read("about").split("\n");
    happens("message");
    return { body, sender: from, topic: about, id, reply: (answer) => portcall.reply(id, answer) };
  }

  function askLater(agent, message, { topic = "", timeout = 30 } = {}) {
    const name = `ask/${ms(timeout)}/${agent}/${topic || "-"}`;
    const id = using(name, os.O_RDWR, (fd) => {
      if (message) put(name, fd, message);
      return take(name, fd);
    });
    return { id, answer: (seconds = null) => read(seconds === null ? `answer/${id}` : `answer/${id}/${ms(seconds)}`) };
  }

  function found(line) {
    const [id, station, label, attributes] = line.split("\t");
    return { id, station, label, attributes };
  }

  return {
    on(event, callback) {
      if (!EVENTS.includes(event)) throw new TypeError(`no such event: ${event}`);
      if (callback) callbacks.set(event, callback);
      else callbacks.delete(event);
    },
    go(station, wait = null) {
      happens("departing");
      std.out.flush(); // what was printed here belongs here
      const name = wait === null ? "go" : `go/${Math.min(Math.floor(wait * 1000), 2 ** 31 - 1)}`;
      write(name, station || "\0"); // no name at all would be no write at all
      happens("arrived");
    },
    here: () => read("here"),
    me: () => read("me"),
    nextStop: () => read("next_stop"),
    call(service, request = "") {
      const name = `call/${service}`;
      const reply = using(name, os.O_RDWR, (fd) => {
        if (request) put(name, fd, request);
        return take(name, fd);
      });
      return attended(name, reply);
    },
    lookup: (service) => read(`lookup/${service}`).split("\n").filter((name) => name),
    send: (agent, message) => give(`send/${agent}`, message),
    receive,
    ask: (agent, message, options) => askLater(agent, message, options).answer(),
    askLater,
    subscribe: (topic) => write("subscribe", topic),
    unsubscribe: (topic) => write("unsubscribe", topic),
    publish: (topic, message, { everywhere = false } = {}) =>
      write(`${everywhere ? "publish_all" : "publish"}/${topic}`, message),
    offer: (service, attributes = "") => give(`offer/${service}`, attributes),
    withdraw: (service) => write("withdraw", service),
    find: ({ service = "", label = "", everywhere = false } = {}) =>
      read(`find/${everywhere ? "everywhere" : "here"}/${service || "-"}/${label || "-"}`)
        .split("\n")
        .filter((line) => line)
        .map(found),
    meet: (agent) => ({
      agent,
      send: (message) => give(`send_here/${agent}`, message),
      receive: (timeout = null) => receive({ sender: agent, timeout }),
    }),
    recv(seconds = null) {
      const body = read(seconds === null ? "inbox" : `inbox/${Math.floor(seconds * 1000)}`);
      happens("message");
      return body;
    },
    accept: (seconds = null) => read(seconds === null ? "accept" : `accept/${Math.floor(seconds * 1000)}`),
    reply: (id, response) => write(`reply/${id}`, response),
    sender: () => read("sender"),
    sleep(seconds) {
      happens("sleeping");
      write("sleep", String(Math.floor(seconds * 1000)));
      happens("woken");
    },
    clone() {
      std.out.flush(); // else both would print it
      const child = read("clone") || null;
      happens("cloned");
      return child;
    },
    fork(count) {
      std.out.flush(); // else each would print it
      const [number, ...ids] = read(`fork/${count}`).split("\n");
      happens("cloned");
      return [Number(number), ids];
    },
    report: (key, value) => write(`report/${key}`, String(value)),
    log: (text, level = "info") => write(`log/${level}`, text),
    exit: (code = 0) => std.exit(code),
  };
})();

// Timers as elsewhere. An error that one of their functions throws ends the agent.
const { setTimeout, clearTimeout, setInterval, clearInterval } = (() => {
  const running = new Map(); // number -> timer of `os`
  let last = 0;

  function start(act, delay, values, again) {
    const number = ++last;
    const wait = () => running.set(number, os.setTimeout(run, Math.max(0, Number(delay) || 0)));
    const run = () => {
      if (again) wait();
      else running.delete(number);
      try {
        act(...values);
      } catch (error) {
        std.err.puts(`${error}\n${error?.stack ?? ""}\n`);
        std.exit(1);
      }
    };
    wait();
    return number;
  }

  function stop(number) {
    if (running.has(number)) os.clearTimeout(running.get(number));
    running.delete(number);
  }

  return {
    setTimeout: (act, delay, ...values) => start(act, delay, values, false),
    setInterval: (act, delay, ...values) => start(act, delay, values, true),
    clearTimeout: stop,
    clearInterval: stop,
  };
})();
