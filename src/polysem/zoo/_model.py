"""What every family of toy models offers: rows, losses, and the exact loss as an objective to minimise."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polysem import _checks
from polysem.features import SparseFeatures

SAMPLED_INSTEAD = 'pass method="sampled" to expected_loss, FitConfig(loss="sampled") to fit'
"""What errors advise where there is no exact loss."""


@runtime_checkable
class Objective(Protocol):
    """A stack of independent losses to minimise, each over its own `n_parameters` numbers in float64."""

    def loss(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, " n_inst"]:
        """Value of each loss."""
        ...

    def gradient(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters"]:
        """Gradient of each loss."""
        ...

    def hessian(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters n_parameters"]:
        """Matrix of second derivatives of each loss."""
        ...

    def select(self, instances: Int[Tensor, " n_selected"]) -> "Objective":
        """The objective of the chosen instances alone, in the order given."""
        ...

    def pack(self, state: dict[str, Tensor]) -> Float[Tensor, "n_inst n_parameters"]:
        """The free parameters in a model's state."""
        ...

    def unpack(self, theta: Float[Tensor, "n_inst n_parameters"]) -> dict[str, Tensor]:
        """A model's state with these free parameters, all others at their best values."""
        ...


@dataclass(frozen=True)
class PartialLoss:
    """An expected loss that has a closed form except for some inputs, which can be drawn.

        E ℓ = exact + chance · E[draw]

    Attributes:
        exact: the part in closed form `[n_inst]`, float64.
        draw: from a number of draws and a generator, what the drawn inputs add `[n_draws, n_inst]` given that the
            input is one of them, and the exact chance of that, `[]` or `[n_inst]`.
    """

    exact: Float[Tensor, " n_inst"]
    draw: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


class ToyModel(nn.Module, ABC):
    """A stack of `n_inst` independent toy models of one family and shape.

    Attributes:
        n_inst: number of instances, the leading axis of every parameter.
        n_features: number of inputs.
        d_hidden: dimension in which they are embedded.
    """

    def __init__(self, n_features: int, d_hidden: int, n_inst: int) -> None:
        super().__init__()
        self.n_features = _checks.whole("n_features", n_features)
        self.d_hidden = _checks.whole("d_hidden", d_hidden)
        self.n_inst = _checks.whole("n_inst", n_inst)

    @property
    @abstractmethod
    def embedding(self) -> Float[Tensor, "n_inst n_features d_hidden"]:
        """Direction that each feature writes, as rows."""

    @property
    @abstractmethod
    def readout(self) -> Float[Tensor, "n_inst n_features d_hidden"]:
        """Direction in which each feature is read, as rows."""

    def exact_loss(self, features: SparseFeatures, importance: object) -> Float[Tensor, " n_inst"]:
        """Expected loss of each instance in closed form, differentiable by the parameters; an error without one."""
        raise no_exact_loss(self)

    def partial_loss(self, features: SparseFeatures, importance: object) -> PartialLoss | None:
        """The expected loss where only a part of it has a closed form; None where `exact_loss` covers it all."""
        return None

    def per_sample_loss(
        self, x: Float[Tensor, " n_samples #n_inst n_features"], importance: object
    ) -> Float[Tensor, "n_samples n_inst"]:
        """Loss of each instance on each sample; importances as in `importance_per_instance`."""
        return self.unchecked_loss(x, self.importance_per_instance(importance))

    @abstractmethod
    def unchecked_loss(
        self, x: Float[Tensor, " n_samples #n_inst n_features"], importance: Float[Tensor, "n_inst n_features"]
    ) -> Float[Tensor, "n_samples n_inst"]:
        """The same for importances as `importance_per_instance` returns them: checks would break compiled graphs."""

    def objective(self, features: SparseFeatures, importance: object) -> Objective:
        """The exact loss, with parameters that have a closed-form best value at that value; an error without one."""
        raise no_exact_loss(self)

    def response(self) -> Float[Tensor, "n_inst n_features n_features"]:
        """`R = readout embeddingᵀ`: how far readout i moves per unit of feature j."""
        return self.readout @ self.embedding.mT

    def importance_per_instance(self, importance: object) -> Float[Tensor, "n_inst n_features"]:
        """Importances `[n_features]` or `[n_inst, n_features]`, checked, as float64 rows of instances."""
        v = _checks.as_float64("importance", importance).to(self.embedding.device)
        self._check_shape("importance", v)
        _checks.require(bool((v.isfinite() & (v >= 0)).all()), "importance", v, "non-negative and finite")
        return v.expand(self.n_inst, self.n_features)

    def check_features(self, features: SparseFeatures) -> None:
        """Raise a ValueError unless features have shape `[n_features]` or `[n_inst, n_features]`."""
        self._check_shape("the shape of features", features.feature_probability)

    def extra_repr(self) -> str:
        """Sizes, as `repr` shows them."""
        return f"n_features={self.n_features}, d_hidden={self.d_hidden}, n_inst={self.n_inst}"

    def _check_shape(self, argument: str, value: Tensor) -> None:
        allowed = ((self.n_features,), (self.n_inst, self.n_features))
        shape = tuple(value.shape)
        if shape not in allowed:
            raise ValueError(f"{argument} must be [n_features] or [n_inst, n_features] = {allowed}, got {shape}")


def no_exact_loss(model: ToyModel) -> ValueError:
    """The error for a model whose expected loss has no closed form."""
    return ValueError(f'method must be "sampled": there is no exact loss for {model} ({SAMPLED_INSTEAD})')


def require_independent(features: SparseFeatures) -> None:
    """Raise a ValueError unless features are independent of each other, as closed forms assume."""
    if not features.independent:
        raise ValueError(
            f"features must be independent for an exact loss ({SAMPLED_INSTEAD}), got {type(features).__name__}"
        )


def initial_rows(
    n_inst: int,
    n_features: int,
    d_hidden: int,
    generator: torch.Generator | None,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> nn.Parameter:
    """Random rows of expected squared norm 1/4, drawn on the generator's device; float64 by default."""
    shape = (n_inst, n_features, d_hidden)
    source = torch.device("cpu") if generator is None else generator.device
    rows = torch.randn(shape, generator=generator, dtype=torch.float64, device=source) / (2 * d_hidden**0.5)
    return nn.Parameter(rows.to(device=source if device is None else device, dtype=dtype or torch.float64))
