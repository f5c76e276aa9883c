"""Settings of the comparison of interventions and architectures: numbers and names only, without torch."""

from dataclasses import dataclass

from polysem import _checks


@dataclass(frozen=True, kw_only=True)
class ParetoConfig:
    """A quadratic model and a ReLU autoencoder under every intervention, beside other architectures.

    Attributes:
        n_features: features of either, with importances that fall by `decay`: `v` and `I`.
        d_hidden: dimensions.
        decay: of importances.
        kurtosis: of the quadratic model's features.
        feature_probability: of the autoencoder's, uniform on [0, 1] when active; also that of the architectures.
        architectures: names of `studies.ARCHITECTURES` but "quadratic"; all of them by default.
        restarts: starts of each.
        n_shares: penalties between a thousandth of what suffices and all of it, spaced evenly in logarithm.
        adam_steps: steps of each training.
        round_steps: steps of each round, where there are rounds.
        batch_size: samples of a step, where losses are sampled.
        seed: seed of all starts and samples.
    """

    n_features: int = 8
    d_hidden: int = 4
    decay: float = 0.9
    kurtosis: float = 20.0
    feature_probability: float = 0.05
    architectures: tuple[str, ...] = ()
    restarts: int = 4
    n_shares: int = 7
    adam_steps: int = 800
    round_steps: int = 300
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("d_hidden", "batch_size"):
            _checks.whole(name, getattr(self, name))
        for name in ("restarts", "n_shares", "adam_steps", "round_steps"):
            _checks.whole(name, getattr(self, name), 2)
        scarce = _checks.whole("n_features", self.n_features) > self.d_hidden
        _checks.require(scarce, "n_features", self.n_features, f"above d_hidden = {self.d_hidden}")
        _checks.require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        _checks.require(3 < self.kurtosis < float("inf"), "kurtosis", self.kurtosis, "above 3 and finite")
        p = self.feature_probability
        _checks.require(0 < p < 1, "feature_probability", p, "in (0, 1)")
        named = "quadratic" not in self.architectures
        _checks.require(named, "architectures", self.architectures, 'without "quadratic", whose inputs are others')
        _checks.whole("seed", self.seed, 0)
