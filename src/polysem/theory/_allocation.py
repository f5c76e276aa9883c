"""What an allocation of capacity is."""

from dataclasses import dataclass
from enum import IntEnum

from jaxtyping import Float, Int64
from torch import Tensor


class Status(IntEnum):
    """What is known about an allocation.

    Attributes:
        OPTIMAL: the global optimum, to rounding; the budget binds.
        SATURATED: the global optimum, with capacity to spare or none missing: more would lower no loss, and
            the price is 0.
        INTERPOLATED: the global optimum among grid points, then improved between them on interpolated curves;
            the budget binds.
    """

    OPTIMAL = 0
    SATURATED = 1
    INTERPOLATED = 2


@dataclass(frozen=True)
class Allocation:
    """A division of a total capacity among features.

    Attributes:
        capacity: capacity `[*batch, n_features]` of each feature, in [0, 1].
        price: `μ = −dL/dtotal` `[*batch]`, the loss that the next bit of total capacity removes.
        loss: total loss `[*batch]`.
        status: code of `Status` `[*batch]`.
        squared_norm: best `|W_i|²` `[*batch, n_features]` at that capacity; None where only curves are known.
    """

    capacity: Float[Tensor, "*batch n_features"]
    price: Float[Tensor, "*batch"]
    loss: Float[Tensor, "*batch"]
    status: Int64[Tensor, "*batch"]
    squared_norm: Float[Tensor, "*batch n_features"] | None
