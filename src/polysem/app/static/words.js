// The words of the field that views use, each said once.
import { element } from "./parts.js";

const WORDS = {
  feature: "A property of the inputs that a network keeps as a direction: feature i has the embedding Wᵢ, a vector of D numbers. In superposition there are more features than these D dimensions.",
  "capacity C": "How much of a dimension a feature owns: Cᵢ = |Wᵢ|⁴ / Σⱼ (Wᵢ·Wⱼ)². It is 1 where Wᵢ is orthogonal to all others and falls the more they overlap with it; the capacities of all features together are D at most.",
  "pure, impure, ignored": "A pure feature has a dimension of its own (C above 0.95, monosemantic), an impure one shares (polysemantic), an ignored one is not represented (C below 0.05).",
  "importance v": "How much a feature counts in the loss; only the relation of importances matters for who gets what.",
  "kurtosis F": "E x⁴ / (E x²)² of a feature x, taken around its mean: 1 for ±1, 3 for a Gaussian. A feature that is silent but for a chance p has about 1/p times the kurtosis of its values while active: the rarer, the larger.",
  "marginal benefit, returns": "How much loss the next bit of capacity saves, −dL/dC. If that grows with the capacity that a feature has, its returns increase (in the quadratic model: F below 3), if it falls they diminish (F above 3).",
  "price μ": "What a little more capacity in total would save. At the optimum it is the marginal benefit of every feature that shares.",
  "quadratic model": "A toy model that computes Σᵢ vᵢ xᵢ² from D squares: Σ (x·w)² + b, a square for each column w of W. Its best division of capacity is known exactly for every F and v.",
  autoencoder: "A toy model that restores its inputs x from D numbers: act(x W Wᵀ + b), with an activation such as ReLU. Untied: the way back has a matrix of its own.",
  "penalty κ": "Added to the loss: κ Σᵢ Cᵢ (1 − Cᵢ), which is 0 only where no feature shares.",
  start: "A training that begins at random weights of its own. Some starts end in worse places than others.",
  block: "Features that overlap with each other and with none outside.",
  null: "What chance gives, to hold a matrix against. Random directions: rows of the same norms, pointing anywhere. Same second moments: Gaussian rows that use each direction as much as yours do (the same WᵀW).",
  "rank, efficiency": "The rank is the number of directions that are used at all, and the most that capacities can add up to. Efficiency is the part of it that they reach.",
  "effective dimension": "How many directions would be used, were all used alike: (tr M)² / tr M² with M = WᵀW.",
  "rows beyond precision": "Rows so short beside others that rounding hides their capacity.",
};

// A fold that explains some of them.
export function words(names) {
  return element("details", { class: "words" }, element("summary", {}, "What the words mean"),
    element("dl", {}, ...names.flatMap((name) => [element("dt", {}, name), element("dd", {}, WORDS[name])])));
}
