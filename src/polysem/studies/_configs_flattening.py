"""Settings of the experiments on flattened returns: numbers only, without torch."""

import math
from dataclasses import dataclass

from polysem import _checks


@dataclass(frozen=True, kw_only=True)
class FlatteningConfig:
    """A quadratic model and ReLU autoencoders whose marginal returns are flattened.

    Attributes:
        n_features: features of the quadratic model, of importance `decay^i`.
        d_hidden: its dimensions.
        kurtosis: of every feature.
        decay: of importances, in both kinds of model.
        restarts: starts of the quadratic model, in every experiment.
        adam_steps: steps of each of its trainings; a penalty that is ramped rises over the first half.
        n_shares: penalties between a hundredth of what suffices and all of it, spaced evenly in logarithm.
        probabilities: feature probabilities of the ReLU autoencoders, uniform on [0, 1] when active.
        relu_features: their features.
        relu_hidden: their dimensions.
        relu_restarts: starts at each probability.
        relu_steps: steps of each training, on sampled losses.
        batch_size: samples of such a step.
        seed: seed of all starts and samples.
    """

    n_features: int = 10
    d_hidden: int = 4
    kurtosis: float = 20.0
    decay: float = 0.9
    restarts: int = 32
    adam_steps: int = 4000
    n_shares: int = 17
    probabilities: tuple[float, ...] = (0.3, 0.1, 0.05, 0.02)
    relu_features: int = 8
    relu_hidden: int = 4
    relu_restarts: int = 6
    relu_steps: int = 1500
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("restarts", "relu_restarts", "batch_size", "d_hidden", "relu_hidden"):
            _checks.whole(name, getattr(self, name))
        for name in ("adam_steps", "relu_steps", "n_shares"):
            _checks.whole(name, getattr(self, name), 2)
        for name, dimensions in (("n_features", self.d_hidden), ("relu_features", self.relu_hidden)):
            scarce = _checks.whole(name, getattr(self, name)) > dimensions
            _checks.require(scarce, name, getattr(self, name), f"above the {dimensions} dimensions")
        _checks.require(3 < self.kurtosis < math.inf, "kurtosis", self.kurtosis, "above 3 and finite")
        _checks.require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        good = bool(self.probabilities) and all(0 < p <= 1 for p in self.probabilities)
        _checks.require(good, "probabilities", self.probabilities, "numbers in (0, 1]")
        _checks.whole("seed", self.seed, 0)
