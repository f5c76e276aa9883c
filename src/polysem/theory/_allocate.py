"""The optimal division of a total capacity among the features of the quadratic model."""

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.theory._allocation import Allocation, Status
from polysem.theory._mixed import Mixed
from polysem.theory._quadratic import best_norm, broadcast, importances, kurtoses, weighted_loss
from polysem.theory._rising import Rising, chunks

NEGLIGIBLE = 1e-280
"""A feature whose v is below this fraction of the largest counts as worthless: 1 / v would overflow."""


def allocate(v: object, kurtosis: object, total: object) -> Allocation:
    """Divide a total capacity among features so that the quadratic model's loss is least: the global optimum.

        minimise Σ L_i(C_i)   subject to   Σ C_i ≤ total,   0 ≤ C_i ≤ 1

    Features with F ≥ 3 share capacity at equal marginal benefit μ, found by sorting, without iteration to a
    tolerance. Features with 1 < F < 3 are ignored or pure, all but at most one. At F = 3 features with equal v
    are interchangeable and share equally what is left for them; other ties go to the feature that comes first.
    Features with v = 0 or F = 1 get nothing.

    The price is the right derivative `−dL*/dtotal`: the marginal benefit common to all fractional features, or
    else the largest marginal benefit among features that are not pure; 0 once all are. At a total where quite
    different allocations are equally good (possible with F < 3), it belongs to the one returned.

    Time grows as `N log N` in the number N of features where all F ≥ 3, at most as `N²` where some F < 3.

    Args:
        v: non-negative coefficients `[*batch, n_features]`; loss and price have the unit of `v²`.
        kurtosis: kurtosis F_i of the inputs, at least 1: one number or `[*batch, n_features]`.
        total: non-negative total capacity in dimensions: one number or `[*batch]`. More than n_features is fine.

    Returns:
        The allocation, with status `OPTIMAL`, or `SATURATED` where every feature with a benefit is pure.

    Raises:
        ValueError: `v` or `total` negative or not finite, `kurtosis` below 1 or not finite, no feature, or shapes
            that do not broadcast.
        TypeError: something that is not a number, an array or a tensor.

    Example:
        >>> from polysem.theory import allocate
        >>> best = allocate([1.0, 0.5], kurtosis=5.0, total=1)
        >>> best.capacity, best.price
        (tensor([1., 0.], dtype=torch.float64), tensor(2., dtype=torch.float64))
        >>> allocate([1.0, 0.9], kurtosis=2.0, total=[0.5, 1.5]).capacity
        tensor([[0.5000, 0.0000],
                [1.0000, 0.5000]], dtype=torch.float64)

    Source: Scherlis et al. 2022, section 2; the solution by sorting and the treatment of F < 3 are ours.
    """
    v, kurtosis, total = _arguments(v, kurtosis, total)
    batch, n_features = total.shape, v.shape[-1]
    scale = v.amax(-1)
    relative = v / torch.where(scale > 0, scale, 1.0).unsqueeze(-1)
    relative = torch.where(relative > NEGLIGIBLE, relative, 0.0)
    F = kurtosis
    if scale.numel() > 1:  # else one row of features serves all totals, and is sorted once
        relative, F = relative.expand(*batch, n_features), F.expand(*batch, n_features)
    capacity, price = _solve(relative.reshape(-1, n_features), F.reshape(-1, n_features), total.reshape(-1))
    capacity = capacity.view(*batch, n_features)
    useful = ((v > 0) & (kurtosis > 1)).sum(-1)
    return Allocation(
        capacity=capacity,
        price=price.view(batch) * scale * scale,
        loss=weighted_loss(v, kurtosis, capacity).sum(-1),
        status=torch.where(total >= useful, int(Status.SATURATED), int(Status.OPTIMAL)),
        squared_norm=best_norm(v, kurtosis, capacity),
    )


def _solve(
    v: Float[Tensor, "rows n_features"],
    kurtosis: Float[Tensor, "rows n_features"],
    total: Float[Tensor, " cells"],
) -> tuple[Float[Tensor, "cells n_features"], Float[Tensor, " cells"]]:
    """Capacities and prices of cells whose largest v is 1 or 0; there is one row, or one for each cell."""
    cells, n_features = len(total), v.shape[-1]
    rising = Rising.of(v, kurtosis).expand(cells)
    v, kurtosis = v.expand(cells, -1), kurtosis.expand(cells, -1)
    capacity, price = total.new_empty(cells, n_features), torch.empty_like(total)
    for part in chunks(cells, n_features):
        capacity[part], t = rising.select(part).fill(total[part])
        price[part] = 2 / t.square()
    falling = ((v > 0) & (kurtosis > 1) & (kurtosis < 3)).any(-1).nonzero().squeeze(-1)
    for part in chunks(len(falling), n_features):
        some = falling[part]
        capacity[some], price[some] = Mixed.of(v[some], kurtosis[some], total[some]).solve()
    return capacity, price


def _arguments(v: object, kurtosis: object, total: object) -> tuple[Tensor, Tensor, Tensor]:
    """Detached and checked: two of shape `[*features_batch, n_features]`, one of the whole `[*batch]`."""
    importance = importances(v).detach()
    allowed = "of shape [*batch, n_features] with n_features >= 1"
    _checks.require(importance.ndim > 0 and importance.shape[-1] > 0, "v", v, allowed)
    budget = _checks.as_float64("total", total).detach()
    allowed = "non-negative and finite"
    _checks.require(bool((budget.isfinite() & (budget >= 0)).all()), "total", total, allowed)
    importance, F = broadcast(v=importance, kurtosis=kurtoses(kurtosis).detach())
    _, per_cell = broadcast(**{"v[..., 0]": importance[..., 0], "total": budget})
    return importance.to(per_cell.device), F.to(per_cell.device), per_cell
