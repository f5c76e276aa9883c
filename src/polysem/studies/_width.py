"""What one more dimension buys: optimal loss and its price against width."""

from dataclasses import dataclass

import torch
from torch import Tensor

from polysem import features
from polysem.studies._configs import WidthConfig
from polysem.theory import Plan, plan

MOST_WIDTHS = 40


@dataclass(frozen=True)
class Width:
    """Plans at whole widths and, for the curves between them, at fractional totals.

    Attributes:
        says: what the features are, in a line.
        whole: plan at the whole totals `[n_widths]`, where the optimum is attained by an embedding.
        fine: plan on a finer grid of totals.
    """

    says: str
    whole: Plan
    fine: Plan


def width(config: WidthConfig = WidthConfig()) -> Width:
    """Plan every width for one set of features.

    `L*(D) = min Σ_i L_i(C_i)` over `Σ_i C_i ≤ D`; its slope is the price, `−dL*/dD = μ(D)`.

    Raises:
        ValueError: kurtosis or probability both in the configuration and in its table, or a value out of range.

    Example:
        >>> result = width(WidthConfig(n_features=3))
        >>> [round(loss, 3) for loss in result.whole.loss.tolist()]
        [8.049, 2.285, 0.0]

    Source: ours.
    """
    v, kurtosis, says = _features(config)
    return planned(v, kurtosis, says, widths=config.widths, points_between=config.points_between)


def planned(v: Tensor, kurtosis: Tensor, says: str, *, widths: tuple[int, ...] = (), points_between: int = 8) -> Width:
    """Plan every width for given features.

    Args:
        v: importances `[n_features]`, none negative.
        kurtosis: of each feature `[n_features]`, above 1.
        says: what the features are, in a line.
        widths: whole widths; by default from 1 to the number of features, thinned out beyond 40.
        points_between: totals of the finer grid per step from one width to the next.

    Returns:
        Plans at these widths and between them.

    Raises:
        ValueError: a value out of range.

    Example:
        >>> result = planned(torch.tensor([1.0, 1.0]), torch.tensor([5.0, 5.0]), "two features")
        >>> [round(loss, 3) for loss in result.whole.loss.tolist()]
        [2.667, 0.0]

    Source: ours.
    """
    if widths:
        whole = torch.tensor(sorted(set(widths)), dtype=torch.float64)
    else:
        whole = torch.linspace(1, len(v), min(len(v), MOST_WIDTHS), dtype=torch.float64).round()
    share = torch.arange(points_between, dtype=torch.float64) / points_between
    fine = torch.cat([(whole[:-1, None] + whole.diff()[:, None] * share).flatten(), whole[-1:]])
    return Width(says, plan(v, kurtosis, whole), plan(v, kurtosis, fine))


def _features(config: WidthConfig) -> tuple[Tensor, Tensor, str]:
    """Importances and kurtosis `[n_features]`, and what they are."""
    table = features.read_csv(config.csv) if config.csv else None
    v = table.importance if table else features.geometric(config.n_features, config.decay)
    kurtosis, probability = (table.kurtosis, table.feature_probability) if table else (None, None)
    for name, column in (("kurtosis", kurtosis), ("feature_probability", probability)):
        if column is not None and (config.kurtosis is not None or config.feature_probability is not None):
            raise ValueError(f"{name} must be given once: {config.csv} has a column of that name")
    if config.feature_probability is not None:
        probability = torch.full_like(v, config.feature_probability)
    if probability is not None:
        slabs = {
            "sign": features.SparseSign(probability),
            "uniform": features.SparseUniform(probability, signed=True),
            "gaussian": features.SparseGaussian(probability),
            "laplace": features.SparseLaplace(probability),
        }
        kurtosis = slabs[config.slab].kurtosis
    if kurtosis is None:
        kurtosis = torch.full_like(v, 20.0 if config.kurtosis is None else config.kurtosis)
    low, high = float(kurtosis.min()), float(kurtosis.max())
    span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    source = f"from {config.csv}" if table else f"v = {config.decay:g}ⁱ"
    return v, kurtosis, f"{len(v):,} features, importances {source}, kurtosis {span}"
