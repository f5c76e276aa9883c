// Which view is open, its address, and the theme.
import { element, recolour } from "./parts.js";
import { words } from "./words.js";
import * as phase from "./phase.js";
import * as allocation from "./allocation.js";
import * as geometry from "./geometry.js";
import * as interventions from "./interventions.js";
import * as models from "./models.js";

const VIEWS = { phase, allocation, geometry, interventions, models };
const place = document.getElementById("view");
const bar = document.getElementById("views");
let leave = () => {};

function addressOf(name, state) {
  const changed = Object.entries(state).filter(([key, value]) => String(value) !== String(VIEWS[name].defaults[key]));
  return `/?${new URLSearchParams([["view", name], ...changed])}`;
}

function open() {
  leave();
  const query = new URLSearchParams(location.search);
  const name = Object.hasOwn(VIEWS, query.get("view")) ? query.get("view") : "phase";
  const view = VIEWS[name];
  const state = { ...view.defaults };
  for (const key of Object.keys(state)) {
    if (!query.has(key)) continue;
    const value = typeof state[key] === "number" ? Number(query.get(key)) : query.get(key);
    if (typeof value === "string" || Number.isFinite(value)) state[key] = value;
  }
  for (const link of bar.children) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view.title} · polysem`;
  const error = element("p", { class: "error", role: "alert" });
  const body = element("div");
  place.replaceChildren(element("h1", {}, view.title), element("p", { class: "lead" }, view.lead), words(view.words), error, body);
  const tell = (problem) => { error.textContent = problem ? problem.message : ""; };
  const keep = () => { if (body.isConnected) history.replaceState(null, "", addressOf(name, state)); }; // not of a view that was left
  leave = view.mount(body, state, { keep, tell }) || (() => {});
}

for (const [name, view] of Object.entries(VIEWS)) {
  const link = element("a", { href: `/?view=${name}`, "data-view": name }, view.title);
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    open();
    place.focus();
  });
  bar.append(link);
}

const wanted = window.matchMedia("(prefers-color-scheme: dark)");
function dress(theme) {
  document.documentElement.dataset.theme = theme;
  recolour();
}
const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
document.getElementById("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("theme", theme); } catch { /* a private window keeps nothing */ }
  dress(theme);
});
wanted.addEventListener("change", () => { if (!stored()) dress(wanted.matches ? "dark" : "light"); });
dress(stored() || (wanted.matches ? "dark" : "light"));
window.addEventListener("popstate", open);
open();
