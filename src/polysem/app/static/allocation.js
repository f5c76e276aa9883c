// Allocation: a total fills the stack of curves; the widths follow.
import { ask, copyButton, element, facts, figurePlace, following, number } from "./parts.js";

export const title = "Allocation";
export const lead = "Many features share D dimensions. Each owns a capacity C, from 0 (ignored) over a part of a dimension (impure) to a dimension of its own (1, pure), and capacities add up to D at most. Capacity goes where it saves the most loss. Where returns diminish (kurtosis F above 3) all features that share end level, at one marginal benefit, the price μ.";
export const words = ["feature", "capacity C", "pure, impure, ignored", "importance v", "kurtosis F", "marginal benefit, returns", "price μ", "quadratic model"];
export const defaults = { n_features: 14, decay: 0.85, kurtosis: 12, total: 4, importances: "", kurtoses: "" };

export function mount(root, state, { keep, tell }) {
  let code = "";
  const stack = figurePlace("stack", 680);
  const widths = { loss: figurePlace("loss", 400), price: figurePlace("price", 400), kinds: figurePlace("kinds", 400) };
  const list = element("dl", { class: "facts", id: "facts", "aria-live": "polite" });
  const total = number("total", { label: "total capacity D in dimensions", min: 0, max: 14, step: 0.05 }, state, filled);
  total.classList.add("wide");
  const shape = [
    number("n_features", { label: "number of features", min: 1, max: 60, step: 1, whole: true }, state, reshaped),
    number("decay", { label: "importance of each feature, over that of the one before", min: 0.3, max: 1, step: 0.01 }, state, reshaped),
    number("kurtosis", { label: "kurtosis F of all features", min: 1.2, max: 100, log: true }, state, reshaped),
  ];
  const file = element("input", { type: "file", accept: ".csv,text/csv", id: "table" });
  const clear = element("button", { type: "button", hidden: !state.importances }, "Back to the sliders");
  const [copy, shown] = copyButton(() => code);
  root.append(
    element("div", { class: "controls" }, total, ...shape,
      element("div", { class: "control wide" }, element("label", { for: "table" }, "or your own features: a CSV with a column importance, and kurtosis or feature_probability (p of ±1 features, F = 1/p; without either F = 20)"), file, clear)),
    list, element("div", { class: "plots" }, stack),
    element("div", { class: "row" }, copy), shown,
    element("h2", {}, "How wide should it be? What each number of dimensions would do"), element("div", { class: "plots three" }, ...Object.values(widths)),
  );

  let later = 0;
  const shapes = () => { for (const control of shape) control.hidden = Boolean(state.importances); }; // a table says all that they say
  function reshaped() {
    shapes();
    if (!state.importances) total.limit(state.n_features);
    if (state.total > state.n_features && !state.importances) {
      state.total = state.n_features;
    }
    total.show();
    filled();
    clearTimeout(later);
    later = setTimeout(plan, 120);
  }
  function filled() {
    keep();
    fill();
  }
  const fill = following(async () => {
    const asked = { ...state };
    try {
      const answer = await ask("stack", "/api/allocation", asked);
      if (!answer) return;
      tell(null);
      code = answer.code;
      facts(list, answer.facts);
      total.limit(answer.numbers.n_features);
      total.show();
      await stack.draw(answer.figures.stack);
      root.dataset.drawn = `${asked.n_features},${asked.total}`;
    } catch (error) {
      tell(error);
    }
  });
  const plan = following(async () => {
    try {
      const answer = await ask("widths", "/api/allocation/widths", state);
      if (answer) await Promise.all(Object.entries(answer.figures).map(([name, figure]) => widths[name].draw(figure)));
    } catch (error) {
      tell(error);
    }
  });
  file.addEventListener("change", async () => {
    if (!file.files.length) return;
    try {
      const answer = await ask("table", "/api/allocation/table", {}, { method: "POST", body: file.files[0] });
      if (!answer) return;
      Object.assign(state, { importances: answer.numbers.importances, kurtoses: answer.numbers.kurtoses });
      state.total = Math.min(state.total, answer.numbers.n_features);
      clear.hidden = false;
      reshaped();
    } catch (error) {
      tell(error);
    }
  });
  clear.addEventListener("click", () => {
    Object.assign(state, { importances: "", kurtoses: "" });
    file.value = "";
    clear.hidden = true;
    reshaped();
  });
  shapes();
  total.limit(state.importances ? 300 : state.n_features);
  total.show();
  filled();
  plan();
  return () => clearTimeout(later);
}
