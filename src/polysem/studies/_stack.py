"""Many features with diminishing returns: where a given total capacity puts each of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from polysem.features import geometric
from polysem.studies._configs import StackConfig
from polysem.theory import Allocation, allocate, marginal_benefit


@dataclass(frozen=True)
class Stack:
    """Marginal-benefit curves of all features and their optimal capacities at each total.

    Attributes:
        v: importances `[n_features]`.
        grid: capacities `[n_grid]`.
        benefit: `−dL_i/dC_i` `[n_features, n_grid]`.
        totals: total capacities `[n_totals]`.
        allocation: the optimal allocation, batch `[n_totals]`.
        reached: marginal benefit `[n_totals, n_features]` of each feature at its optimal capacity.
    """

    v: Tensor
    grid: Tensor
    benefit: Tensor
    totals: Tensor
    allocation: Allocation
    reached: Tensor


def allocation_stack(v: Tensor, kurtosis: Tensor, total: float, *, n_grid: int = 101) -> Stack:
    """Curves of any features, and the optimal allocation of one total.

    Args:
        v: importances `[n_features]`, none negative.
        kurtosis: of each feature `[n_features]`, above 1.
        total: total capacity in dimensions.
        n_grid: points of each curve.

    Returns:
        A stack with the one total.

    Raises:
        ValueError: a value out of range.

    Example:
        >>> import torch
        >>> found = allocation_stack(torch.tensor([1.0, 0.5]), torch.tensor([20.0, 20.0]), 1.0)
        >>> [round(c, 3) for c in found.allocation.capacity[0].tolist()]
        [0.706, 0.294]

    Source: Scherlis et al. 2022, the figure of many features' curves.
    """
    grid = torch.linspace(0, 1, n_grid, dtype=torch.float64)
    totals = torch.tensor([total], dtype=torch.float64)
    allocation = allocate(v, kurtosis, totals)
    return Stack(
        v=v,
        grid=grid,
        benefit=marginal_benefit(v[:, None], kurtosis[:, None], grid),
        totals=totals,
        allocation=allocation,
        reached=marginal_benefit(v, kurtosis, allocation.capacity),
    )


def stack(config: StackConfig = StackConfig()) -> Stack:
    """Curves of many features, and the optimal allocation at every total.

    Example:
        >>> result = stack(StackConfig(n_features=3))
        >>> [round(c, 3) for c in result.allocation.capacity[2].tolist()], float(result.totals[2])
        ([0.426, 0.328, 0.246], 1.0)

    Source: Scherlis et al. 2022, the figure of many features' curves.
    """
    v = geometric(config.n_features, config.decay)
    grid = torch.linspace(0, 1, config.n_grid, dtype=torch.float64)
    totals = torch.arange(2 * config.n_features + 1, dtype=torch.float64) / 2
    allocation = allocate(v, config.kurtosis, totals)
    return Stack(
        v=v,
        grid=grid,
        benefit=marginal_benefit(v[:, None], config.kurtosis, grid),
        totals=totals,
        allocation=allocation,
        reached=marginal_benefit(v, config.kurtosis, allocation.capacity),
    )
