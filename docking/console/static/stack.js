// A stack: its frames, each with the place in its source, where that travels with the agent, and its variables.

import { h, text } from "./dom.js";

const SHOWN_LINES = 4; // of a source, before and after

export function framesOf(stack, sources, changed = new Set()) {
  const open = ownFrame(stack, sources);
  return h("ol", { class: "frames" }, stack.frames.map((frame, index) => h("li", {}, frameOf(frame, sources[frame.file], index === open, changed))));
}

// The innermost frame in a file that is not the library's: where a reader wants to look first.
function ownFrame(stack, sources) {
  const found = stack.frames.findIndex((each) => each.line && sources[each.file] !== undefined && !each.file.startsWith("/lib/"));
  return Math.max(found, 0);
}

function frameOf(frame, source, open, changed) {
  const place = frame.file ? `${text(frame.file, 120)}${frame.line ? `:${frame.line}` : ""}` : "";
  return h("details", { open },
    h("summary", {}, h("code", { class: "function" }, text(frame.function, 160)), place && h("span", { class: "muted" }, " ", place)),
    source !== undefined && frame.line ? sourceOf(source, frame.line) : null,
    frame.variables.length ? h("table", { class: "variables" }, h("caption", { class: "unseen" }, `Variables of ${text(frame.function, 80)}`), h("tbody", {}, frame.variables.map((each) =>
      h("tr", { class: changed.has(`${frame.function}\n${each.name}`) ? "changed" : null }, h("th", { scope: "row" }, text(each.name, 80)), h("td", {}, text(each.value, 400)))))) : h("p", { class: "muted" }, "No variables are known."));
}

function sourceOf(source, line) {
  const lines = source.split("\n");
  const first = Math.max(1, line - SHOWN_LINES);
  const last = Math.min(lines.length, line + SHOWN_LINES);
  const rows = [];
  for (let number = first; number <= last; number += 1) {
    const now = number === line;
    rows.push(h("li", { value: number, class: now ? "now" : "", "aria-current": now ? "step" : null }, h("code", {}, text(lines[number - 1], 300) || " ")));
  }
  return h("ol", { class: "source", start: first, tabindex: "0", "aria-label": `Source, line ${line}` }, rows);
}

