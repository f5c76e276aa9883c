"""How far the benefits of several features lie from a common one, beyond what their errors explain."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Dispersion:
    r"""Spread of marginal benefits `b_i` around their mean, as a share of their size.

        dispersion = √(σ² / (σ² + μ²)),   μ = mean b_i,   σ² = Σ (b_i - μ)² / (m - 1) - mean stderr_i²

    0 if all are equal, 1 if they have nothing in common. Fewer than two features have none: 0.

    Attributes:
        mean: `μ` `[*batch]`, the common benefit; 0 without a feature.
        value: the dispersion.
        low: lower end of its 95 % interval, from independent normal errors of the benefits; `μ` counts as known.
        high: upper end.
    """

    mean: Float[Tensor, "*batch"]
    value: Float[Tensor, "*batch"]
    low: Float[Tensor, "*batch"]
    high: Float[Tensor, "*batch"]

    def select(self, at: int | tuple[int, ...]) -> "Dispersion":
        """The dispersion of one network of a stack."""
        return Dispersion(self.mean[at], self.value[at], self.low[at], self.high[at])


def dispersion(
    benefit: Float[Tensor, "*batch n_features"],
    stderr: Float[Tensor, "*batch n_features"],
    counted: Bool[Tensor, "*batch n_features"],
) -> Dispersion:
    """Dispersion of the counted features."""
    m = counted.sum(-1).to(benefit)
    several = m >= 2
    left = torch.where(several, m - 1, 1.0)
    mean = torch.where(counted, benefit, 0.0).sum(-1) / m.clamp(min=1)
    deviation = torch.where(counted, benefit - mean[..., None], 0.0).square()
    noise = torch.where(counted, stderr, 0.0).square()
    spread = deviation.sum(-1) / left - noise.sum(-1) / m.clamp(min=1)
    # Variance of bᵀPb / (m - 1) for independent normal errors, P the projection off the mean.
    trace = (1 - 2 / m.clamp(min=2)) * noise.square().sum(-1) + (noise.sum(-1) / m.clamp(min=1)).square()
    error = NORMAL_95 * (2 * trace + 4 * (noise * deviation).sum(-1)).sqrt() / left

    def share(square: Tensor) -> Tensor:
        square = torch.where(several, square.clamp(min=0), 0.0)
        whole = square + mean.square()
        return (square / torch.where(whole > 0, whole, 1.0)).sqrt()

    return Dispersion(mean, share(spread), share(spread - error), share(spread + error))
