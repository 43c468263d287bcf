// The first view: the map, the stations with their queues and budgets, and what happens now.

import { get } from "./api.js";
import { StationMap } from "./map.js";
import { Later, agentLink, clock, count, h, later, pill, show, size, text } from "./dom.js";

const KEPT_LINES = 60;
const FEED = {
  launched: "begins here", arrived: "arrived from", left: "left for", leaving: "wants to go to", refused: "was refused by",
  finished: "ended with", stopped: "was stopped", disposed: "was disposed of", cloned: "was cloned", moving: "is being moved to",
  moved: "was moved to", call: "called", report: "reported", serving: "serves clients", resumed: "goes on", home: "is home again", alarm: "ALARM",
};
const NEWS = new Set(["launched", "arrived", "left", "finished", "stopped", "disposed", "cloned", "upgraded", "refused", "moved", "home", "alarm", "peer", "waiting"]);

export class Overview {
  constructor(main, tried) {
    this.main = main;
    this.tried = tried;
    this.map = null;
    this.closed = false;
    this.lines = [];
    this.again = later(() => this.refresh(), 4000);
    this.newer = new Later(() => this.refresh(), 4000);
    this.drawLines = later(() => this.showLines(), 200);
  }

  close() {
    this.closed = true;
    this.map?.close();
    this.again.cancel();
    this.newer.close();
    this.drawLines.cancel();
  }

  async refresh() {
    this.again.cancel();
    const found = await this.tried(() => get("overview"));
    if (!found || this.closed) return;
    this.own = new Set(found.stations.filter((each) => each.own).map((each) => each.name));
    if (!this.map) this.begin();
    this.newer.told(found);
    this.map.set(found.stations);
    this.showStations(found);
    document.title = "Map – Portcall";
  }

  begin() {
    this.cards = h("div", { class: "cards" });
    this.feed = h("ol", { class: "feed", "aria-label": "What happens, the newest first", tabindex: "0" });
    const holder = h("div", { class: "holder" });
    show(this.main,
      h("h1", { class: "unseen" }, "Stations and agents"),
      h("div", { class: "overview" },
        h("section", { class: "card mapcard", "aria-labelledby": "map-title" },
          h("div", { class: "head" }, h("h2", { id: "map-title" }, "Map"), legend()), holder),
        h("section", { class: "side", "aria-labelledby": "stations-title" }, h("h2", { id: "stations-title" }, "Stations"), this.cards),
        h("section", { class: "card feedcard", "aria-labelledby": "feed-title" }, h("h2", { id: "feed-title" }, "Happening now"), this.feed)));
    this.map = new StationMap(holder);
    this.showLines();
  }

  showStations({ stations, doubts }) {
    const own = stations.filter((each) => each.own);
    const others = stations.filter((each) => !each.own);
    show(this.cards,
      doubts.length > 0 && h("p", { class: "notice bad" }, `${count(doubts.length, "handoff")} without an end: portcall agents says what to decide.`),
      own.map((each) => stationCard(each)),
      others.length > 0 && h("p", { class: "muted others" }, "Also seen: ", others.map((each, index) => [index ? ", " : "", h("bdi", {}, text(each.name, 64))])));
  }

  happened(events, lost) {
    if (!this.map) return;
    for (const each of events) {
      if (each.kind === "left") this.map.fly(each.station, each.place);
      else if (each.kind === "arrived" && !this.own.has(each.place)) this.map.fly(each.place, each.station);
      if (FEED[each.kind]) this.lines.unshift(each);
    }
    this.lines.length = Math.min(this.lines.length, KEPT_LINES);
    this.drawLines();
    if (lost || events.some((each) => NEWS.has(each.kind))) {
      this.newer.happened();
      this.again();
    }
  }

  showLines() {
    if (!this.feed) return;
    if (!this.lines.length) {
      show(this.feed, h("li", { class: "empty" }, "Nothing has happened since you opened this page."));
      return;
    }
    show(this.feed, this.lines.map((each) => h("li", { "data-kind": each.kind },
      h("time", {}, clock(each.time)),
      h("span", { class: "what" }, each.agent ? agentLink(each, 32) : h("b", {}, text(each.station, 32)), " ", FEED[each.kind], " ",
        h("bdi", { class: "place-name" }, text(each.place, 48)),
        each.kind === "finished" ? ` code ${text(each.text, 12)}` : each.kind === "report" || each.kind === "refused" || each.kind === "stopped" || each.kind === "alarm" ? h("bdi", { class: "muted" }, " " + text(each.text, 90)) : ""),
      h("span", { class: "at" }, text(each.station, 32)))));
  }
}

function legend() {
  return h("p", { class: "legend", "aria-hidden": "true" }, ["ready", "waiting", "leaving", "asleep", "stopped"].map((each) =>
    h("span", {}, h("i", { "data-standing": each }), each === "ready" ? "running" : each)));
}

function stationCard(station) {
  const name = h("bdi", {}, text(station.name, 64));
  if (!station.present) return h("article", { class: "card station" }, h("h3", {}, name), h("p", { class: "muted" }, "It does not run."));
  const running = Math.max(0, station.busy - station.queue);
  return h("article", { class: "card station" },
    h("div", { class: "head" }, h("h3", {}, name), h("a", { href: `#/agents?station=${encodeURIComponent(station.name)}` }, count(station.agents, "agent"))),
    meter("Threads", running, station.threads, `${running} of ${station.threads} in use`),
    meter("Memory", station.memory, station.memory_limit, `${size(station.memory)} of ${size(station.memory_limit)}`),
    h("dl", { class: "facts" },
      fact("Queue", station.queue ? count(station.queue, "agent") : "empty"),
      fact("On their way here", station.sessions.length ? String(station.sessions.length) : "none"),
      fact("Services", station.services.length ? station.services.slice(0, 12).map((each) => text(each, 60)).join(", ") : "none")),
    Object.keys(station.standings ?? {}).length > 0 && h("p", { class: "pills" }, Object.entries(station.standings).sort().map(([standing, number]) =>
      h("a", { href: `#/agents?station=${encodeURIComponent(station.name)}&standing=${encodeURIComponent(standing)}`, "aria-label": `${number} ${standing}` }, pill(standing), h("b", {}, number.toLocaleString("en"))))),
    station.loosened.map((each) => h("p", { class: "notice" }, each)));
}

const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

export function meter(name, value, most, words) {
  const part = most > 0 ? Math.min(value / most, 1) : 0;
  return h("div", { class: "meter" },
    h("span", { class: "meter-name" }, name), h("span", { class: "meter-words" }, words),
    h("div", { class: part > 0.9 ? "track full" : "track", role: "meter", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": most, "aria-valuenow": Math.min(value, most), "aria-valuetext": words },
      h("div", { class: "fill", style: { width: `${(100 * part).toFixed(1)}%` } })));
}
