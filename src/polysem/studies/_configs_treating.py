"""Settings of the whole procedure for features that are not given: numbers and names only, without torch."""

from dataclasses import dataclass

from polysem import _checks


@dataclass(frozen=True)
class TreatingConfig:
    """Quadratic models behind a random rotation, and an autoencoder of pixels: search, treat, train on, repeat.

    Attributes:
        n_features: of the quadratic models.
        d_hidden: their dimension.
        kurtosis: of every feature.
        decay: `v_i = decay^i`.
        seeds: quadratic models, each behind a rotation of its own.
        n_samples: on which each is seen.
        steps: of training in each round.
        restarts: random starts of a search.
        search_steps: of a search.
        digits_hidden: dimension of the autoencoder of pixels.
        digits_steps: of its training.
        digits_rounds: rounds of its treatment at most.
        digits_directions: how many directions of each kind are shown.
        digits_samples: images on which directions are searched for.
        seed: of everything.
    """

    n_features: int = 8
    d_hidden: int = 3
    kurtosis: float = 20.0
    decay: float = 0.9
    seeds: int = 10
    n_samples: int = 6000
    steps: int = 300
    restarts: int = 8
    search_steps: int = 50
    digits_hidden: int = 16
    digits_steps: int = 1200
    digits_rounds: int = 8
    digits_directions: int = 6
    digits_samples: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in (
            "d_hidden",
            "seeds",
            "steps",
            "restarts",
            "search_steps",
            "digits_hidden",
            "digits_steps",
            "digits_rounds",
            "digits_directions",
        ):
            _checks.whole(name, getattr(self, name))
        for name in ("n_samples", "digits_samples"):
            _checks.whole(name, getattr(self, name), 2)
        scarce = _checks.whole("n_features", self.n_features) > self.d_hidden
        _checks.require(scarce, "n_features", self.n_features, f"above d_hidden = {self.d_hidden}")
        _checks.whole("seed", self.seed, 0)
        _checks.require(3 < self.kurtosis < float("inf"), "kurtosis", self.kurtosis, "above 3 and finite")
        _checks.require(0 < self.decay <= 1, "decay", self.decay, "in (0, 1]")
