"""What is said of every model after an intervention."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem.measure import IGNORED_BELOW, FeatureClass, classify, polysemanticity, response_capacity
from polysem.training import Fit
from polysem.zoo import Autoencoder, QuadraticModel, ToyModel


@dataclass(frozen=True)
class Treated:
    """A stack of models after an intervention.

    Attributes:
        fit: the trained stack; its losses are those of the model alone, without a penalty.
        capacity: capacity of every feature `[n_inst, n_features]`.
        feature_class: a `measure.FeatureClass` for each.
    """

    fit: Fit
    capacity: Float[Tensor, "n_inst n_features"]
    feature_class: Int[Tensor, "n_inst n_features"]

    @property
    def n_impure(self) -> Int[Tensor, " n_inst"]:
        """How many features are still polysemantic."""
        return (self.feature_class == FeatureClass.IMPURE).sum(-1)

    @property
    def polysemanticity(self) -> Float[Tensor, " n_inst"]:
        """`measure.polysemanticity` of each instance."""
        return polysemanticity(self.capacity, self.feature_class)


def require_linear_readouts(model: object) -> None:
    """Only of such models capacity is that of embedding and readout."""
    if not isinstance(model, QuadraticModel | Autoencoder):
        kinds = "QuadraticModel, TiedAutoencoder or UntiedAutoencoder"
        raise TypeError(f"model must be a {kinds}, whose readouts are linear, got {type(model).__name__}")


def counted_from(model: ToyModel, C_min: float | None) -> float:
    """Capacity from which on curvature counts: as given, or 0 for closed forms and else where features count."""
    if C_min is not None:
        return C_min
    return 0.0 if isinstance(model, QuadraticModel) else IGNORED_BELOW


def measured(model: ToyModel) -> tuple[Float[Tensor, "n_inst n"], Int[Tensor, "n_inst n"]]:
    """Capacities and classes of the features of a model with linear readouts."""
    W, V = model.embedding.detach().double(), model.readout.detach().double()
    C = response_capacity(W, V)
    return C, classify(C, torch.linalg.vector_norm(W, dim=-1))
