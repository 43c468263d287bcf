// A journey as a timeline: when an agent was where, how long it computed and waited there, how long it was in flight.

import { clock, count, duration, h, size, text } from "./dom.js";

// The stays that are known: those that stations signed, then the one that goes on.
export function staysOf(journey, agent) {
  const stays = (journey?.visits ?? []).map((each) => ({ ...each }));
  const over = ["finished", "disposed"].includes(agent.standing);
  if (agent.here && !over && !stays.some((each) => each.visit === agent.hop)) {
    const cpu = agent.budget?.find((each) => each.name === "cpu")?.here ?? 0;
    stays.push({ visit: agent.hop, station: agent.station, arrived: agent.since, departed: null, cpu_us: cpu, next: null });
  }
  return stays;
}

export function timeline(journey, agent, now) {
  const stays = staysOf(journey, agent);
  if (!stays.length) return h("p", { class: "empty" }, "No station has told of a stay yet.");
  const begin = Math.min(...stays.map((each) => each.arrived));
  const end = Math.max(...stays.map((each) => each.departed ?? now), begin + 1);
  const part = (ms) => Math.max(0, Math.min(100, (100 * ms) / (end - begin)));
  let computed = 0, waited = 0, flown = 0;
  const rows = stays.map((stay, index) => {
    const last = stay.departed ?? now;
    const length = Math.max(0, last - stay.arrived);
    const work = Math.min(stay.cpu_us / 1000, length || stay.cpu_us / 1000);
    const wait = Math.max(0, length - work);
    const flight = index ? Math.max(0, stay.arrived - (stays[index - 1].departed ?? stay.arrived)) : 0;
    computed += work; waited += wait; flown += flight;
    const bar = h("div", { class: "bar-track", "aria-hidden": "true" });
    if (flight) bar.append(h("i", { class: "flight", style: { left: `${part(stay.arrived - flight - begin)}%`, width: `${part(flight)}%` } }));
    bar.append(h("i", { class: stay.departed ? "stay" : "stay open", style: { left: `${part(stay.arrived - begin)}%`, width: `${part(length)}%` } },
      h("i", { class: "work", style: { width: `${length ? Math.min(100, (100 * work) / length) : 100}%` } })));
    return h("li", { class: "stay-row" },
      h("span", { class: "stay-at" }, h("span", { class: "stay-index" }, stay.visit + 1), h("bdi", {}, text(stay.station, 64))),
      bar,
      h("span", { class: "stay-words" },
        h("b", {}, duration(length)), stay.departed ? "" : " so far",
        h("span", { class: "muted" }, `computed ${duration(work)}, waited ${duration(wait)}`, flight || index ? `, in flight ${duration(flight)}` : "")));
  });
  return [
    h("dl", { class: "sums" },
      sum("Computed", duration(computed), "work"), sum("Waited", duration(waited), "stay"), sum("In flight", duration(flown), "flight"),
      sum("In all", duration(end - begin)), sum("Hops", String(agent.hop))),
    journey?.earlier_visits ? h("p", { class: "muted" }, `${count(journey.earlier_visits, "earlier stay")} not shown: portcall trail shows all.`) : null,
    h("ol", { class: "timeline", "aria-label": `${count(stays.length, "stay")}, from ${clock(begin)} to ${clock(end)}` }, rows),
    h("p", { class: "axis muted", "aria-hidden": "true" }, h("span", {}, clock(begin)), h("span", {}, clock(end))),
  ];
}

const sum = (name, value, mark) => h("div", {}, h("dt", {}, mark && h("i", { class: `key ${mark}` }), name), h("dd", {}, value));

export function verdicts(journey) {
  const shown = { true: ["holds", "holds"], false: ["FAILS", "fails"], null: ["not reached", "open"] };
  const mark = (holds) => h("span", { class: `verdict ${shown[holds][1]}` }, shown[holds][0]);
  return [
    h("p", { class: journey.holds ? "notice good" : "notice bad" }, journey.holds
      ? `Every signature holds${journey.ended ? ", to the end of the journey" : ", as far as it has come"}.`
      : `${journey.code}: ${text(journey.reason, 600)}`),
    h("ul", { class: "checks" }, journey.checks.map((each) => h("li", {}, each.name, " ", mark(each.holds)))),
    h("details", {}, h("summary", {}, `${count(journey.signatures.length + journey.earlier_signatures, "signature")}, one by one`),
      journey.earlier_signatures ? h("p", { class: "muted" }, `${count(journey.earlier_signatures, "earlier one")} not shown.`) : null,
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Signatures" }, h("table", {},
        h("thead", {}, h("tr", {}, ["Stay", "Statement", "Signed by", "Verdict"].map((each) => h("th", { scope: "col" }, each)))),
        h("tbody", {}, journey.signatures.map((each) => h("tr", {},
          h("td", {}, each.visit === undefined ? "" : each.visit + 1), h("td", {}, each.what), h("td", {}, h("bdi", {}, text(each.by, 80))),
          h("td", {}, mark(each.holds), each.why ? h("span", { class: "muted" }, " ", text(each.why, 300)) : ""))))))),
  ];
}

export function results(journey) {
  if (!journey.result_count) return h("p", { class: "empty" }, "It has reported nothing.");
  if (!journey.opened) {
    return [
      h("p", { class: "muted" }, "They are sealed to the agent's owner: portcall results opens them with the owner's key."),
      h("ul", { class: "plain" }, journey.results.map((each) => h("li", {}, h("bdi", {}, text(each.station, 64)), ` at ${clock(each.time)}, ${size(each.bytes)}, sealed`))),
    ];
  }
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Results" }, h("table", { class: "results" },
    h("thead", {}, h("tr", {}, ["Key", "Value", "From"].map((each) => h("th", { scope: "col" }, each)))),
    h("tbody", {}, journey.results.map((each) => h("tr", {},
      h("td", {}, h("bdi", {}, text(each.key, 120))), h("td", {}, h("pre", {}, text(each.value, 2000))), h("td", {}, h("bdi", {}, text(each.station, 64))))))));
}
