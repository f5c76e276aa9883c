"""Several dictionaries held against each other, pair by pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from polysem._checks import require
from polysem.measure import Norm
from polysem.networks._best_matches import Estimate, OneWay, verdict
from polysem.networks._compare_dictionaries import SHARED_ABOVE, DictionaryComparison, compare_dictionaries
from polysem.networks._dictionary import Dictionary, dictionary


@dataclass(frozen=True)
class SeedComparison:
    """Dictionaries, and what is found of each in each other.

    Attributes:
        dictionaries: in the order given.
        pairs: the comparison of each with each later one, in order: (0, 1), (0, 2), ...
        total: total capacity of each, over the number of dimensions `[k]`.
        best: mean best |cosine| from the row's dictionary to the column's `[k, k]`; 1 on the diagonal.
        chance: the same for Gaussian directions with the row's second moments; NaN on the diagonal.
        shared: share of the row's latents that are found in the column's.
    """

    dictionaries: tuple[Dictionary, ...]
    pairs: tuple[DictionaryComparison, ...]
    total: Float[Tensor, " k"]
    best: Float[Tensor, "k k"]
    chance: Float[Tensor, "k k"]
    shared: Float[Tensor, "k k"]

    @property
    def ways(self) -> dict[tuple[int, int], OneWay]:
        """Each way of each comparison, by row and column."""
        k = len(self.dictionaries)
        places = [(i, j) for i in range(k) for j in range(i + 1, k)]
        forward = {place: pair.forward for place, pair in zip(places, self.pairs, strict=True)}
        return forward | {(j, i): pair.backward for (i, j), pair in zip(places, self.pairs, strict=True)}

    @property
    def replication(self) -> Estimate:
        """Rank correlation of capacity and best |cosine| less that by chance (same second moments).

        The mean over dictionaries, each one's mean over the others. The interval is Student's over the dictionaries,
        which are what was drawn anew; latents are not.
        """
        k = len(self.dictionaries)
        excess = {
            place: way.capacity_and_cosine.value - float(way.covariance.correlations.mean())
            for place, way in self.ways.items()
        }
        each = torch.tensor([sum(excess[i, j] for j in range(k) if j != i) / (k - 1) for i in range(k)])
        half = float(stdtrit(k - 1, 0.975)) * float(each.std()) / k**0.5
        return Estimate(float(each.mean()), float(each.mean()) - half, float(each.mean()) + half)

    @property
    def verdict(self) -> str:
        """What the best cosines say beside chance."""
        return verdict(list(self.ways.values()), [pair.centres for pair in self.pairs])

    @property
    def header(self) -> tuple[str, ...]:
        """What the columns of `table` are."""
        return "dictionary", "latents", "total capacity / D", *(f"in {j + 1}" for j in range(len(self.dictionaries)))

    def table(self) -> list[tuple[str, ...]]:
        """A line for each dictionary: its capacity, and the mean best |cosine| in each other beside chance."""
        k = len(self.dictionaries)
        return [
            (
                f"{i + 1}: {one.name}",
                f"{one.d_sae:,}",
                f"{float(self.total[i]):.4f}",
                *("" if i == j else f"{self.best[i, j]:.3f} (chance {self.chance[i, j]:.3f})" for j in range(k)),
            )
            for i, one in enumerate(self.dictionaries)
        ]

    def to_dict(self) -> dict[str, object]:
        """The numbers, unrounded, for JSON."""
        return {
            "files": [str(one.path) for one in self.dictionaries],
            "total_per_dimension": self.total.tolist(),
            "mean_best_cosine": self.best.tolist(),
            "null": self.chance.tolist(),
            "shared": self.shared.tolist(),
            "replication": vars(self.replication),
            "verdict": self.verdict,
        }


def compare_seeds(
    sources: Sequence[Dictionary | str | PathLike[str]],
    *,
    norm: Norm = "raw",
    shared_above: float = SHARED_ABOVE,
    draws: int = 8,
    seed: int = 0,
) -> SeedComparison:
    """Compare three dictionaries or more, each with each.

    Every pair costs what `compare_dictionaries` says.

    Args:
        sources: dictionaries of one space, or their paths.
        norm: policy under which capacities are measured.
        shared_above: |cosine| from which a latent counts as shared.
        draws: random sets of directions per null.
        seed: seeds them.

    Returns:
        All comparisons, and matrices over the dictionaries.

    Raises:
        WeightFileError: a dictionary cannot be read.
        ValueError: fewer than three, decoders of different lengths, or an argument out of range.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> W = np.random.default_rng(0).normal(size=(12, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for seed in range(3):
        ...         np.savez(f"{folder}/{seed}.npz", W_enc=W.T, W_dec=W, b_dec=np.zeros(4))
        ...     found = compare_seeds([f"{folder}/{seed}.npz" for seed in range(3)], draws=2)
        >>> found.shared.tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]

    Source: ours.
    """
    require(len(sources) >= 3, "sources", len(sources), "at least three dictionaries")
    opened = tuple(s if isinstance(s, Dictionary) else dictionary(s) for s in sources)
    k = len(opened)
    pairs = tuple(
        compare_dictionaries(opened[i], opened[j], norm=norm, shared_above=shared_above, draws=draws, seed=seed)
        for i in range(k)
        for j in range(i + 1, k)
    )
    best, chance, shared = (torch.eye(k, dtype=torch.float64) for _ in range(3))
    chance.fill_diagonal_(float("nan"))
    found = SeedComparison(opened, pairs, torch.zeros(k, dtype=torch.float64), best, chance, shared)
    for (i, j), way in found.ways.items():
        best[i, j], chance[i, j] = way.mean, way.covariance.mean
        shared[i, j] = way.shared(shared_above).double().mean()
        found.total[i] = way.capacity.sum() / opened[i].d_out
    return found
