// Elements, texts and numbers. Whatever an agent wrote becomes a text node here, and nothing else: there is no markup
// from data anywhere, and the page's policy (trusted types) forbids it too.

const SVG = "http://www.w3.org/2000/svg";
// Characters that change how others are shown: a name must not look like another, or turn a line around.
const ODD = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]/g;

export function text(value, most = 2000) {
  const said = String(value ?? "");
  const shown = said.length > most ? said.slice(0, most) + "…" : said;
  return shown.replace(ODD, "\ufffd");
}

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(text(child, 20000)));
  }
  return element;
}

export const h = (tag, props, ...children) => filled(document.createElement(tag), props, children);
export const s = (tag, props, ...children) => filled(document.createElementNS(SVG, tag), props, children);
export const byId = (id) => document.getElementById(id);

export function show(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
}

// What somebody sees of an agent: its label, or the beginning of its id.
export const nameOf = (agent) => text(agent.label || agent.agent?.slice(0, 12) || "?", 64);
export const agentLink = (agent, most = 64) => h("a", { href: `#/agent/${encodeURIComponent(agent.agent)}`, class: "name" }, text(nameOf(agent), most));

export const count = (number, one, many = one + "s") => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export function duration(ms) {
  if (!Number.isFinite(ms)) return "";
  if (ms <= 0) return "0\u00a0ms";
  if (ms < 1) return `${(ms * 1000).toFixed(0)}\u00a0µs`;
  if (ms < 10) return `${ms.toFixed(1)}\u00a0ms`;
  if (ms < 1000) return `${ms.toFixed(0)}\u00a0ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)}\u00a0s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}\u00a0min ${Math.floor(seconds % 60)}\u00a0s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}\u00a0h ${Math.floor((seconds % 3600) / 60)}\u00a0min`;
  return `${Math.floor(seconds / 86400)}\u00a0d ${Math.floor((seconds % 86400) / 3600)}\u00a0h`;
}

export function size(bytes) {
  for (const [unit, power] of [["GiB", 30], ["MiB", 20], ["KiB", 10]]) {
    if (bytes >= 2 ** power) {
      const value = bytes / 2 ** power;
      return `${value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)}\u00a0${unit}`;
    }
  }
  return `${bytes}\u00a0B`;
}

export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

export function ago(ms, now) {
  const seconds = Math.max(0, Math.round((now - ms) / 1000));
  if (seconds < 2) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

const STANDINGS = ["ready", "waiting", "leaving", "asleep", "suspended", "stopped", "travelling", "finished", "disposed", "kept"];
export const known = (standing) => (STANDINGS.includes(standing) ? standing : "other");
const SHOWN = { ready: "running" };
export const standingText = (standing) => SHOWN[standing] ?? text(standing, 20);
export const pill = (standing) => h("span", { class: "pill", "data-standing": known(standing) }, standingText(standing));

export function later(work, ms) {
  // Calls of `work`, joined: once, so many milliseconds after the first.
  let timer = 0;
  const call = () => {
    if (!timer) timer = setTimeout(() => { timer = 0; work(); }, ms);
  };
  call.cancel = () => { clearTimeout(timer); timer = 0; };
  return call;
}

// Looks again where something happened that what was told cannot have in it yet: the station makes its tables now and then.
export class Later {
  constructor(work, least) { this.work = work; this.least = least; this.happenedAt = 0; this.timer = 0; }
  happened() { this.happenedAt = performance.now(); }
  told({ age_ms, again_ms }) {
    clearTimeout(this.timer);
    if (performance.now() - age_ms < this.happenedAt) this.timer = setTimeout(this.work, Math.max(again_ms + 100, this.least));
  }
  close() { clearTimeout(this.timer); }
}

let saidAt = 0;
export function say(words) {
  // For screen readers, and not more often than somebody can listen to.
  const now = Date.now();
  if (now - saidAt > 8000) { saidAt = now; byId("said").textContent = words; }
}

export function toast(words, bad = false) {
  const note = h("p", { class: bad ? "toast bad" : "toast" }, text(words, 600));
  byId("toasts").append(note);
  while (byId("toasts").childElementCount > 3) byId("toasts").firstElementChild.remove();
  setTimeout(() => note.remove(), bad ? 12000 : 6000);
}
