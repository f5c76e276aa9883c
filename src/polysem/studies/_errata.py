"""The errata to the derivation of the quadratic model's loss, on random embeddings."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.features import geometric
from polysem.studies._configs import ErrataConfig
from polysem.studies._corrections import (
    Correction,
    cumulants_correction,
    exact_losses,
    formula_losses,
    independence_correction,
    rows_correction,
    squares_correction,
)
from polysem.studies._outcomes import one_at_a_time, three_point


@dataclass(frozen=True)
class Errata:
    """All corrections, and the losses of random embeddings under independent and under dependent inputs.

    Both inputs have mean 0, variance 1, no correlation, and the same distribution of each feature alone.

    Attributes:
        config: the settings.
        corrections: rows, independence, cumulants and squares, in this order.
        importance: coefficients `v` of the target.
        W: random embeddings, features as rows.
        formula: `L(W)` of each by the formula.
        independent: exact loss of each under independent inputs.
        dependent: exact loss of each under inputs of which exactly one is active at a time.
    """

    config: ErrataConfig
    corrections: tuple[Correction, ...]
    importance: Float[Tensor, " n_features"]
    W: Float[Tensor, "n_matrices n_features d_hidden"]
    formula: Float[Tensor, " n_matrices"]
    independent: Float[Tensor, " n_matrices"]
    dependent: Float[Tensor, " n_matrices"]

    @property
    def holds(self) -> bool:
        """Whether every check of every correction holds."""
        return all(check.holds for correction in self.corrections for check in correction.checks)


def errata(config: ErrataConfig = ErrataConfig()) -> Errata:
    """Check each correction to the derivation of the quadratic model's loss on inputs with finitely many outcomes.

        L(W) = Σ_i (F_i − 1)(v_i − |W_i|²)² + 2 Σ_{i≠j} (W_i·W_j)²   against   min_b E (y − ŷ)²

    Args:
        config: sizes and seed.

    Returns:
        The corrections with their numbers, and the losses to plot.

    Example:
        >>> from polysem.studies import ErrataConfig, errata
        >>> result = errata(ErrataConfig(n_matrices=5))
        >>> [correction.title for correction in result.corrections]
        ['Features are rows', 'Independence, not zero covariance', 'No cumulants', 'x_i², not x_i x_j']
        >>> result.holds
        True

    Source: the discussion of the summary post of Scherlis et al. 2022; the checks are ours.
    """
    n = config.n_features
    generator = torch.Generator().manual_seed(config.seed)
    v = geometric(n, 0.8)
    size = torch.linspace(0.5, 1.2, config.n_matrices, dtype=torch.float64)[:, None, None]

    def draw(d_hidden: int) -> Tensor:
        shape = (config.n_matrices, n, d_hidden)
        return size * torch.randn(shape, generator=generator, dtype=torch.float64) * (v / d_hidden).sqrt()[:, None]

    W, square = draw(config.d_hidden), draw(n)
    equal, unequal = torch.full((n,), float(n), dtype=torch.float64), n + torch.arange(n, dtype=torch.float64)
    formula = formula_losses(W, v, equal)
    independent = exact_losses(three_point(equal, torch.zeros(n, dtype=torch.float64)), W, v)
    dependent = exact_losses(one_at_a_time(n), W, v)
    corrections = (
        rows_correction(square, v, unequal),
        independence_correction(W, v, formula, independent, dependent),
        cumulants_correction(W, v, unequal),
        squares_correction(W, v, unequal),
    )
    return Errata(config, corrections, v, W, formula, independent, dependent)
