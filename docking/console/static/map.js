// Stations as places, agents as points that move between them. Drawn for the width that there is; text keeps its size.

import { count, known, nameOf, s, show, text } from "./dom.js";

const GOLDEN = 2.399963;
const MOST_DOTS = 40;
const MOST_FLYING = 60;
const FLIGHT_MS = 900;
const still = matchMedia("(prefers-reduced-motion: reduce)");

// A few on a circle, the first at the top, two side by side; more in rows. Circles and words never lie on each other.
function placed(number, width) {
  const few = number <= (width < 600 ? 4 : 6);
  const words = 58;
  if (!few) {
    const columns = Math.max(2, Math.min(Math.round(Math.sqrt((number * width) / 520)), Math.floor(width / 96)));
    const cell = width / columns;
    const radius = Math.min(cell * 0.31, 72);
    const row = 2 * radius + words;
    const points = Array.from({ length: number }, (_, place) => [(place % columns + 0.5) * cell, Math.floor(place / columns) * row + radius + 12]);
    return { radius, points, height: Math.ceil(number / columns) * row + 12 };
  }
  const height = Math.round(Math.min(width < 600 ? width * 1.05 : width * 0.62, number < 3 ? 340 : 520));
  const radius = Math.min(Math.min(width, height) * (number > 3 || width < 600 ? 0.14 : 0.17), 84);
  const ring = number < 3 ? [[0, 0], [1, 0]].slice(0, number) : Array.from({ length: number }, (_, place) => {
    const angle = -Math.PI / 2 + (2 * Math.PI * place) / number;
    return [Math.cos(angle), Math.sin(angle)].map((each) => Math.round(each * 1e6) / 1e6);
  });
  const fit = (axis, room, middle) => {
    const values = ring.map((each) => each[axis]);
    const low = Math.min(...values), high = Math.max(...values);
    return (value) => middle + (high > low ? ((value - low) / (high - low) - 0.5) * room : 0);
  };
  const across = fit(0, Math.min(width - 2 * radius - 60, 760), width / 2);
  const down = fit(1, height - 2 * radius - words - 8, height / 2 - 18);
  return { radius, points: ring.map(([x, y]) => [across(x), down(y)]), height };
}

export class StationMap {
  constructor(holder) {
    this.holder = holder;
    this.stations = [];
    this.nodes = new Map();
    this.flying = new Set();
    this.frame = 0;
    this.lanes = s("g", { class: "lanes", "aria-hidden": "true" });
    this.places = s("g", { class: "places" });
    this.sky = s("g", { class: "sky", "aria-hidden": "true" });
    this.svg = s("svg", { class: "map", role: "group", "aria-label": "Map of stations" }, this.lanes, this.places, this.sky);
    show(holder, this.svg);
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(holder);
  }

  close() {
    this.watch.disconnect();
    cancelAnimationFrame(this.frame);
  }

  set(stations) {
    this.stations = stations;
    this.draw();
  }

  draw() {
    const width = Math.max(this.holder.clientWidth, 240);
    const { radius, points, height } = placed(this.stations.length, width);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    this.nodes.clear();
    const drawn = this.stations.map((station, place) => {
      const node = { station, x: points[place][0], y: points[place][1], radius };
      this.nodes.set(station.name, node);
      return this.place(node);
    });
    show(this.lanes);
    this.laneOf = new Map();
    show(this.places, drawn);
  }

  place(node) {
    const { station, x, y, radius } = node;
    const total = Object.values(station.standings ?? {}).reduce((sum, each) => sum + each, 0);
    const shown = (station.some ?? []).slice(0, MOST_DOTS);
    const here = total ? count(total, "agent") : "no agents";
    const away = station.present === false;
    node.dots = s("g", { class: "dots", "aria-hidden": "true" });
    node.group = s("a", {
      href: `#/agents?station=${encodeURIComponent(station.name)}`, class: `place${station.own ? " own" : ""}${away ? " away" : ""}`,
      "aria-label": `${text(station.name, 64)}: ${here}${away ? ", not seen now" : ""}`,
    },
      s("circle", { class: "ground", cx: x, cy: y, r: radius }), node.dots,
      s("text", { class: "title", x, y: y + radius + 19, "text-anchor": "middle" }, text(station.name, radius < 30 ? 9 : 18)),
      s("text", { class: "number", x, y: y + radius + 35, "text-anchor": "middle" }, away ? "not seen now" : radius < 24 ? (total || "") : here));
    this.dots(node, shown);
    return node.group;
  }

  dots(node, agents) {
    const room = Math.max(agents.length, 7);
    const dot = Math.max(1.8, Math.min(6.5, (node.radius * 0.5) / Math.sqrt(room)));
    show(node.dots, agents.map((agent, index) => {
      const away = (node.radius - dot - 5) * Math.sqrt((index + 0.5) / room);
      const cx = node.x + away * Math.cos(index * GOLDEN), cy = node.y + away * Math.sin(index * GOLDEN);
      return s("circle", { class: "dot", "data-standing": known(agent.standing), cx, cy, r: dot }, s("title", {}, nameOf(agent)));
    }));
  }

  // An agent goes from one place to another.
  fly(from, to) {
    const a = this.nodes.get(from), b = this.nodes.get(to);
    if (!a || !b || a === b) return;
    const middle = { x: (a.x + b.x) / 2 - (b.y - a.y) * 0.16, y: (a.y + b.y) / 2 + (b.x - a.x) * 0.16 };
    this.warm(from, to, `M${a.x} ${a.y}Q${middle.x} ${middle.y} ${b.x} ${b.y}`);
    if (still.matches || document.hidden || this.flying.size >= MOST_FLYING) return;
    const point = s("circle", { class: "flyer", r: 5 });
    this.sky.append(point);
    this.flying.add({ point, a, b, middle, began: performance.now() });
    if (this.flying.size === 1) this.frame = requestAnimationFrame((now) => this.step(now));
  }

  step(now) {
    for (const each of this.flying) {
      const part = Math.min((now - each.began) / FLIGHT_MS, 1);
      const t = part < 0.5 ? 2 * part * part : 1 - (2 - 2 * part) ** 2 / 2;
      const u = 1 - t;
      each.point.setAttribute("cx", u * u * each.a.x + 2 * u * t * each.middle.x + t * t * each.b.x);
      each.point.setAttribute("cy", u * u * each.a.y + 2 * u * t * each.middle.y + t * t * each.b.y);
      if (part === 1) { each.point.remove(); this.flying.delete(each); }
    }
    if (this.flying.size) this.frame = requestAnimationFrame((next) => this.step(next));
  }

  // The way between two places is drawn while agents use it.
  warm(from, to, path) {
    const name = `${from}\n${to}`;
    let lane = this.laneOf.get(name);
    if (!lane) {
      if (this.laneOf.size > 400) return;
      lane = s("path", { class: "lane", d: path });
      this.laneOf.set(name, lane);
      this.lanes.append(lane);
    }
    lane.classList.add("warm");
    clearTimeout(lane.cooling);
    lane.cooling = setTimeout(() => lane.classList.remove("warm"), 1500);
  }
}
