// The frame of the page: who is let in, which view is shown, and what happens, passed on to that view.

import { Refused, Stream, get, post } from "./api.js";
import { byId, count, h, say, show, toast } from "./dom.js";
import { Overview } from "./overview.js";
import { Agents } from "./agents.js";
import { AgentPage } from "./agent.js";

const main = byId("main");
const LIVE = { live: "live", connecting: "connecting …", off: "not connected, trying again" };
let view = null;
let inside = false;

const stream = new Stream(
  (events, lost) => {
    view?.happened(events, lost);
    const moved = events.filter((each) => each.kind === "arrived" || each.kind === "left").length;
    if (moved) say(`${count(moved, "agent")} moved`);
  },
  () => view?.refresh(),
  (state) => {
    byId("live").dataset.state = state;
    byId("live-text").textContent = LIVE[state];
  },
);

// Given to the views: what they do when the station refuses.
export async function tried(work) {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) { askToken(inside ? "Your session is over." : ""); return null; }
    if (!(error instanceof Refused)) throw error;
    toast(error.message, true);
    return null;
  }
}

function route() {
  if (!inside) return;
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  const parts = path.split("/").filter(Boolean).map((each) => { try { return decodeURIComponent(each); } catch { return each; } });
  const fields = Object.fromEntries(new URLSearchParams(query));
  view?.close();
  let name = "map";
  if (parts[0] === "agents") { name = "agents"; view = new Agents(main, tried, fields); }
  else if (parts[0] === "agent" && parts[1]) { name = "agents"; view = new AgentPage(main, tried, parts[1]); }
  else view = new Overview(main, tried);
  for (const each of document.querySelectorAll("#views a")) {
    if (each.dataset.view === name) each.setAttribute("aria-current", "page"); else each.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
  view.refresh();
}

function askToken(why) {
  inside = false;
  stream.close();
  view?.close();
  view = null;
  for (const id of ["views", "live", "leave"]) byId(id).hidden = true;
  const field = h("input", { id: "token", type: "password", name: "token", autocomplete: "current-password", required: true, maxlength: 200, spellcheck: "false" });
  const problem = h("p", { class: "problem", role: "alert" }, why);
  const form = h("form", { class: "card entry" },
    h("h1", {}, "Console"),
    h("p", { class: "muted" }, "The station printed a link with a token when it started. Open that link, or enter the token here."),
    h("label", { for: "token" }, "Token"), field,
    h("button", { class: "main", type: "submit" }, "Look inside"), problem);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await post("enter", { token: field.value.trim() });
      begin();
    } catch (error) {
      problem.textContent = error.message;
      field.select();
    }
  });
  show(main, form);
  field.focus();
}

async function begin() {
  inside = true;
  for (const id of ["views", "live", "leave"]) byId(id).hidden = false;
  route();
  stream.open();
}

async function enter() {
  const given = /^#token=([A-Za-z0-9_.~-]{1,200})$/.exec(location.hash);
  if (given) {
    history.replaceState(null, "", location.pathname + "#/"); // not in the history, nor on the screen
    try { await post("enter", { token: given[1] }); } catch (error) { askToken(error.message); return; }
    begin();
    return;
  }
  try {
    await get("agents?limit=0");
  } catch (error) {
    askToken(error.status === 401 ? "" : error.message);
    return;
  }
  begin();
}

window.addEventListener("hashchange", () => {
  if (location.hash.startsWith("#token=")) { enter(); return; }
  route();
  main.focus({ preventScroll: true });
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) view?.refresh(); });
byId("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
byId("leave").addEventListener("click", async () => {
  await tried(() => post("leave", {}));
  askToken("You are logged out.");
});
enter();
