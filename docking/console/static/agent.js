// One agent: its journey, what it is doing, what it printed and reported, and what can be done with it.

import { aboutAgent, doTo, get } from "./api.js";
import { Later, clock, count, h, later, nameOf, pill, show, size, text, toast } from "./dom.js";
import { meter } from "./overview.js";
import { results, timeline, verdicts } from "./journey.js";
import { Replay } from "./replay.js";
import { framesOf } from "./stack.js";

const CALM = ["waiting", "asleep", "stopped", "suspended"];
const OVER = ["finished", "disposed"];

export class AgentPage {
  constructor(main, tried, ident) {
    this.main = main;
    this.tried = tried;
    this.ident = ident;
    this.closed = false;
    this.journey = null;
    this.stackFor = "";
    this.again = later(() => this.refresh(), 700);
    this.newer = new Later(() => this.refresh(), 700);
  }

  close() {
    this.closed = true;
    this.again.cancel();
    this.newer.close();
    document.querySelector("dialog")?.remove();
  }

  async refresh() {
    this.again.cancel();
    const [agent, journey] = await Promise.all([this.tried(() => aboutAgent(this.ident)), aboutAgent(this.ident, "journey").catch((error) => ({ problem: error.message }))]);
    if (this.closed) return;
    if (!agent) {
      if (!this.parts) show(this.main, h("h1", {}, "Agent"), h("p", { class: "empty" }, "Nothing is known of this agent here. ", h("a", { href: "#/agents" }, "All agents")));
      return;
    }
    this.agent = agent;
    this.journey = journey;
    if (!journey.problem) this.newer.told(journey);
    if (!this.parts) this.begin();
    this.fill();
  }

  begin() {
    const part = (name) => h("div", { class: `part-${name}` });
    this.parts = { head: part("head"), moving: part("moving"), journey: part("journey"), stack: part("stack"), replay: part("replay"), log: part("log"), results: part("results"), trail: part("trail"), facts: part("facts"), budget: part("budget"), messages: part("messages") };
    const card = (name, title) => h("section", { class: "card", "data-part": name, "aria-labelledby": `${name}-title` }, h("h2", { id: `${name}-title` }, title), this.parts[name]);
    show(this.main,
      h("p", { class: "crumbs" }, h("a", { href: "#/agents" }, "Agents")),
      this.parts.head, this.parts.moving,
      h("div", { class: "agent-page" },
        h("div", { class: "wide" }, card("journey", "Journey"), card("stack", "Where it stands"), card("replay", "Step by step, back and forth"), card("log", "Log"), card("results", "Results")),
        h("div", { class: "narrow" }, card("facts", "About it"), card("budget", "Budget"), card("messages", "Messages"), card("trail", "Trail"))));
    this.replay = new Replay(this.parts.replay, this.tried, this.ident);
  }

  fill() {
    const { agent, journey, parts } = this;
    document.title = `${nameOf(agent)} – Portcall`;
    this.fillHead();
    show(parts.moving, agent.moving ? h("p", { class: "notice", role: "status" },
      `It is being moved to ${text(agent.moving.to, 64)}: round ${agent.moving.rounds}, ${size(agent.moving.sent_bytes)} of its memory sent ahead while it runs, ${count(agent.moving.resent_blocks, "block")} again.`)
      : this.movedSaid ? h("p", { class: "notice good", role: "status" }, `It was moved to ${this.movedSaid}`) : null);
    show(parts.journey, timeline(journey.problem ? null : journey, agent, agent.now));
    show(parts.log, agent.log.length ? h("ol", { class: "log", tabindex: "0", "aria-label": "Log, the newest last" }, agent.log.map((line) =>
      h("li", { "data-level": line.level }, h("time", {}, clock(line.time)), h("span", { class: "at" }, text(line.station, 24)), h("bdi", { class: "line" }, text(line.text, 1000)))))
      : h("p", { class: "empty" }, "It has printed nothing at these stations."));
    const log = parts.log.firstElementChild;
    log.scrollTop = log.scrollHeight;
    const gone = journey.problem ? h("p", { class: "empty" }, journey.problem) : null;
    if (!gone || !parts.trail.firstChild) {
      const open = parts.trail.querySelector("details")?.open;
      show(parts.trail, gone ?? verdicts(journey));
      if (open) parts.trail.querySelector("details").open = true;
      show(parts.results, gone ? h("p", { class: "empty" }, "None are known here.") : results(journey));
    }
    this.fillFacts();
    this.fillStack();
  }

  fillHead() {
    const { agent } = this;
    const name = nameOf(agent);
    const can = this.possible();
    const button = (what, words, run, kind = "") => can[what] ? h("button", { type: "button", class: kind, onclick: run, "data-do": what }, words) : null;
    const held = document.activeElement?.dataset?.do;
    show(this.parts.head,
      h("div", { class: "head page-head" },
        h("h1", {}, h("bdi", {}, name)), pill(agent.standing),
        h("span", { class: "muted" }, OVER.includes(agent.standing) ? "its journey is over" : `at ${text(agent.station, 64)}`, agent.text ? h("bdi", {}, `, ${text(agent.text, 200)}`) : "")),
      h("p", { class: "id" }, agent.agent),
      h("div", { class: "actions", role: "group", "aria-label": "What can be done" },
        button("sleep", "Sleep", () => this.order("sleep")),
        button("wake", "Wake", () => this.order("wake")),
        button("clone", "Clone", () => this.order("clone")),
        button("move", "Move …", () => this.askMove()),
        button("retract", "Call home …", () => this.askTwice("retract", "Call it home?", `${name} leaves what it is doing here, goes home, and goes on there. A go that it waits for is refused.`, "Call home")),
        button("dispose", "Dispose …", () => this.askTwice("dispose", "End this agent?", `${name} ends now, wherever it is. Its state is thrown away; what it has reported comes home. This cannot be taken back.`, "End it"), "danger")));
    if (held) this.parts.head.querySelector(`[data-do="${held}"]`)?.focus();
  }

  possible() {
    const { standing, here } = this.agent;
    if (OVER.includes(standing) || standing === "kept") return {};
    return {
      sleep: standing !== "asleep" && standing !== "stopped", wake: standing === "asleep" || standing === "waiting" || standing === "travelling",
      clone: standing !== "stopped", move: here && (standing === "ready" || standing === "waiting"), retract: true, dispose: true,
    };
  }

  async order(what) {
    const done = await this.tried(() => doTo(this.ident, "order", { what }));
    if (done) {
      toast(done.done === "sent" ? `${what}: sent after it` : done.clone ? `It was cloned, as ${done.clone.slice(0, 12)}` : `${what}: done`);
      this.again();
    }
  }

  askTwice(what, title, words, yes) {
    ask(title, [h("p", {}, words)], yes, what === "dispose", () => this.order(what));
  }

  async askMove() {
    const found = await this.tried(() => get("overview"));
    if (!found || this.closed) return;
    const names = found.stations.filter((each) => each.present !== false && each.name !== this.agent.station).map((each) => each.name);
    const to = h("select", { id: "to" }, h("option", { value: "next" }, "its next stop"), names.map((each) => h("option", { value: each }, text(each, 64))), h("option", { value: "home" }, "home"));
    const late = h("select", { id: "late" }, h("option", { value: "cancel" }, "it stays here"), h("option", { value: "force" }, "it stops, and goes"), h("option", { value: "post-copy" }, "it goes, and the rest comes after it"));
    ask("Move it while it runs?", [
      h("p", {}, "Its memory is sent ahead; it stands still for a moment only. Its itinerary decides where it may go."),
      h("label", { for: "to" }, "Where to"), to, h("label", { for: "late" }, "If it writes faster than can be sent"), late,
    ], "Move", false, async () => {
      const done = await this.tried(() => doTo(this.ident, "move", { to: to.value, on_timeout: late.value }));
      if (!done) return;
      this.movedSaid = `${text(done.to, 64)}: it stood still for ${(done.downtime_us / 1000).toFixed(1)} ms, ${size(done.sent_bytes)} were sent ahead in ${count(done.rounds, "round")}, ${(done.total_us / 1e6).toFixed(1)} s in all.`;
      toast(`Moved to ${this.movedSaid}`);
      this.again();
    });
  }

  fillFacts() {
    const { agent, parts } = this;
    const row = (name, value, kind = "") => value === "" || value === undefined || value === null ? null : h("div", {}, h("dt", {}, name), h("dd", { class: kind }, h("bdi", {}, value)));
    show(parts.facts, h("dl", { class: "facts tall" },
      row("Waits", agent.waits || ""), row("Until", agent.until ? clock(agent.until) : ""), row("Order", agent.order || ""),
      row("Home", text(agent.home ?? "", 64)), row("Hops", agent.hops ? `${agent.hop.toLocaleString("en")} of ${agent.hops.toLocaleString("en")}` : agent.hop),
      row("Program", agent.program ? `${text(agent.program, 64)}${agent.language ? ` (${text(agent.language, 30)})` : ""}` : ""),
      row("Here since", agent.here ? clock(agent.since) : ""), row("Passport until", agent.expires ? new Date(agent.expires).toLocaleString("en-GB") : ""),
      row("Owner", text(agent.owner ?? "", 70), "mono"), row("May use", agent.capabilities?.length ? agent.capabilities.map((each) => text(each, 60)).join(", ") : "")));
    const words = { cpu: (us) => `${(us / 1e6).toFixed(us < 1e7 ? 2 : 0)} s`, memory: size, carried: size, messages: (number) => number.toLocaleString("en") };
    const names = { cpu: "Processor time", memory: "Memory, at most", carried: "Carried", messages: "Messages and calls" };
    show(parts.budget, agent.budget ? agent.budget.map((each) => meter(names[each.name], each.used, each.permit, `${words[each.name](each.used)} of ${words[each.name](each.permit)}`))
      : h("p", { class: "empty" }, "Its budget is known where it is."));
    show(parts.messages, agent.inbox?.length ? [
      h("p", { class: "muted" }, `${count(agent.unread, "message")} that it has not read`),
      h("ul", { class: "plain" }, agent.inbox.map((each) => h("li", {}, h("b", {}, "from ", h("bdi", {}, text(each.from, 20))), ` ${size(each.bytes)} `, h("bdi", { class: "line" }, text(each.text, 500))))),
    ] : h("p", { class: "empty" }, agent.here ? "It has read all that came." : "Its messages are where it is."));
  }

  fillStack() {
    const { agent, parts } = this;
    const mark = `${agent.standing} ${agent.hop} ${agent.station} ${agent.waits}`;
    if (!agent.here || agent.standing === "kept") {
      show(parts.stack, h("p", { class: "empty" }, OVER.includes(agent.standing) ? "It has ended: nothing is left of its stack." : "It is elsewhere: its stack is read at the station where it is."));
      this.stackFor = mark;
    } else if (this.stackFor !== mark) {
      this.stackFor = mark;
      if (CALM.includes(agent.standing)) this.readStack();
      else this.offerStack();
    }
  }

  offerStack() {
    if (this.parts.stack.querySelector(".frames")) return; // what was read stays until it is read again
    show(this.parts.stack, h("p", { class: "muted" }, "It runs. To read its stack, it is suspended for a moment; it does not notice."), h("button", { type: "button", onclick: () => this.readStack() }, "Read its stack"));
  }

  async readStack() {
    const found = await this.tried(() => aboutAgent(this.ident, "stack"));
    if (!found || this.closed) return;
    const { stack, sources } = found;
    show(this.parts.stack,
      h("p", { class: "muted" }, stack.frames.length ? `${stack.language === "python" ? "Python" : "WebAssembly"}, ${count(stack.frames.length, "frame")}, the innermost first` : "It has not begun.",
        stack.note ? h("bdi", {}, `. ${text(stack.note, 400)}`) : "", " ", h("button", { type: "button", class: "quiet", onclick: () => this.readStack() }, "Read again")),
      framesOf(stack, sources));
  }

  happened(events, lost) {
    if (lost || events.some((each) => each.agent === this.ident)) {
      this.newer.happened();
      this.again();
    }
  }
}

function ask(title, content, yes, danger, run) {
  const before = document.activeElement;
  const no = h("button", { type: "button", value: "no" }, "Not now");
  const sure = h("button", { type: "button", class: danger ? "danger filled" : "main" }, yes);
  const dialog = h("dialog", { "aria-labelledby": "ask-title" }, h("h2", { id: "ask-title" }, title), content, h("div", { class: "actions end" }, no, sure));
  no.addEventListener("click", () => dialog.close());
  sure.addEventListener("click", () => { dialog.close(); run(); });
  dialog.addEventListener("close", () => { dialog.remove(); before?.isConnected && before.focus(); });
  document.body.append(dialog);
  dialog.showModal();
  no.focus();
}
