"""Features taken out of a problem: no input, no importance, no embedding."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polysem import _checks
from polysem.features import SparseFeatures
from polysem.zoo import Objective, ToyModel


def read_mask(mask: object, model: ToyModel) -> Bool[Tensor, "*n_inst n_features"]:
    """The mask as a boolean tensor on the model's device.

    Raises:
        ValueError: a shape other than `[n_features]` or `[n_inst, n_features]`.
        TypeError: values that are not True or False.
    """
    masked = torch.as_tensor(mask)
    if masked.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, True where a feature is removed, got {masked.dtype}")
    n_inst, n_features = model.n_inst, model.n_features
    allowed = f"of shape [n_features] or [n_inst, n_features] = {((n_features,), (n_inst, n_features))}"
    fits = tuple(masked.shape) in ((n_features,), (n_inst, n_features))
    _checks.require(fits, "mask", tuple(masked.shape), allowed)
    return masked.to(model.embedding.device)


def clear_rows(model: ToyModel, masked: Bool[Tensor, "*n_inst n_features"]) -> dict[str, Tensor]:
    """Set the masked rows of the embedding to 0, in place, and mark the entries of the state that were set."""
    with torch.enable_grad():
        parameters = dict(model.named_parameters())
        chosen = model.embedding[masked.expand(model.n_inst, model.n_features)].sum()
        grads = torch.autograd.grad(chosen, list(parameters.values()), allow_unused=True)
    marks = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    for (name, parameter), grad in zip(parameters.items(), grads, strict=True):
        if grad is not None:
            parameter[grad != 0] = 0.0
            marks[name] = (grad != 0).to(parameter)
    return marks


def require_removed(
    model: ToyModel, features: SparseFeatures, importance: Tensor, masked: Bool[Tensor, "*n_inst n_features"]
) -> None:
    """Raise a ValueError if the loss still depends on masked inputs: then an exact loss would too."""
    x = features.sample(16, generator=torch.Generator().manual_seed(0)).to(model.embedding)
    x = (x if x.ndim == 3 else x[:, None]).expand(-1, model.n_inst, -1) + 1
    losses = [model.per_sample_loss(x.masked_fill(masked, value), importance) for value in (0.0, 1.0)]
    if not torch.equal(*losses):
        raise ValueError(
            'mask must be left out unless loss="sampled" for a model that reads inputs past its embedding, got '
            f"{type(model).__name__}"
        )


@dataclass(frozen=True)
class Restricted:
    """An objective some of whose parameters stay 0.

    Attributes:
        objective: the whole objective.
        free: 1 for parameters that may move, 0 for others, which are taken as 0 whatever they are.
    """

    objective: Objective
    free: Float[Tensor, "n_inst n_parameters"]

    def loss(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, " n_inst"]:
        """The objective's."""
        return self.objective.loss(theta * self.free)

    def gradient(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters"]:
        """The objective's, 0 along fixed parameters."""
        return self.objective.gradient(theta * self.free) * self.free

    def hessian(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters n_parameters"]:
        """The objective's, 0 along fixed parameters."""
        return self.objective.hessian(theta * self.free) * self.free[:, None] * self.free[..., None]

    def select(self, instances: Int[Tensor, " n_selected"]) -> "Restricted":
        """The restricted objective of the chosen instances alone."""
        return Restricted(self.objective.select(instances), self.free[instances])

    def pack(self, state: dict[str, Tensor]) -> Float[Tensor, "n_inst n_parameters"]:
        """The objective's."""
        return self.objective.pack(state)

    def unpack(self, theta: Float[Tensor, "n_inst n_parameters"]) -> dict[str, Tensor]:
        """The objective's."""
        return self.objective.unpack(theta)
