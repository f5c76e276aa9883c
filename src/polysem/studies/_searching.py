"""Which search finds the features of a network that is seen through an unknown rotation."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polysem.interventions import MIXTURE, View, direction_scores, match, search, view
from polysem.studies._architectures import Architecture, architecture
from polysem.studies._configs_searching import OBJECTIVES, SearchingConfig
from polysem.studies._wilson import wilson
from polysem.training import fit

BEYOND = 0.01
"""A mixture scores beyond all features if it does by this share of the best feature's score."""


@dataclass(frozen=True)
class Searched:
    """What one search found in the networks of one cell.

    Attributes:
        objective: what was searched for.
        feature: the feature that each direction is, in the order in which they were found, -1 for a mixture.
        cosine: of each direction with the nearest feature.
        recovered: how many different features are among all directions.
        score: of the winner, the first direction.
        best_feature: the largest score of any feature; -inf where none has one.
    """

    objective: str
    feature: Int[Tensor, "n_seeds n_directions"]
    cosine: Float[Tensor, "n_seeds n_directions"]
    recovered: Int[Tensor, " n_seeds"]
    score: Float[Tensor, " n_seeds"]
    best_feature: Float[Tensor, " n_seeds"]

    @property
    def true(self) -> Bool[Tensor, " n_seeds"]:
        """Whether the winner is a feature."""
        return self.feature[:, 0] != MIXTURE

    @property
    def beyond(self) -> Bool[Tensor, " n_seeds"]:
        """Whether the winner is a mixture that scores beyond every feature; not where no feature has a score."""
        margin = torch.where(self.best_feature.isfinite(), BEYOND * self.best_feature.abs(), 0.0)
        return ~self.true & self.best_feature.isfinite() & (self.score > self.best_feature + margin)

    @property
    def relative(self) -> Float[Tensor, " n_seeds"]:
        """Score of the winner over that of the best feature; NaN where that has none or 0."""
        usable = self.best_feature.isfinite() & (self.best_feature != 0)
        return torch.where(usable, self.score / torch.where(usable, self.best_feature, 1.0), torch.nan)

    @property
    def share(self) -> tuple[float, float, float]:
        """Share of the winners that are features, with its 95 % interval."""
        return _share(self.true)

    @property
    def share_beyond(self) -> tuple[float, float, float]:
        """Share of the winners that are mixtures beyond every feature, with its 95 % interval."""
        return _share(self.beyond)


@dataclass(frozen=True)
class SearchedCell:
    """Networks of one kind.

    Attributes:
        architecture: its name.
        probability: of every feature, or of the most important where they differ.
        d_hidden: dimension.
        opposed: whether kurtosis rises as importance falls.
        kurtosis: of each feature.
        searched: one for each objective.
    """

    architecture: str
    probability: float
    d_hidden: int
    opposed: bool
    kurtosis: Float[Tensor, " n_features"]
    searched: tuple[Searched, ...]

    def by(self, objective: str) -> Searched:
        """What the search for one objective found."""
        return next(one for one in self.searched if one.objective == objective)


@dataclass(frozen=True)
class Searching:
    """All cells.

    Attributes:
        cells: in the order of architectures, probabilities and dimensions; the opposed ones last.
        n_features: number of features.
    """

    cells: tuple[SearchedCell, ...]
    n_features: int

    @property
    def objectives(self) -> tuple[str, ...]:
        """What was searched for: "non_gaussian" only where scikit-learn is installed."""
        return tuple(one.objective for one in self.cells[0].searched)

    def pooled(self, objective: str, cells: tuple[SearchedCell, ...]) -> tuple[float, float, float]:
        """Share of winners that are features over several cells, with its 95 % interval."""
        return _share(torch.cat([cell.by(objective).true for cell in cells]))

    def pooled_beyond(self, objective: str, cells: tuple[SearchedCell, ...]) -> tuple[float, float, float]:
        """Share of winners that are mixtures beyond every feature over several cells, with its 95 % interval."""
        return _share(torch.cat([cell.by(objective).beyond for cell in cells]))

    def recovered(self, objective: str, cells: tuple[SearchedCell, ...]) -> float:
        """How many features are among as many directions, on average over several cells."""
        return float(torch.cat([cell.by(objective).recovered for cell in cells]).double().mean())


def searching(config: SearchingConfig = SearchingConfig()) -> Searching:
    """Train networks, turn them out of their coordinates, and search each for all its features by every objective.

    Example:
        >>> config = SearchingConfig(("quadratic",), (0.05,), (2,), n_features=4, seeds=2, restarts=4)
        >>> found = searching(config)
        >>> found.cells[0].by("diminishing").recovered.tolist()
        [4, 4]

    Source: ours.
    """
    cells = []
    for index, (name, probabilities, d, decay) in enumerate(_cells(config)):
        g = torch.Generator().manual_seed(config.seed + index)
        kind = architecture(name)
        searched = _search(kind, probabilities, d, decay, config, g)
        kurtosis = kind.features(probabilities[None]).kurtosis[0]
        opposed = bool((probabilities != probabilities[0]).any())
        cells.append(SearchedCell(name, float(probabilities[0]), d, opposed, kurtosis, searched))
    return Searching(tuple(cells), config.n_features)


def _cells(config: SearchingConfig) -> Iterator[tuple[str, Tensor, int, float]]:
    n = config.n_features
    for name in config.architectures:
        for p in config.probabilities:
            for d in config.d_hidden:
                yield name, torch.full((n,), p, dtype=torch.float64), d, config.decay
    first, last = torch.tensor(config.opposed, dtype=torch.float64).log()
    for d in config.d_hidden:
        p_falls = torch.linspace(float(first), float(last), n, dtype=torch.float64).exp()
        yield "quadratic", p_falls, d, config.opposed_decay


def _search(
    kind: Architecture, p: Tensor, d: int, decay: float, config: SearchingConfig, g: torch.Generator
) -> tuple[Searched, ...]:
    """All searches in the networks of one cell."""
    n, seeds = config.n_features, config.seeds
    features = kind.features(p.expand(seeds, n))
    importance = kind.importance(decay ** torch.arange(n, dtype=torch.float64))
    start = kind.model(n, d, seeds, g)
    fitted = kind.fit_config(config.adam_steps, config.batch_size)
    model = fit(start, features, importance, fitted, generator=None if kind.exact else g).model
    Q = torch.linalg.qr(torch.randn(seeds, n, n, generator=g, dtype=torch.float64)).Q
    seen = view(model, features.sample(config.n_samples, generator=g), importance, rotation=Q)
    briefly = seen
    if kind.family != "quadratic":
        briefly = view(model, features.sample(config.few_samples, generator=g), importance, rotation=Q)
    return tuple(
        _searched(briefly if objective == "diminishing" else seen, objective, Q, config, g)
        for objective in OBJECTIVES
        if objective != "non_gaussian" or find_spec("sklearn")
    )


def _searched(view: View, objective: str, Q: Tensor, config: SearchingConfig, g: torch.Generator) -> Searched:
    found = search(
        view,
        objective,
        n_directions=config.n_features,
        restarts=config.restarts,
        steps=config.steps,
        generator=g,
    )
    matched = match(found.directions, Q)
    best = direction_scores(view, objective, Q).amax(-1)
    return Searched(objective, matched.feature, matched.cosine, matched.recovered, found.score[:, 0], best)


def _share(happened: Bool[Tensor, " n"]) -> tuple[float, float, float]:
    low, high = wilson(happened.sum(), len(happened))
    return float(happened.double().mean()), float(low), float(high)
