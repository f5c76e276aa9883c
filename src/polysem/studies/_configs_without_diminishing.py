"""Settings of the experiments on marginal returns: numbers only, without torch."""

from dataclasses import dataclass

from polysem import _checks


@dataclass(frozen=True, kw_only=True)
class WithoutDiminishingConfig:
    """How many starts, steps and settings show polysemanticity without diminishing returns.

    Attributes:
        tie_starts: starts of each model with constant returns.
        pair_starts: starts at each correlation of a pair.
        pair_steps: steps of Adam of each, on sampled losses.
        batch_size: samples of such a step.
        n_kurtosis: kurtoses of quadratic models from 1.2 to 12, logarithmic.
        n_ratio: relative importances of the third feature of ReLU autoencoders, from 0.05 to 0.5,
            logarithmic.
        starts: starts at each of both.
        seed: seed of all starts and samples.
    """

    tie_starts: int = 512
    pair_starts: int = 8
    pair_steps: int = 1000
    batch_size: int = 256
    n_kurtosis: int = 16
    n_ratio: int = 24
    starts: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("tie_starts", "pair_starts", "pair_steps", "batch_size", "starts"):
            _checks.whole(name, getattr(self, name))
        for name in ("n_kurtosis", "n_ratio"):
            _checks.whole(name, getattr(self, name), 2)
        _checks.whole("seed", self.seed, 0)
