"""Settings of the search for features that are not given: numbers and names only, without torch."""

from dataclasses import dataclass

from polysem import _checks

OBJECTIVES = ("diminishing", "importance", "capacity", "non_gaussian")


@dataclass(frozen=True)
class SearchingConfig:
    """Trained networks, each seen through a random rotation of its own, and searched for their features.

    Attributes:
        architectures: names of `studies.ARCHITECTURES`: the quadratic model, and autoencoders that read through the
            identity, a ReLU or the absolute value.
        probabilities: feature probabilities, each of all features alike.
        d_hidden: dimensions.
        opposed: in cells of their own for the quadratic model: probabilities of the most and of the least important
            feature, between which they fall evenly in their logarithm; so kurtosis rises as importance falls.
        opposed_decay: how fast importance falls there.
        n_features: number of features.
        decay: importance of feature i is `decay^i`.
        seeds: networks in a cell.
        n_samples: on which a network is seen.
        few_samples: on which the curves of autoencoders are measured, at every step of a search.
        restarts: random starts of a search.
        steps: of a search.
        adam_steps: of training, where the loss is sampled.
        batch_size: samples of such a step.
        seed: of everything.
    """

    architectures: tuple[str, ...] = ("quadratic", "tied identity", "tied relu")
    probabilities: tuple[float, ...] = (0.4, 0.05)
    d_hidden: tuple[int, ...] = (2, 4)
    opposed: tuple[float, float] = (0.6, 0.03)
    opposed_decay: float = 0.4
    n_features: int = 8
    decay: float = 0.9
    seeds: int = 20
    n_samples: int = 4000
    few_samples: int = 300
    restarts: int = 8
    steps: int = 40
    adam_steps: int = 600
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("seeds", "restarts", "steps", "adam_steps", "batch_size"):
            _checks.whole(name, getattr(self, name))
        for name in ("n_samples", "few_samples"):
            _checks.whole(name, getattr(self, name), 2)
        _checks.whole("n_features", self.n_features, 2)
        _checks.whole("seed", self.seed, 0)
        for name in ("architectures", "probabilities", "d_hidden"):
            _checks.require(len(getattr(self, name)) > 0, name, getattr(self, name), "not empty")
        for d in self.d_hidden:
            scarce = _checks.whole("d_hidden", d) < self.n_features
            _checks.require(scarce, "d_hidden", d, f"below n_features = {self.n_features}")
        for p in (*self.probabilities, *self.opposed):
            _checks.require(0 < p <= 1, "probability", p, "in (0, 1]")
        for name in ("decay", "opposed_decay"):
            _checks.require(0 < getattr(self, name) <= 1, name, getattr(self, name), "in (0, 1]")
