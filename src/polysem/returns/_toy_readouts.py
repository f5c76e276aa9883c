"""The readouts of toy models, exposed: what each sees, and the loss as a function of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.returns._readouts import Exposed
from polysem.zoo import Autoencoder, HiddenLayerModel, NeuronModel, QuadraticModel, ResidualMLP, ToyModel, as_function


@dataclass(frozen=True)
class ToyReadouts:
    """What a measurement of prices needs to know of a toy model and its inputs.

    Attributes:
        site: the readouts, from inputs `[n_samples, n_inst, n_features]`.
        loss: the losses `[n_samples, n_inst]` from readouts and inputs.
        embedding: `W` with `R = V Wᵀ`.
        features: what each readout is to follow.
    """

    site: Exposed
    loss: Callable[[Tensor, Tensor], Tensor]
    embedding: Float[Tensor, "n_inst n_features d_hidden"]
    features: Float[Tensor, "n_samples n_inst n_features"]


def inputs_of(model: ToyModel, x: Tensor) -> Float[Tensor, "n_samples n_inst n_features"]:
    """Inputs `[n_samples, n_features]` or with an instance axis, checked, for every instance."""
    x = _checks.floating("batch", x)
    shapes = ((model.n_features,), (1, model.n_features), (model.n_inst, model.n_features))
    allowed = "[n_samples, n_features] or [n_samples, n_inst, n_features], n_inst and n_features as the model's"
    _checks.require(tuple(x.shape[1:]) in shapes and len(x) > 0, "shape of batch", tuple(x.shape), allowed)
    _checks.finite_rows("batch", x.flatten(1))
    x = x if x.ndim == 3 else x[:, None]
    return x.to(model.embedding).expand(-1, model.n_inst, -1)


def readouts_of(model: ToyModel, x: Tensor, weight: Tensor, importance: object) -> ToyReadouts:
    """The readouts of a toy model on inputs of which `weight` sums to 1."""
    scale = model.importance_per_instance(importance).to(x)
    W, V = model.embedding.detach(), model.readout.detach()
    if isinstance(model, QuadraticModel):
        b = model.b.detach()

        def quadratic(z: Tensor, x: Tensor) -> Tensor:
            return ((x * z).sum(-1) + b - (scale * x.square()).sum(-1)).square()

        return ToyReadouts(Exposed(lambda x: _read(_embed(x, W), V), V), quadratic, W, x)
    if isinstance(model, Autoencoder):
        offset, act = model.b.detach(), as_function(model.activation)

        def reconstruction(z: Tensor, x: Tensor) -> Tensor:
            return (scale * (act(z + offset) - x).square()).sum(-1)

        return ToyReadouts(Exposed(lambda x: _read(_embed(x, W), V), V), reconstruction, W, x)
    if isinstance(model, HiddenLayerModel | ResidualMLP):
        state, finish = _last_state(model)
        h, t = state(x), model.targets(x)

        def outputs(z: Tensor, x: Tensor) -> Tensor:
            return (scale * (finish(z) - model.targets(x)).square()).sum(-1)

        return ToyReadouts(Exposed(lambda x: _read(state(x), V), V), outputs, _slopes(h, t, weight), t)
    raise TypeError(
        "model must be a QuadraticModel, Autoencoder, HiddenLayerModel or ResidualMLP where it is a toy model, got "
        f"{type(model).__name__}"
    )


def _last_state(model: NeuronModel) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """What the readouts of a model read linearly, and the outputs as a function of the readouts."""
    if isinstance(model, HiddenLayerModel):
        offset = model.b_out.detach()
        return model.neurons, lambda z: z + offset
    assert isinstance(model, ResidualMLP)
    return lambda x: model.streams(x)[-1], model.outputs


def _slopes(h: Tensor, t: Tensor, weight: Tensor) -> Tensor:
    """`Cov(h, t_j) / Var t_j` as rows: how far the state moves with the target of each feature."""
    t = t - torch.tensordot(weight, t, 1)
    spread = torch.tensordot(weight, t.square(), 1)
    moved = torch.einsum("s,snj,snd->njd", weight, t, h)
    return moved / torch.where(spread > 0, spread, 1.0)[..., None]


def _embed(x: Tensor, W: Tensor) -> Tensor:
    return torch.einsum("sif,ifd->sid", x, W)


def _read(h: Tensor, V: Tensor) -> Tensor:
    return torch.einsum("sid,ifd->sif", h, V)
