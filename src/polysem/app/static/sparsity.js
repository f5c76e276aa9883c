// How rare features are: one knob with two scales, the chance p to be active and the kurtosis F.
import { ask, element, number } from "./parts.js";

const MOST = 1800; // kurtosis at the least chance on offer
const SAID = {
  quadratic: "The quadratic model computes Σᵢ vᵢ xᵢ². It sees the kurtosis F alone: below 3 returns increase, at 3 they are constant, and the most important features take a dimension each; above 3 returns diminish, and features share. p is that of features uniform on [−1, 1] while active.",
  others: "An autoencoder restores its inputs from D numbers. Features are uniform on [0, 1] while active: the rarer, the larger their kurtosis F, which is at least 27/16. Rare features can share dimensions, since they seldom meet.",
};

// Of `feature_probability` and `kurtosis` in the state the one that was set last counts; the other stands at its default.
export function sparsity(state, defaults, { changed, tell }) {
  const shown = { feature_probability: state.feature_probability, kurtosis: Number(state.kurtosis) || "" };
  const chance = number("feature_probability", { label: "chance p that a feature is active", min: 0.001, max: 1, log: true }, shown, set);
  const kurtosis = number("kurtosis", { label: "or its kurtosis F", min: 1.01, max: MOST, log: true }, shown, set);
  const said = element("p", { class: "hint" });

  function set(name) {
    state.feature_probability = name === "kurtosis" ? defaults.feature_probability : shown.feature_probability;
    state.kurtosis = name === "kurtosis" ? shown.kurtosis : "";
    changed(name);
    pair();
  }
  // Shows what belongs to what was set; what an architecture cannot have becomes the nearest that it can.
  async function pair() {
    try {
      const { architecture, feature_probability, kurtosis: asked } = state;
      said.textContent = SAID[architecture] || SAID.others;
      const answer = await ask("inputs", "/api/live/inputs", { architecture, feature_probability, kurtosis: asked });
      if (!answer) return;
      const { feature_probability: p, kurtosis: F, least } = answer.numbers;
      const short = (value) => Number(value.toPrecision(4));
      kurtosis.limit(MOST, least);
      if (asked === "" || F > asked * (1 + 1e-9)) {
        shown.kurtosis = short(F);
        kurtosis.show();
      }
      if (asked !== "") {
        shown.feature_probability = p === null ? "" : short(p);
        chance.show();
        if (F > asked * (1 + 1e-9)) {
          state.kurtosis = F;
          changed("kurtosis");
        }
      }
    } catch (error) {
      tell(error);
    }
  }
  pair();
  return { controls: [chance, kurtosis, said], pair };
}
