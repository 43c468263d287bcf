// All agents, as a table of which only the rows exist that can be seen. The station searches, sorts and cuts the pages.

import { get } from "./api.js";
import { Later, agentLink, ago, count, h, known, later, pill, show, text } from "./dom.js";

const ROW = 52;
const PAGE = 100;
const KEPT_PAGES = 12;
const STANDINGS = ["ready", "waiting", "leaving", "asleep", "suspended", "stopped", "travelling", "finished", "disposed", "kept"];
const SORTS = { since: "Latest first", label: "Name", station: "Station", standing: "Standing", hop: "Hops" };

export class Agents {
  constructor(main, tried, fields) {
    this.main = main;
    this.tried = tried;
    this.closed = false;
    this.pages = new Map();
    this.asked = new Set();
    this.found = 0;
    this.version = 0;
    this.at = 0;
    this.again = later(() => this.refresh(), 1500);
    this.newer = new Later(() => this.refresh(), 1500);
    this.typed = later(() => this.search(), 250);
    this.onscroll = () => this.draw();
    this.begin(fields);
  }

  close() {
    this.closed = true;
    this.again.cancel();
    this.typed.cancel();
    this.newer.close();
    window.removeEventListener("scroll", this.onscroll);
    window.removeEventListener("resize", this.onscroll);
  }

  begin(fields) {
    const option = (value, words, chosen) => h("option", { value, selected: value === chosen }, words);
    this.text = h("input", { type: "search", id: "search", placeholder: "Label, or the beginning of an id", maxlength: 100, value: fields.q ?? "", autocomplete: "off", spellcheck: "false", oninput: this.typed });
    this.station = h("select", { id: "station", onchange: () => this.search() }, option("", "All stations"));
    if (fields.station) this.station.append(option(fields.station, text(fields.station, 64), fields.station));
    this.standing = h("select", { id: "standing", onchange: () => this.search() }, option("", "Any standing"),
      STANDINGS.map((each) => option(each, each === "ready" ? "running" : each, fields.standing)));
    this.sort = h("select", { id: "sort", onchange: () => this.search() }, Object.entries(SORTS).map(([each, words]) => option(each, words, fields.sort ?? "since")));
    this.sum = h("p", { class: "sum", role: "status" });
    this.rows = h("div", { class: "rows", role: "rowgroup" });
    this.table = h("div", { class: "table card", role: "table", "aria-label": "Agents", onkeydown: (event) => this.key(event) },
      h("div", { role: "rowgroup" }, h("div", { class: "row titles", role: "row" }, ["Agent", "Station", "Standing", "Hops", "Since", "What it does"].map((each, index) =>
        h("span", { role: "columnheader", class: `c${index}` }, each)))),
      this.rows);
    show(this.main,
      h("div", { class: "head page-head" }, h("h1", {}, "Agents"), this.sum),
      h("form", { class: "tools", role: "search", onsubmit: (event) => event.preventDefault() },
        field("search", "Search", this.text), field("station", "Station", this.station), field("standing", "Standing", this.standing), field("sort", "Sort", this.sort)),
      this.table);
    window.addEventListener("scroll", this.onscroll, { passive: true });
    window.addEventListener("resize", this.onscroll);
    document.title = "Agents – Portcall";
    this.nameStations();
  }

  async nameStations() {
    const found = await this.tried(() => get("overview"));
    if (!found || this.closed) return;
    const chosen = this.station.value;
    for (const each of found.stations) {
      if (each.name !== chosen) this.station.append(h("option", { value: each.name }, text(each.name, 64)));
    }
  }

  search() {
    this.pages.clear();
    const fields = new URLSearchParams();
    for (const [name, value] of Object.entries(this.fields())) if (value && !(name === "sort" && value === "since")) fields.set(name, value);
    history.replaceState(null, "", "#/agents" + (fields.size ? "?" + fields : ""));
    window.scrollTo(0, 0);
    this.refresh();
  }

  fields() {
    return { q: this.text.value.trim(), station: this.station.value, standing: this.standing.value, sort: this.sort.value };
  }

  async refresh() {
    // Rows that are shown stay until newer ones are there.
    this.again.cancel();
    this.version += 1;
    this.asked.clear();
    await this.draw(true);
  }

  range() {
    const top = this.rows.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / ROW) - 6);
    return [first, Math.min(this.found || PAGE, first + Math.ceil(window.innerHeight / ROW) + 14)];
  }

  async draw(fresh = false) {
    if (this.closed) return;
    const [first, end] = this.range();
    const wanted = [];
    for (let page = Math.floor(first / PAGE); page <= Math.floor(Math.max(end - 1, first) / PAGE); page += 1) {
      if ((fresh || this.pages.get(page)?.version !== this.version) && !this.asked.has(page)) wanted.push(page);
    }
    if (!fresh) this.paint(first, end);
    await Promise.all(wanted.map((page) => this.load(page)));
  }

  async load(page) {
    const version = this.version;
    this.asked.add(page);
    const query = new URLSearchParams({ ...this.fields(), offset: page * PAGE, limit: PAGE });
    const found = await this.tried(() => get(`agents?${query}`));
    if (version === this.version) this.asked.delete(page);
    if (!found || this.closed || version !== this.version) return;
    this.pages.delete(page);
    this.pages.set(page, { version, rows: found.rows, at: Date.now() });
    if (this.pages.size > KEPT_PAGES) this.pages.delete(this.pages.keys().next().value);
    this.newer.told(found);
    this.found = found.found;
    this.total = found.total;
    this.sum.textContent = found.found === found.total ? count(found.total, "agent") : `${found.found.toLocaleString("en")} of ${count(found.total, "agent")}`;
    this.table.setAttribute("aria-rowcount", found.found + 1);
    this.rows.style.setProperty("height", `${Math.max(found.found, 1) * ROW}px`);
    this.paint(...this.range());
  }

  paint(first, end) {
    const held = document.activeElement?.closest?.("[data-index]")?.dataset.index;
    if (this.total !== undefined && !this.found) {
      show(this.rows, h("div", { class: "nobody", role: "row" }, h("span", { role: "cell" },
        this.total ? "No agent is like this. Change the search." : "No agents yet. portcall launch AGENT.py begins one.")));
      this.rows.style.setProperty("height", "auto");
      return;
    }
    const now = Date.now();
    const drawn = [];
    for (let index = first; index < end; index += 1) {
      const row = this.pages.get(Math.floor(index / PAGE))?.rows[index % PAGE];
      drawn.push(row ? this.row(row, index, now) : h("div", { class: "row ghost", role: "row", "aria-rowindex": index + 2, style: { top: `${index * ROW}px` } }));
    }
    show(this.rows, drawn);
    if (held !== undefined) this.rows.querySelector(`[data-index="${Number(held)}"] a`)?.focus({ preventScroll: true });
  }

  row(row, index, now) {
    const cell = (number, ...children) => h("span", { role: "cell", class: `c${number}` }, children);
    return h("div", { class: "row", role: "row", "aria-rowindex": index + 2, "data-index": index, "data-standing": known(row.standing), style: { top: `${index * ROW}px` } },
      cell(0, agentLink(row), h("span", { class: "id" }, row.agent.slice(0, 12))),
      cell(1, h("bdi", {}, text(row.station, 64))),
      cell(2, pill(row.standing)),
      cell(3, row.hop.toLocaleString("en")),
      cell(4, ago(row.since, now)),
      cell(5, h("bdi", {}, row.moving ? `moving to ${text(row.moving.to, 40)}` : text(row.text, 120))));
  }

  key(event) {
    const held = event.target.closest?.("[data-index]");
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -this.found, End: this.found }[event.key];
    if (!held || !step) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(this.found - 1, Number(held.dataset.index) + step));
    const top = this.rows.getBoundingClientRect().top + window.scrollY + next * ROW;
    if (top < window.scrollY + 140 || top > window.scrollY + window.innerHeight - 80) window.scrollTo(0, top - window.innerHeight / 2);
    this.paint(...this.range());
    const focus = () => this.rows.querySelector(`[data-index="${next}"] a`)?.focus({ preventScroll: true });
    focus();
    this.draw().then(focus);
  }

  happened(events, lost) {
    if (lost || events.some((each) => each.agent && each.kind !== "log" && each.kind !== "call" && each.kind !== "report")) {
      this.newer.happened();
      this.again();
    }
  }
}

const field = (id, words, input) => h("div", { class: "field" }, h("label", { for: id }, words), input);
