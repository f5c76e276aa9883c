"""Returns of directions: what `prices` and `curve` say of features, for any linear combination of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.measure import direction_capacity
from polysem.returns._minima import Points
from polysem.returns._patterns import COPIES, STAND_IN, vanishing
from polysem.returns._prices import shares
from polysem.returns._solve import LINEAR, LOSSES, solver
from polysem.returns._toy_readouts import inputs_of, readouts_of
from polysem.zoo import ToyModel, as_function


@dataclass(frozen=True)
class SlopeMoments:
    r"""All that the prices of all directions depend on: three matrices for each instance.

    Attributes:
        with_readout: `E[∂L/∂z zᵀ]`.
        with_input: `E[∂L/∂z xᵀ]`.
        response: `R`.

    Source: ours.
    """

    with_readout: Float[Tensor, "*batch n n"]
    with_input: Float[Tensor, "*batch n n"]
    response: Float[Tensor, "*batch n n"]

    @classmethod
    def of(
        cls,
        slope: Float[Tensor, "n_samples *batch n"],
        z: Float[Tensor, "n_samples *batch n"],
        x: Float[Tensor, "n_samples *batch n"],
        response: Float[Tensor, "*batch n n"],
        weight: Float[Tensor, " n_samples"] | None = None,
    ) -> "SlopeMoments":
        """From the slope of each sample's loss by its readouts, the readouts and the inputs of any network.

        Args:
            slope: `∂L/∂z` of each sample's loss.
            z: the readouts.
            x: what they are to follow.
            response: `R`, how far readout i moves per unit of input j.
            weight: of the samples; by default all equal.
        """
        share = shares(weight, x)
        with_readout, with_input = (
            torch.einsum("s,s...i,s...j->...ij", share, slope.double(), value.double()) for value in (z, x)
        )
        return cls(with_readout, with_input, response.double())

    def rotated(self, rotation: Float[Tensor, "*#batch n n"]) -> "SlopeMoments":
        """Those seen in coordinates `x' = x Q`, where inputs, readouts and slopes are all turned by `Q`."""
        parts = (self.with_readout, self.with_input, self.response)
        return SlopeMoments(*(rotation.mT @ part @ rotation for part in parts))


def slope_moments(
    model: ToyModel, x: Tensor, importance: object, *, weight: Float[Tensor, " n_samples"] | None = None
) -> SlopeMoments:
    """Measure on samples how the loss of a toy model moves with its readouts, in one backward pass.

    Args:
        model: a stack of toy models.
        x: inputs `[n_samples, n_features]` or `[n_samples, n_inst, n_features]`.
        importance: `v` or `I`.
        weight: of the samples; by default all equal.

    Returns:
        `SlopeMoments` with the axis `n_inst` first.

    Raises:
        ValueError: inputs or importances that do not fit.
        TypeError: something that is no toy model.

    Example:
        >>> from polysem.returns import slope_moments
        >>> from polysem.zoo import TiedAutoencoder
        >>> model = TiedAutoencoder(3, 2, generator=torch.Generator().manual_seed(0))
        >>> slope_moments(model, torch.eye(3), [1.0, 1.0, 1.0]).with_input.shape
        torch.Size([1, 3, 3])

    Source: ours.
    """
    x = inputs_of(model, x)
    share = shares(weight, x).to(x)
    with torch.no_grad():
        toy = readouts_of(model, x, share, importance)
        response = toy.site.rows @ toy.embedding.mT
    ((_, z, slope),) = toy.site.pieces(model, x, toy.loss)
    return SlopeMoments.of(slope, z, toy.features, response, share)


def direction_prices(
    moments: SlopeMoments, directions: Float[Tensor, "*batch n_directions n"]
) -> Float[Tensor, "*batch n_directions"]:
    r"""What the loss loses with the next bit of capacity of each direction, given the network as it is.

        z(s) = z + (√(1 - s) - 1) (u·z - R_uu u·x) u
        dL/ds_u = -1/2 E[(∂L/∂z·u)(u·z - R_uu u·x)],   dL/dC_u = dL/ds_u / (C_u (1 - C_u))

    The readout moves along `u` alone. Along an axis this is the price of the feature (`prices`). It means nothing where
    `C_u` is near 0 or 1 (`measure.direction_capacity`), and unlike that of a trained feature it may be positive.

    Args:
        moments: of the network.
        directions: unit vectors `u` as rows.

    Returns:
        `dL/dC_u`, differentiable by `u`; 0 where `C_u` is 0 or 1 to rounding.

    Example:
        >>> from polysem.returns import direction_prices, slope_moments
        >>> from polysem.zoo import QuadraticModel
        >>> model = QuadraticModel(2, d_hidden=1)
        >>> _ = model.load_state_dict({"W": torch.tensor([[[1.0], [0.5]]]), "b": torch.zeros(1)})
        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
        >>> moments = slope_moments(model, x, [1.0, 1.0])
        >>> direction_prices(moments, torch.eye(2, dtype=torch.float64)[None])
        tensor([[-3.1250, -3.1250]], dtype=torch.float64)

    Source: ours.
    """
    u = directions
    own = _along(moments.response, u)
    slope = -0.5 * (_along(moments.with_readout, u) - own * _along(moments.with_input, u))
    C = direction_capacity(moments.response, u)
    room = C * (1 - C)
    inside = room > torch.finfo(room.dtype).eps
    return torch.where(inside, slope / torch.where(inside, room, 1.0), 0.0)


def direction_losses(
    directions: Float[Tensor, "*batch n_directions n"],
    x: Float[Tensor, "n_samples *batch n"],
    response: Float[Tensor, "*batch n n"],
    C: Float[Tensor, " n_points"],
    *,
    loss: str = LINEAR,
) -> Float[Tensor, "*batch n_directions n_points"]:
    r"""Measure the least loss of each direction at some capacities, by scaling the interference that its readout sees.

        L_u(C) = min_{a,b} E (act(a (u·x + √(1/C - 1) ν_u) + b) - u·x)²      ν_u = (Rᵀu - R_uu u)·x / |Rᵀu - R_uu u|

    Along an axis this is `curve` of `Samples`, at importance 1. A direction is read as a feature would be: through the
    network's activation. What a ReLU cannot follow is then part of the loss at every capacity, as for a mixture that
    takes both signs, and `u` and `-u` differ. Where the interference vanishes, an antipodal copy stands for it.

    Args:
        directions: unit vectors `u` as rows.
        x: samples of the inputs.
        response: `R`, how far readout i moves per unit of input j.
        C: capacities in [0, 1].
        loss: "linear", "relu" or "abs".

    Returns:
        `L_u(C)`, differentiable by `u` (at the minimum `a` and `b` may be held fixed).

    Raises:
        ValueError: an unknown loss.

    Example:
        Linear readouts of independent features have constant returns, in every direction:

        >>> from polysem.returns import direction_losses
        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
        >>> u = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
        >>> C = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
        >>> direction_losses(u, torch.cat([x, -x]), torch.tensor([[2.0, 1.0], [1.0, 1.0]]).double(), C)
        tensor([[1.0000, 0.5000, 0.0000],
                [1.0000, 0.5000, 0.0000]], dtype=torch.float64)

    Source: ours.
    """
    _checks.require(loss in LOSSES, "loss", loss, "one of " + ", ".join(map(repr, LOSSES)))
    u = directions
    own = _along(response, u)
    rest = u @ response - own[..., None] * u
    size = torch.linalg.vector_norm(rest, dim=-1)
    nothing = vanishing(size, own.abs())
    rest = rest * (torch.where(own < 0, -1.0, 1.0) / torch.where(nothing, 1.0, size))[..., None]
    f, noise = (torch.einsum("s...n,...kn->...ks", x, rows) for rows in (u, rest))
    if bool(nothing.any()):
        copy = f[..., torch.randperm(f.shape[-1], generator=torch.Generator().manual_seed(0)).to(f.device)]
        noise = torch.where(nothing[..., None], COPIES[STAND_IN] * copy, noise)
    shape, (f, noise) = f.shape[:-1], (value.flatten(0, -2) for value in (f, noise))
    weight = torch.full_like(f, 1 / f.shape[-1])
    with torch.no_grad():
        points = Points(
            f[..., None], noise[..., None], f[..., None], weight[..., None], torch.ones_like(f[:, :1, None])
        )
        best = solver(points, loss)(C)
    act = as_function("identity" if loss == LINEAR else loss)
    t = torch.where(C > 0, (1 / C.clamp(min=torch.finfo(C.dtype).tiny) - 1).sqrt(), 0.0)
    values = [
        (act(a * (f + t_k * noise) + b) - f).square().mean(-1)
        for t_k, a, b in zip(t, best.slope.mT[..., None], best.offset.mT[..., None], strict=True)
    ]
    return torch.stack(values, -1).reshape(*shape, len(C))


def _along(matrix: Tensor, u: Tensor) -> Tensor:
    """`uᵀAu` of every direction."""
    return torch.einsum("...ki,...ij,...kj->...k", u, matrix, u)
