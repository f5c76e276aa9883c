// Geometry: a toy model trains, and its features find their places.
import { ARCHITECTURES, controlsOf, player } from "./live.js";

export const title = "Geometry";
export const lead = "A small network must keep more features than it has dimensions. Watch where it puts them: each feature is a direction, and sparse ones share dimensions as corners of regular shapes. How much of a dimension a feature owns is its capacity C, from 0 (ignored) to 1 (a dimension of its own).";
export const words = ["feature", "capacity C", "pure, impure, ignored", "importance v", "kurtosis F", "quadratic model", "autoencoder", "start", "block"];
export const defaults = {
  architecture: "tied relu", n_features: 5, d_hidden: 2, feature_probability: 0.05, kurtosis: "", decay: 1, n_seeds: 2, shown: 1, seed: 0, steps: 600, turn: 30, tilt: 20,
};

export function mount(root, state, { keep, tell }) {
  const controls = controlsOf({ architectures: Object.keys(ARCHITECTURES), defaults }, state, { changed: () => training.changed(), tell });
  const training = player(root, state, { path: "/api/geometry/train", figures: ["embedding", "capacity", "gram", "loss"], keep, tell, controls });
  training.start();
  return training.leave;
}
