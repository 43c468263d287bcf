// A journey again, step by step: what the agent did, where it stood then, and what that changed.

import { aboutAgent } from "./api.js";
import { count, h, later, show, size, text } from "./dom.js";
import { framesOf } from "./stack.js";

export class Replay {
  constructor(holder, tried, ident) {
    this.holder = holder;
    this.tried = tried;
    this.ident = ident;
    this.index = -1;
    this.slid = later(() => this.go(Number(this.slider.value)), 150);
    show(holder,
      h("p", { class: "muted" }, "Where stations record, its journey can be gone through again: at each call, where it stood, and what had changed."),
      h("button", { type: "button", onclick: () => this.go(0, true), "data-replay": "open" }, "Look at it again"));
  }

  async go(step, again = false) {
    const found = await this.tried(() => aboutAgent(this.ident, `replay?step=${step}${again ? "&again=1" : ""}`));
    if (!found || !this.holder.isConnected) return;
    if (!this.slider) this.begin();
    this.found = found;
    this.fill(found);
  }

  begin() {
    const button = (name, words, step) => h("button", { type: "button", "data-replay": name, "aria-label": words, title: words, onclick: () => this.go(step()) }, { first: "⇤", hopback: "≪", back: "‹", on: "›", hop: "≫", last: "⇥" }[name]);
    const stop = (by) => {
      const { stays, index } = this.found;
      const firsts = stays.map((each) => each.first);
      return by > 0 ? firsts.find((each) => each > index) ?? this.found.steps - 1 : [...firsts].reverse().find((each) => each < index) ?? 0;
    };
    this.slider = h("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Step", oninput: this.slid });
    this.words = h("p", { class: "step", role: "status" });
    this.body = h("div", {});
    show(this.holder,
      h("div", { class: "steps", role: "group", "aria-label": "Steps of the journey" },
        button("first", "First step", () => 0), button("hopback", "Stop before", () => stop(-1)), button("back", "Step back", () => Math.max(this.index - 1, 0)),
        this.slider,
        button("on", "Next step", () => Math.min(this.index + 1, this.found.steps - 1)), button("hop", "Next stop", () => stop(1)), button("last", "Last step", () => this.found.steps - 1)),
      this.words, this.body);
    this.holder.addEventListener("keydown", (event) => {
      if (event.target === this.slider || !["n", "p"].includes(event.key) || event.ctrlKey || event.metaKey) return;
      this.go(Math.max(0, Math.min(this.found.steps - 1, this.index + (event.key === "n" ? 1 : -1))));
    });
  }

  fill(found) {
    this.index = found.index;
    this.slider.max = found.steps - 1;
    this.slider.value = found.index;
    this.slider.setAttribute("aria-valuetext", `step ${found.index + 1} of ${found.steps}, ${text(found.line, 120)}`);
    show(this.words, h("b", {}, `Step ${(found.index + 1).toLocaleString("en")} of ${found.steps.toLocaleString("en")}`), " at ", h("bdi", {}, text(found.station, 64)));
    const changed = new Set(found.changes.variables.map((each) => `${each.function}\n${each.name}`));
    show(this.body,
      h("ol", { class: "around", "aria-label": "Steps before and after" }, found.around.map((each) =>
        h("li", { class: each.index === found.index ? "now" : null, "aria-current": each.index === found.index ? "step" : null },
          h("button", { type: "button", class: "quiet", onclick: () => this.go(each.index) }, h("code", {}, text(each.line, 160)))))),
      found.notes.map((note) => h("p", { class: "notice" }, text(note, 300))),
      changesOf(found.changes),
      found.stack.frames.length ? framesOf(found.stack, found.sources, changed) : h("p", { class: "empty" }, text(found.stack.note, 300) || "It has not begun."));
  }
}

function changesOf(changes) {
  const rows = [
    ...changes.entered.map((each) => ["called", text(each, 120), ""]),
    ...changes.left.map((each) => ["returned", text(each, 120), ""]),
    ...changes.variables.map((each) => [text(each.name, 80), text(each.before, 200) || "(nothing)", text(each.after, 200) || "(nothing)"]),
    ...changes.results.map((each) => ["reported", text(each, 120), ""]),
    ...Object.entries(changes.files).map(([path, what]) => ["file", text(path, 160), text(what, 20)]),
  ];
  if (!rows.length && !changes.memory_bytes) return h("p", { class: "muted" }, "Nothing that is shown here has changed since the step before.");
  return h("details", { class: "changes", open: true }, h("summary", {}, `Since the step before${changes.memory_bytes ? `: ${size(changes.memory_bytes)} of memory` : ""}, ${count(rows.length, "change")}`),
    h("table", { class: "variables" }, h("tbody", {}, rows.map(([name, before, after]) =>
      h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, before, after ? " → " : "", after ? h("b", {}, after) : ""))))));
}
