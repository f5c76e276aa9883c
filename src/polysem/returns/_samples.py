"""Samples of features and of what reads them: the readouts of a user's own network."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.returns._minima import Points, Problem
from polysem.returns._patterns import COPIES, NETWORK, STAND_IN, coefficients, vanishing
from polysem.returns._solve import LOSSES, solver


@dataclass(frozen=True)
class Samples:
    r"""Samples of features with their readouts, or with the response matrix of the readouts.

    Capacity `C` of a feature means here `R_ii² / Σ_j R_ij²` where the response is given; where only readouts `z` are,
    it is the share of the feature in the variance of its readout, the same thing for independent features of equal
    variance and linear readouts.

    Attributes:
        x: features `[n_samples, n_features]`, to be read (for a nonlinear target, pass its values `t(x)`).
        z: readouts before the loss `[n_samples, n_features]`. `R_ii` is then the slope of the regression of `z_i` on
            `x_i`, and the interference what it leaves, with the variance of the feature.
        response: `R[n_features, n_features]`, how far readout i moves per unit of feature j; instead of `z`.
        loss: "linear" `(z - y)²`, "relu" `(ReLU(z) - y)²`, "abs" `(|z| - y)²`, or a callable that takes `z` and `y` of
            any common shape to the losses, entry by entry, twice differentiable in `z` almost everywhere.
        target: `y` `[n_samples, n_features]`; by default `x`.
        weight: weights of the samples `[n_samples]`, none negative; by default all equal.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, a negative weight, fewer than two samples, an
            unknown loss, both or neither of `z` and `response`.
        TypeError: something that is not a tensor where one is asked for.

    Source: ours.
    """

    x: Float[Tensor, "n_samples n_features"]
    z: Float[Tensor, "n_samples n_features"] | None = None
    response: Float[Tensor, "n_features n_features"] | None = None
    loss: str | Callable[[Tensor, Tensor], Tensor] = "linear"
    target: Float[Tensor, "n_samples n_features"] | None = None
    weight: Float[Tensor, " n_samples"] | None = None

    def __post_init__(self) -> None:
        """Check everything but the values of a callable loss."""
        x = _checks.matrix("x", self.x)
        _checks.require(x.ndim == 2 and len(x) >= 2, "shape of x", tuple(x.shape), "[n_samples >= 2, n_features]")
        n = x.shape[1]
        one = (self.z is None) != (self.response is None)
        _checks.require(one, "z and response", "both" if self.z is not None else "neither", "given as one of the two")
        for name, value, shape in (
            ("z", self.z, tuple(x.shape)),
            ("response", self.response, (n, n)),
            ("target", self.target, tuple(x.shape)),
            ("weight", self.weight, tuple(x.shape[:1])),
        ):
            if value is not None:
                _checks.require(
                    _checks.floating(name, value).shape == shape, f"shape of {name}", tuple(value.shape), f"{shape}"
                )
                _checks.finite_rows(name, value[..., None] if value.ndim == 1 else value)
        if self.weight is not None:
            usable = bool((self.weight >= 0).all()) and float(self.weight.sum()) > 0
            _checks.require(usable, "weight", self.weight, "non-negative, and not all 0")
        known = callable(self.loss) or self.loss in LOSSES
        _checks.require(known, "loss", self.loss, "a callable or one of " + ", ".join(map(repr, LOSSES)))

    def problem(self, importance: object, pattern: str | Tensor, seed: int) -> Problem:
        """The readouts with their interference; importance `[n_features]`, by default 1."""
        x = self.x.double()
        scale = _checks.as_float64("importance", 1.0 if importance is None else importance).to(x.device)
        allowed = f"a number or [n_features] = {(x.shape[1],)}"
        _checks.require(tuple(scale.shape) in ((), (x.shape[1],)), "shape of importance", tuple(scale.shape), allowed)
        _checks.require(
            bool((scale.isfinite() & (scale >= 0)).all()), "importance", importance, "non-negative and finite"
        )
        weight = torch.ones_like(x[:, 0]) if self.weight is None else self.weight.double()
        weight = weight / weight.sum()
        if self.z is not None and isinstance(pattern, str) and pattern == NETWORK:
            noise, copies = _residual(x, self.z.double(), weight)
        else:
            R = torch.zeros_like(x[:1]).mT * x[:1] if self.response is None else self.response.double()
            rows, sign = coefficients(R[None], pattern)
            noise, copies = x @ rows[0].mT, sign[0]
        if bool((copies != 0).any()):
            noise = torch.where(copies != 0, copies * x[_partners(weight, seed)], noise)
        target = x if self.target is None else self.target.double()
        points = Points(
            own=x.mT[..., None],
            interference=noise.mT[..., None],
            target=target.mT[..., None],
            weight=weight.expand_as(x.mT)[..., None],
            other_weight=torch.ones_like(x[:1].mT)[..., None],
        )
        return Problem(solver(points, self.loss), scale.expand_as(x[0]), copies != 0)


def _residual(x: Tensor, z: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What readouts do beside following their feature, with its variance and for a positive slope."""
    x, z = x - weight @ x, z - weight @ z
    spread = weight @ x.square()
    slope = weight @ (x * z) / torch.where(spread > 0, spread, 1.0)
    rest = z - slope * x
    left = (weight @ rest.square()).sqrt()
    nothing = vanishing(left, slope.abs() * spread.sqrt())
    sign = torch.where(slope < 0, -1.0, 1.0)
    noise = rest * sign * spread.sqrt() / torch.where(nothing, 1.0, left)
    return noise, torch.where(nothing, COPIES[STAND_IN], 0.0)


def _partners(weight: Tensor, seed: int) -> Tensor:
    """Samples by their weights, as evenly as can be, in random order."""
    generator = torch.Generator().manual_seed(seed)
    n = len(weight)
    level = (torch.arange(n, dtype=weight.dtype) + 0.5) / n
    place = torch.searchsorted(weight.cpu().cumsum(-1), level).clamp(max=n - 1)
    return place[torch.randperm(n, generator=generator)].to(weight.device)
