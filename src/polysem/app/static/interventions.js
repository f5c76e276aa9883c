// Interventions: a price on sharing, and features that are masked.
import { element, number } from "./parts.js";
import { ARCHITECTURES, controlsOf, player } from "./live.js";

export const title = "Interventions";
export const lead = "The same kind of network as under Geometry, trained and then changed: a penalty on sharing makes features monosemantic (each has a dimension of its own or none), and features can be masked, so that the others have more room. Both cost loss. How much?";
export const words = ["feature", "capacity C", "pure, impure, ignored", "penalty κ", "importance v", "kurtosis F", "marginal benefit, returns", "quadratic model", "autoencoder", "start"];
export const defaults = {
  architecture: "quadratic", n_features: 6, d_hidden: 2, feature_probability: 0.1, kurtosis: "", decay: 0.9, n_seeds: 2, shown: 1, seed: 0, steps: 400, turn: 30, tilt: 20,
  share: 0, masked: "",
};

export function mount(root, state, { keep, tell }) {
  const share = number("share", { label: "penalty κ Σ C (1 − C) on sharing: κ as a part of what is always enough (at 1 no feature's returns diminish any more, and sharing never pays)", min: 0.001, max: 1, log: true }, state, changed);
  share.classList.add("wide");
  const none = element("button", { type: "button", id: "no-penalty", onclick: () => {
    state.share = 0;
    share.show();
    changed();
  } }, "No penalty");
  const features = element("div", { class: "row", role: "group", "aria-label": "Features to mask", id: "features" });
  const shape = controlsOf({ architectures: Object.keys(ARCHITECTURES), most: 20, defaults }, state, {
    tell,
    changed: (name) => {
      if (name === "n_features") state.masked = masked().filter((feature) => feature <= state.n_features).slice(0, state.n_features - 1).join(",");
      changed();
    },
  });
  const training = player(root, state, {
    path: "/api/interventions/train", figures: ["embedding", "capacity", "loss", "index"], keep, tell,
    controls: [
      element("div", { class: "controls" }, share, none),
      element("p", {}, "Mask features: press their numbers, or click their bars. The model is then trained without them."), features, ...shape,
    ],
  });

  function masked() {
    return state.masked.split(",").filter(Boolean).map(Number);
  }
  function toggle(feature) {
    const now = new Set(masked());
    if (!now.delete(feature)) now.add(feature);
    if (now.size >= state.n_features) {
      tell(new Error("One feature must stay."));
      return;
    }
    state.masked = [...now].sort((a, b) => a - b).join(",");
    changed();
  }
  function show() {
    const now = masked();
    features.replaceChildren(...Array.from({ length: state.n_features }, (_, index) => element("button", {
      type: "button", "aria-pressed": String(now.includes(index + 1)), "data-feature": index + 1,
      "aria-label": `Mask feature ${index + 1}`, onclick: () => {
        toggle(index + 1);
        features.children[index].focus();
      },
    }, now.includes(index + 1) ? `${index + 1} masked` : `${index + 1}`)));
  }
  function changed() {
    show();
    training.changed();
  }
  training.places.capacity.onfirst = (plot) => plot.on("plotly_click", (event) => toggle(Number(event.points[0].x)));
  show();
  training.start();
  return training.leave;
}
