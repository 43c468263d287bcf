// What is asked of the station, and what it tells. Addresses are relative: the console may be mounted anywhere.

export class Refused extends Error {
  constructor(status, sentence) { super(sentence); this.status = status; }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(`api/${path}`, { credentials: "same-origin", cache: "no-store", redirect: "error", ...options });
  } catch {
    throw new Refused(0, "the station does not answer");
  }
  let value = {};
  try { value = await answer.json(); } catch { /* no sentence: a proxy answered */ }
  if (!answer.ok) throw new Refused(answer.status, value.error || `the station refuses this (${answer.status})`);
  return value;
}

export const get = (path) => ask(path);
export const post = (path, fields) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) });
export const aboutAgent = (ident, part = "") => get(`agents/${encodeURIComponent(ident)}${part ? "/" + part : ""}`); // part: of ours
export const doTo = (ident, what, fields) => post(`agents/${encodeURIComponent(ident)}/${what}`, fields);

export class Stream {
  // Events as they happen. After each interruption, and when the station says that something was left out, `sync`.
  constructor(onEvents, onSync, onState) {
    this.onEvents = onEvents; this.onSync = onSync; this.onState = onState;
    this.source = null; this.wait = 1000; this.timer = 0;
  }

  open() {
    this.close();
    this.onState("connecting");
    this.source = new EventSource("api/events");
    this.source.onopen = () => { this.wait = 1000; this.onState("live"); };
    this.source.addEventListener("sync", () => this.onSync());
    this.source.onmessage = (message) => {
      const { events, lost } = JSON.parse(message.data);
      this.onEvents(events, lost);
    };
    this.source.onerror = () => {
      this.source?.close();
      this.source = null;
      this.onState("off");
      clearTimeout(this.timer);
      this.timer = setTimeout(() => { this.open(); this.onSync(); }, this.wait);
      this.wait = Math.min(this.wait * 2, 15000);
    };
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }
}
