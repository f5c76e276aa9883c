"""Settings of the experiments on equal returns: numbers and names only, without torch."""

from dataclasses import dataclass

from polysem import _checks


@dataclass(frozen=True)
class PowerConfig:
    """Quadratic models on which the equal-returns test is tried.

    Attributes:
        n_features: number of features, with importances `v = decay^i`.
        d_hidden: embedding dimension.
        kurtosis: of every feature.
        n_models: models of each kind.
        excess: how far above the optimal loss training is stopped.
    """

    n_features: int = 7
    d_hidden: int = 3
    decay: float = 0.85
    kurtosis: float = 12.0
    n_models: int = 200
    excess: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("n_features", "d_hidden", "n_models"):
            _checks.whole(name, getattr(self, name))
        _checks.require(self.d_hidden < self.n_features, "d_hidden", self.d_hidden, f"below {self.n_features}")
        _checks.require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
        _checks.require(3 < self.kurtosis < float("inf"), "kurtosis", self.kurtosis, "above 3 and finite")
        _checks.require(self.excess > 0, "excess", self.excess, "positive")
        _checks.whole("seed", self.seed, 0)


@dataclass(frozen=True)
class PairConfig:
    """Two features in one dimension of a ReLU autoencoder, on its exact loss.

    Attributes:
        probabilities: feature probabilities.
        n_ratio: relative importances of the second feature, from 1 down, logarithmic.
        lowest_ratio: the last of them.
        restarts: starts of each, of which the best counts.
    """

    probabilities: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01)
    n_ratio: int = 25
    lowest_ratio: float = 0.03
    restarts: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        good = bool(self.probabilities) and all(0 < p <= 1 for p in self.probabilities)
        _checks.require(good, "probabilities", self.probabilities, "at least one, each in (0, 1]")
        _checks.whole("n_ratio", self.n_ratio, 2)
        _checks.require(0 < self.lowest_ratio < 1, "lowest_ratio", self.lowest_ratio, "in (0, 1)")
        _checks.whole("restarts", self.restarts)
        _checks.whole("seed", self.seed, 0)


@dataclass(frozen=True)
class LockingConfig:
    """Where geometry locks capacities: architectures × dimension × importance decay × feature probability.

    Attributes:
        architectures: names of `studies.ARCHITECTURES` that have readouts of a linear embedding.
        n_features: number of features, with importances `decay^i`.
        d_hidden: embedding dimensions.
        decays: ratios of one importance to the one before.
        probabilities: feature probabilities.
        restarts: starts of each cell, of which the best counts.
        adam_steps: steps where losses are sampled.
        batch_size: samples of such a step.
        price_samples: samples, given an active feature, from which prices are measured.
    """

    architectures: tuple[str, ...] = ("quadratic", "tied relu", "tied gelu", "tied abs")
    n_features: int = 10
    d_hidden: tuple[int, ...] = (2, 4, 6)
    decays: tuple[float, ...] = (1.0, 0.95, 0.9, 0.8)
    probabilities: tuple[float, ...] = (1.0, 0.3, 0.1, 0.05, 0.01)
    restarts: int = 8
    adam_steps: int = 1000
    batch_size: int = 128
    price_samples: int = 50_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("n_features", "restarts", "adam_steps", "batch_size"):
            _checks.whole(name, getattr(self, name))
        _checks.whole("price_samples", self.price_samples, 2)
        for name in ("architectures", "d_hidden", "decays", "probabilities"):
            _checks.require(len(getattr(self, name)) > 0, name, getattr(self, name), "at least one")
        for d in self.d_hidden:
            _checks.require(1 <= _checks.whole("d_hidden", d) <= self.n_features, "d_hidden", d, "at most n_features")
        for name in ("decays", "probabilities"):
            good = all(0 < value <= 1 for value in getattr(self, name))
            _checks.require(good, name, getattr(self, name), "each in (0, 1]")
        _checks.whole("seed", self.seed, 0)
