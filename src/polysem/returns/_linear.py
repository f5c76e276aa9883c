"""Readouts that are linear up to the loss: least squares in closed form, from second moments alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.returns._minima import Minima, Points


@dataclass(frozen=True)
class Moments:
    r"""Second moments of losses `E (a (P + t Q) + b - Y)²`, of which curves are functions.

        L(C) = Var Y - (√C Cov(P,Y) + √(1-C) Cov(Q,Y))² / (C Var P + 2 √(C(1-C)) Cov(P,Q) + (1-C) Var Q)

    Attributes:
        mean: of `P`, `Q` and `Y`.
        covariance: of `P`, `Q` and `Y`.

    Source: ours.
    """

    mean: Float[Tensor, "n_readouts 3"]
    covariance: Float[Tensor, "n_readouts 3 3"]

    @classmethod
    def independent(cls, mean: Tensor, own: Tensor, other: Tensor, with_target: Tensor, target: Tensor) -> "Moments":
        """From means `[*batch, 3]` and (co)variances `[*batch]` where the interference depends on nothing else."""
        nothing = torch.zeros_like(own)
        rows = [[own, nothing, with_target], [nothing, other, nothing], [with_target, nothing, target]]
        covariance = torch.stack([torch.stack(row, -1) for row in rows], -2)
        return cls(mean.reshape(-1, 3), covariance.reshape(-1, 3, 3))

    @classmethod
    def of(cls, points: Points) -> "Moments":
        """Those of weighted points."""
        *values, weight = points.rows(slice(None))
        stacked = torch.stack(values, 1)
        mean = (stacked @ weight[..., None])[..., 0]
        centred = stacked - mean[..., None]
        return cls(mean, (centred * weight[:, None]) @ centred.mT)

    def __call__(self, C: Float[Tensor, " n_points"]) -> Minima:
        """Least losses over `(a, b)`; without correlation the benefit is `Var Q Cov(P,Y)² / (C Var P + (1-C) Var Q)²`.

        With it the benefit is infinite at C = 0 and C = 1, where 0 stands for it.
        """
        own, other, target = self.covariance.diagonal(dim1=-2, dim2=-1)[..., None].unbind(1)
        cross, with_own, with_other = (self.covariance[:, i, j, None] for i, j in [(0, 1), (0, 2), (1, 2)])
        big, small = C.sqrt(), (1 - C).sqrt()
        spread = C * own + 2 * big * small * cross + (1 - C) * other
        usable = spread > 0
        per_spread = torch.where(usable, 1 / torch.where(usable, spread, 1.0), 0.0)
        scale = torch.where(C > 0, (big * with_own + small * with_other) * per_spread, 0.0)
        loss = (target - scale * (big * with_own + small * with_other)).clamp(min=0)
        inside = (C > 0) & (C < 1)
        inner_big, inner_small = torch.where(inside, big, 1.0), torch.where(inside, small, 1.0)
        moved = with_own / inner_big - with_other / inner_small
        widened = own - other + (1 - 2 * C) / (inner_big * inner_small) * cross
        bent = torch.where(inside, scale * moved - scale.square() * widened, 0.0)
        straight = other * (with_own * per_spread).square()
        free = (cross == 0) & (with_other == 0)
        mean_own, mean_other, mean_target = self.mean[..., None].unbind(1)
        offset = mean_target - scale * (big * mean_own + small * mean_other)
        benefit = torch.where(free, straight, bent)
        return Minima(loss, benefit, big * scale, offset, torch.ones_like(loss, dtype=torch.bool))
