"""What is seen of a network whose features are not given."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.returns import SlopeMoments, slope_moments
from polysem.zoo import Autoencoder, QuadraticModel, ToyModel

QUADRATIC = "quadratic"
READOUTS = {"identity": "linear", "relu": "relu", "abs": "abs"}
"""How an autoencoder with this activation reads, in the words of `returns.direction_losses`."""


@dataclass(frozen=True)
class View:
    """A stack of networks as seen from outside, in coordinates that need not be the features.

    Attributes:
        x: inputs.
        moments: how the loss moves with the readouts, with the response matrix.
        importance: `M`, so that a direction has the importance `uᵀ M u`: for features `diag(v)` or `diag(I)`, turned as
            the inputs are.
        loss: "quadratic" for the quadratic model; "linear", "relu" or "abs" readouts of a network with one output for
            each input.
    """

    x: Float[Tensor, "n_samples n_inst n"]
    moments: SlopeMoments
    importance: Float[Tensor, "n_inst n n"]
    loss: str

    def __post_init__(self) -> None:
        """Check the kind of loss."""
        known = (QUADRATIC, *READOUTS.values())
        _checks.require(self.loss in known, "loss", self.loss, "one of " + ", ".join(map(repr, known)))

    @property
    def response(self) -> Float[Tensor, "n_inst n n"]:
        """`R`, how far readout i moves per unit of input j."""
        return self.moments.response

    @cached_property
    def centred(self) -> Float[Tensor, "n_inst n_samples n"]:
        """The inputs less their means."""
        return (self.x - self.x.mean(0)).transpose(0, 1)

    @cached_property
    def covariance(self) -> Float[Tensor, "n_inst n n"]:
        """Of the inputs."""
        return self.centred.mT @ self.centred / len(self.x)

    @cached_property
    def _fourth(self) -> Float[Tensor, "n_inst n_pairs n_pairs"]:
        """`E x_i x_j x_k x_l`, of centred inputs."""
        pairs = torch.einsum("nsi,nsj->nsij", self.centred, self.centred).flatten(2)
        return pairs.mT @ pairs / len(self.x)

    def importance_of(self, u: Float[Tensor, "n_inst k n"]) -> Float[Tensor, "n_inst k"]:
        """`uᵀ M u` of each direction."""
        return ((u @ self.importance) * u).sum(-1)

    def kurtosis_of(self, u: Float[Tensor, "n_inst k n"]) -> Float[Tensor, "n_inst k"]:
        """`F_u`, that of `u·x` on the samples; from their fourth moments, so `O(n⁴)` whatever the samples."""
        pairs = torch.einsum("nki,nkj->nkij", u, u).flatten(2)
        variance = ((u @ self.covariance) * u).sum(-1)
        return ((pairs @ self._fourth) * pairs).sum(-1) / variance.square()


def view(model: ToyModel, x: Tensor, importance: object, *, rotation: Tensor | None = None) -> View:
    """Look at a toy model through samples, in coordinates `x' = x Q`.

    Args:
        model: a `QuadraticModel` or an autoencoder that reads through the identity, a ReLU or the absolute value.
        x: inputs in the model's own coordinates, `[n_samples, n_features]` or `[n_samples, n_inst, n_features]`.
        importance: `v` or `I`.
        rotation: `Q`, `[n_features, n_features]` or `[n_inst, n_features, n_features]`, orthogonal; by default none.

    Returns:
        `View`: inputs, readouts and slopes of the loss are turned by `Q`, and nothing else is known.

    Raises:
        ValueError: inputs, importances or a rotation that do not fit, another activation.
        TypeError: another model.

    Example:
        >>> from polysem.interventions import view
        >>> from polysem.zoo import QuadraticModel
        >>> Q = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
        >>> seen = view(QuadraticModel(2, 1), torch.eye(2), [1.0, 0.5], rotation=Q)
        >>> seen.importance_of(Q[None])  # its rows are the features, seen from outside
        tensor([[1.0000, 0.5000]], dtype=torch.float64)

    Source: ours.
    """
    if isinstance(model, QuadraticModel):
        loss = QUADRATIC
    elif isinstance(model, Autoencoder):
        known = model.activation in READOUTS
        _checks.require(known, "activation", model.activation, "one of " + ", ".join(map(repr, READOUTS)))
        loss = READOUTS[str(model.activation)]
    else:
        raise TypeError(f"model must be a QuadraticModel or an autoencoder, got {type(model).__name__}")
    moments = slope_moments(model, x, importance)
    M = torch.diag_embed(model.importance_per_instance(importance))
    n = model.n_features
    x = (x if x.ndim == 3 else x[:, None]).double().expand(-1, model.n_inst, -1)
    if rotation is not None:
        Q = _checks.matrix("rotation", rotation).to(M)
        shapes = ((n, n), (model.n_inst, n, n))
        _checks.require(tuple(Q.shape) in shapes, "shape of rotation", tuple(Q.shape), f"one of {shapes}")
        off = float((Q.mT @ Q - torch.eye(n).to(Q)).abs().max())
        _checks.require(off < 1e-6, "rotation", rotation, "orthogonal")
        x, moments, M = torch.einsum("snf,nfg->sng", x, Q.expand_as(M)), moments.rotated(Q), Q.mT @ M @ Q
    return View(x, moments, M, loss)
