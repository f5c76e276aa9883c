"""The penalty that flattens diminishing returns, for anyone's training loop."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysem import _checks
from polysem.measure import capacity, direction_capacity, response_capacity
from polysem.zoo import ToyModel


class CapacityPenalty(nn.Module):
    r"""A price on sharing: nothing for ignored and for pure features, most for those of capacity 1/2.

        Σ_i κ_i C_i (1 - C_i)

    Added to a loss that is `Σ_i L_i(C_i)`, it makes every curve concave where `κ_i >= max_C L_i''(C) / 2`: then
    capacity goes to one feature at a time, and the optimum is monosemantic. That suffices, and is not necessary.

    Args:
        kappa: `κ`, a number or one for each feature `[n_features]`, or `[*batch, n_features]`, none negative, in the
            unit of the loss.
        norm: "raw" rows, or "unit" for their directions alone; for embeddings only.
        directions: `u` as rows `[*batch, n_directions, n_features]`, to charge for their capacities instead of those of
            the features (`measure.direction_capacity`); for toy models and response matrices only, with a `kappa` for
            each direction.
        ramp: over how many calls in training mode `κ` rises from 0 along a line; by default it is there at once. The
            count is part of the module's state.

    Raises:
        ValueError: a `kappa` that is negative or not finite, an unknown norm, a ramp that is no whole number.

    Example:
        >>> import torch
        >>> from polysem.interventions import CapacityPenalty
        >>> penalty = CapacityPenalty(4.0)
        >>> penalty(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])).item()  # one pure feature, two share
        2.0
        >>> W = torch.randn(3, 2, requires_grad=True)
        >>> penalty(W).backward()

    Source: ours, for the question of the discussion whether flatter returns would make features monosemantic.
    """

    kappa: Tensor
    step: Tensor
    directions: Tensor | None

    def __init__(
        self,
        kappa: object,
        *,
        norm: Literal["raw", "unit"] = "raw",
        ramp: int | None = None,
        directions: Float[Tensor, "*batch n_directions n_features"] | None = None,
    ) -> None:
        super().__init__()
        value = _checks.as_float64("kappa", kappa)
        _checks.require(bool((value.isfinite() & (value >= 0)).all()), "kappa", kappa, "non-negative and finite")
        _checks.require(norm in ("raw", "unit"), "norm", norm, '"raw" or "unit"')
        self.norm: Literal["raw", "unit"] = norm
        self.ramp = None if ramp is None else _checks.whole("ramp", ramp)
        self.register_buffer("kappa", value.detach().clone())
        self.register_buffer("directions", directions)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(
        self, W: Tensor | ToyModel | None = None, *, response: Float[Tensor, "*batch n n"] | None = None
    ) -> Float[Tensor, "*batch"]:
        """The penalty, differentiable.

        Args:
            W: features as rows `[*batch, n_features, d_hidden]`; or a toy model, whose readouts then count.
            response: the response matrix `R` `[*batch, n_features, n_features]` instead.

        Returns:
            One number for each entry of the batch.

        Raises:
            ValueError: both or neither of the two, shapes that do not fit `kappa`.
            TypeError: something that is no tensor.
        """
        one = (W is None) != (response is None)
        _checks.require(one, "W and response", "neither" if W is None else "both", "given as one of the two")
        if self.directions is not None:
            allowed = "a toy model or a response matrix where directions are charged"
            _checks.require(isinstance(W, ToyModel) or W is None, "W", type(W).__name__, allowed)
            R = W.response() if isinstance(W, ToyModel) else _checks.matrix("response", response)
            C = direction_capacity(R, self.directions.to(R))
        elif isinstance(W, ToyModel):
            C = response_capacity(W.embedding, W.readout)
        elif response is not None:
            R = _checks.matrix("response", response)
            n = R.shape[-1]
            _checks.require(R.shape[-2] == n, "shape of response", tuple(R.shape), "[..., n_features, n_features]")
            C = response_capacity(torch.eye(n, dtype=R.dtype, device=R.device).expand_as(R), R)
        else:
            C = capacity(_checks.matrix("W", W), norm=self.norm)
        fits = self.kappa.ndim == 0 or self.kappa.shape[-1] == C.shape[-1]
        _checks.require(fits, "shape of kappa", tuple(self.kappa.shape), f"one number or [n_features = {C.shape[-1]}]")
        cost = (self.kappa.to(C) * C * (1 - C)).sum(-1)
        return cost * self._share()

    def _share(self) -> float:
        """How much of `κ` there is at this call."""
        if self.ramp is None:
            return 1.0
        if self.training:
            self.step += 1
        return min(1.0, int(self.step) / self.ramp)

    def extra_repr(self) -> str:
        """The settings."""
        ramp = "" if self.ramp is None else f", ramp={self.ramp}"
        return f"kappa={_checks.short(self.kappa)}, norm={self.norm!r}{ramp}"
