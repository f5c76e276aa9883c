"""Settings of a model that is watched while it trains: numbers and names only, without torch."""

import math
from dataclasses import dataclass

from polysem import _checks


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """A toy model small enough to be watched while it trains.

    Attributes:
        architecture: one of `studies.WATCHED`.
        n_features: features.
        d_hidden: dimensions.
        feature_probability: chance of each feature to be active, the same for all.
        kurtosis: `F` of each feature, from which its chance follows (see `studies.live_features`); where it is given,
            `feature_probability` counts for nothing.
        decay: importance `I` of each feature relative to the one before; the first has 1.
        n_seeds: starts that are trained side by side.
        seed: seed of all starts and samples.
        steps: of Adam.
        frames: about how often the model is looked at on the way.
    """

    architecture: str = "tied relu"
    n_features: int = 5
    d_hidden: int = 2
    feature_probability: float = 0.05
    kurtosis: float | None = None
    decay: float = 1.0
    n_seeds: int = 2
    seed: int = 0
    steps: int = 600
    frames: int = 120

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("n_features", "d_hidden", "n_seeds", "steps", "frames"):
            _checks.whole(name, getattr(self, name))
        _checks.whole("seed", self.seed, 0)
        _checks.require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        p = self.feature_probability
        _checks.require(0 < p <= 1, "feature_probability", p, "in (0, 1]")
        F = self.kurtosis
        _checks.require(F is None or 1 < F < math.inf, "kurtosis", F, "above 1 and finite")

    @property
    def every(self) -> int:
        """Steps from one look to the next."""
        return -(-self.steps // self.frames)
