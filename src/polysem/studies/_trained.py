"""Many features trained against theory: capacities one by one, and the blocks that they form."""

from dataclasses import dataclass

import torch
from torch import Tensor

from polysem.features import SparseSign, geometric
from polysem.measure import Block, blocks, capacity
from polysem.studies._configs import TrainedConfig
from polysem.theory import Allocation, allocate
from polysem.training import fit
from polysem.zoo import QuadraticModel


@dataclass(frozen=True)
class Trained:
    """Predicted and trained capacities, and the geometry of the trained embedding.

    Attributes:
        v: importances `[n_features]`.
        predicted: the optimal allocation.
        W: embedding `[n_features, d_hidden]` of the best start.
        capacity: its capacities `[n_features]`.
        loss: loss `[restarts]` of every start.
        blocks: mutually orthogonal groups of its features.
    """

    v: Tensor
    predicted: Allocation
    W: Tensor
    capacity: Tensor
    loss: Tensor
    blocks: list[Block]

    @property
    def deviation(self) -> float:
        """Largest difference between a trained and a predicted capacity."""
        return float((self.capacity - self.predicted.capacity).abs().max())

    @property
    def excess(self) -> float:
        """Relative excess of the best trained loss over the optimal one."""
        return float(self.loss.min() / self.predicted.loss - 1)

    @property
    def share_at_optimum(self) -> float:
        """Share of the starts whose loss is within 1e-6 (relative) of the optimal one."""
        return float((self.loss <= self.predicted.loss * (1 + 1e-6)).double().mean())


def trained(config: TrainedConfig = TrainedConfig()) -> Trained:
    """Train a stack of starts and hold the best against the optimal allocation.

    Example:
        >>> result = trained(TrainedConfig(n_features=6, d_hidden=2, restarts=4))
        >>> result.deviation < 1e-6, abs(result.excess) < 1e-9
        (True, True)

    Source: Scherlis et al. 2022, the comparison of theory and training.
    """
    N, D = config.n_features, config.d_hidden
    v = geometric(N, config.decay)
    kurtosis = torch.full((N,), config.kurtosis, dtype=torch.float64)
    start = QuadraticModel(N, D, n_inst=config.restarts, generator=torch.Generator().manual_seed(config.seed))
    done = fit(start, SparseSign.from_kurtosis(kurtosis, standardise=True), v)
    W = done.model.embedding.detach()[done.best]
    return Trained(
        v=v,
        predicted=allocate(v, kurtosis, float(D)),
        W=W,
        capacity=capacity(W),
        loss=done.loss,
        blocks=blocks(W),
    )
