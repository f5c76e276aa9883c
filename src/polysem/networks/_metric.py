"""Capacity as a metric of torchmetrics. Imported when first used: torchmetrics is optional."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.measure import Norm
from polysem.networks._history import NUMBERS
from polysem.networks._summary import summarise

try:
    from torchmetrics import Metric
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('CapacityMetric needs torchmetrics: pip install "polysem[training]"') from error


class CapacityMetric(Metric):
    """Mean over updates of what a `CapacityMonitor` keeps of a matrix: `Σ_i C_i`, `Σ_i C_i / D` and so on.

    Every update measures one whole matrix, so that a metric updated at every batch, or by several processes that hold
    the same weights, gives what one measurement gives. State is the sum of the numbers and how many there were, and is
    reduced by summing: a total needs every row together with all others, so shards of one matrix are no updates (see
    `polysem.measure.CapacityStream` for those).

    Args:
        norm: `"raw"` takes rows as they are, `"unit"` divides each by its norm first.
        **kwargs: of `torchmetrics.Metric`.

    Example:
        >>> metric = CapacityMetric()
        >>> metric.update(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]]))
        >>> {name: round(float(value), 3) for name, value in metric.compute().items()}
        {'total': 2.0, 'total_per_dimension': 1.0, 'null_per_dimension': 0.686, 'effective_rank': 1.8,
        'n_ignored': 0.0, 'n_impure': 2.0, 'n_pure': 1.0}

    Source: ours.
    """

    is_differentiable = False
    full_state_update = False
    sums: Tensor
    n_updates: Tensor

    def __init__(self, norm: Norm = "raw", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        summarise(torch.zeros(1, 1), norm)  # names a wrong norm now, not at the first update
        self.norm = norm
        self.add_state("sums", torch.zeros(len(NUMBERS)), dist_reduce_fx="sum")
        self.add_state("n_updates", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, rows: Float[Tensor, "n_features d_hidden"]) -> None:
        """Measure a matrix, features as rows; a ValueError names the first row with a NaN or infinity."""
        numbers = summarise(rows, self.norm).numbers()
        self.sums += self.sums.new_tensor([numbers[name] for name in NUMBERS])
        self.n_updates += 1

    def compute(self) -> dict[str, Tensor]:
        """The means, each a tensor of one number."""
        return dict(zip(NUMBERS, self.sums / self.n_updates, strict=True))
