"""Features in the order of their importance, in bins of about equal ratio of the ranks."""

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

N_BINS = 28


def rank_edges(n_features: int) -> npt.NDArray[np.float64]:
    """Edges of the bins, between ranks: 0.5, 1.5, ..., `n_features + 0.5`.

    Example:
        >>> rank_edges(4).tolist()
        [0.5, 1.5, 2.5, 3.5, 4.5]
    """
    return np.unique(np.geomspace(1, n_features + 1, N_BINS + 1).round()) - 0.5


def by_rank(
    values: Float[Tensor, " n_features"], counted: Bool[Tensor, " n_features"] | None = None
) -> Float[Tensor, " n_bins"]:
    """Means over the counted features (all, by default) in each bin; NaN where there are none.

    Example:
        >>> by_rank(torch.tensor([1.0, 2.0]), torch.tensor([True, False])).tolist()
        [1.0, nan]
    """
    values = values.detach().cpu().double()
    weight = torch.ones_like(values) if counted is None else counted.cpu().double()
    edges = rank_edges(len(values)).round(1)
    place = torch.as_tensor(np.searchsorted(edges, np.arange(1, len(values) + 1)) - 1)
    total, count = (torch.zeros(len(edges) - 1, dtype=torch.float64) for _ in range(2))
    total, count = total.index_add(0, place, weight * values), count.index_add(0, place, weight)
    return total / count
