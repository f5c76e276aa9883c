"""Inputs with finitely many outcomes, whose expectations are sums without sampling."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Outcomes:
    """All values that a vector of inputs can take, with their chances.

    Attributes:
        x: outcomes `[n_outcomes, n_features]`, float64.
        chance: probability of each, summing to 1.
    """

    x: Float[Tensor, "n_outcomes n_features"]
    chance: Float[Tensor, " n_outcomes"]

    def mean(self, values: Float[Tensor, " n_outcomes *shape"]) -> Float[Tensor, "*shape"]:
        """Exact expectation of a quantity known at each outcome."""
        result: Tensor = torch.tensordot(self.chance, values, dims=1)
        return result

    def variance(self, values: Float[Tensor, " n_outcomes"]) -> Float[Tensor, ""]:
        """Exact variance of a quantity known at each outcome."""
        return self.mean((values - self.mean(values)).square())

    def loss(self, W: Float[Tensor, "n_features d_hidden"], v: Float[Tensor, " n_features"]) -> Float[Tensor, ""]:
        """Exact loss of the quadratic model at its best `b`: `Var(Σ_i v_i x_i² − |xW|²)`."""
        return self.variance(self.x.square() @ v - (self.x @ W).square().sum(-1))


def three_point(kurtosis: Float[Tensor, " n_features"], skewness: Float[Tensor, " n_features"]) -> Outcomes:
    """Independent inputs of mean 0 and variance 1 on the values −α, 0 and β.

        β − α = E x³,   αβ = E x⁴ − (E x³)²,   P(β) = 1 / (β (α + β)),   P(−α) = 1 / (α (α + β))

    Without skewness these are the standardised sparse signs; at the largest, `√(E x⁴ − 1)`, zero has no chance.

    Args:
        kurtosis: `E x_i⁴`, above 1.
        skewness: `E x_i³`, its square at most `E x_i⁴ − 1`.

    Returns:
        All `3 ** n_features` outcomes.

    Example:
        >>> from polysem.studies._outcomes import three_point
        >>> inputs = three_point(torch.tensor([4.0, 4.0]).double(), torch.tensor([0.0, 1.0]).double())
        >>> [inputs.mean(inputs.x**k).round(decimals=12).abs().tolist() for k in (1, 2, 3, 4)]
        [[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [4.0, 4.0]]

    Source: ours.
    """
    beta = (skewness + (4 * kurtosis - 3 * skewness.square()).sqrt()) / 2
    alpha = beta - skewness
    values = torch.stack([-alpha, torch.zeros_like(beta), beta], -1)
    low, high = 1 / (alpha * (alpha + beta)), 1 / (beta * (alpha + beta))
    chances = torch.stack([low, (1 - low - high).clamp(min=0), high], -1)
    feature = torch.arange(len(kurtosis))
    choice = torch.cartesian_prod(*(torch.arange(3) for _ in feature)).reshape(-1, len(feature))
    return Outcomes(values[feature, choice], chances[feature, choice].prod(-1))


def one_at_a_time(n_features: int) -> Outcomes:
    """Uncorrelated but dependent inputs: exactly one of n features is active, at √n or −√n with equal chance.

        E x_i = E x_i x_j = 0,   E x_i² = 1,   E x_i⁴ = n,   E x_i² x_j² = 0     (i ≠ j)

    Each feature alone is distributed as in `three_point` with kurtosis n and no skewness.

    Example:
        >>> from polysem.studies._outcomes import one_at_a_time
        >>> inputs = one_at_a_time(4)
        >>> inputs.x.shape, inputs.mean(inputs.x**4).tolist()
        (torch.Size([8, 4]), [4.0, 4.0, 4.0, 4.0])

    Source: ours.
    """
    active = n_features**0.5 * torch.eye(n_features, dtype=torch.float64)
    return Outcomes(torch.cat([active, -active]), torch.full((2 * n_features,), 0.5 / n_features, dtype=torch.float64))
