"""The points over which a readout's loss is averaged, and what its minimisation over slope and offset returns."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CHUNK_ELEMENTS = 2**17
"""Numbers in an intermediate array: few enough for the processor's cache."""


@dataclass(frozen=True)
class Minima:
    """Least losses `[n_readouts, n_points]` over `(a, b)`, where they are, and `-dL/dC` at fixed `(a, b)`."""

    loss: Float[Tensor, "n_readouts n_points"]
    benefit: Float[Tensor, "n_readouts n_points"]
    slope: Float[Tensor, "n_readouts n_points"]
    offset: Float[Tensor, "n_readouts n_points"]
    converged: Bool[Tensor, "n_readouts n_points"]


@dataclass(frozen=True)
class Problem:
    """Readouts whose least losses are wanted.

    Attributes:
        minima: from capacities `[n_points]`, the least losses of all readouts.
        importance: factor of each readout's loss `[*batch, n_features]`; flattened, the readouts' order.
        copied: whether a copy of the feature is its interference, of the same shape.
        exact: whether curves are closed forms.
    """

    minima: Callable[[Tensor], Minima]
    importance: Float[Tensor, "*batch n_features"]
    copied: Bool[Tensor, "*batch n_features"]
    exact: bool = False


@dataclass(frozen=True)
class Points:
    """Weighted values of a feature, its interference and its target, for each readout.

    Either joint samples along `n_own`, with `n_other = 1`, or the product of two independent laws, so that feature and
    interference are independent in the sample too: no chance correlation bends a curve near C = 1.

    Attributes:
        own: values of the feature.
        interference: values of its interference, of unit coefficient norm.
        target: values to be read.
        weight: weights of `own`; they sum to 1.
        other_weight: weights of `interference`, 1 for joint samples; else they sum to 1.
    """

    own: Float[Tensor, "n_readouts n_own 1"]
    interference: Float[Tensor, "n_readouts own_or_1 n_other"]
    target: Float[Tensor, "n_readouts n_own 1"]
    weight: Float[Tensor, "n_readouts n_own 1"]
    other_weight: Float[Tensor, "n_readouts 1 n_other"]

    def rows(self, part: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Feature, interference, target and weight `[n_part, n_points]` of some readouts."""
        weight = self.weight[part] * self.other_weight[part]
        own, noise, target = (values[part].expand_as(weight) for values in (self.own, self.interference, self.target))
        return own.flatten(1), noise.flatten(1), target.flatten(1), weight.flatten(1)

    def minimise(self, C: Float[Tensor, " n_points"], solve: Callable[..., Minima]) -> Minima:
        """`solve(own, interference, target, weight, t)` for all readouts, some at a time; `t = 0` at C = 0."""
        t = torch.where(C > 0, (1 / C.clamp(min=torch.finfo(C.dtype).tiny) - 1).sqrt(), 0.0)
        size = self.own.shape[1] * self.interference.shape[2] * len(C)
        step = max(1, CHUNK_ELEMENTS // size)
        parts = [solve(*self.rows(slice(at, at + step)), C, t) for at in range(0, len(self.own), step)]
        fields = ("loss", "benefit", "slope", "offset", "converged")
        return Minima(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))
