"""What Adam descends: exact losses, sampled losses, and the penalties that are added to either."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from polysem.features import SparseFeatures, StratifiedSampler
from polysem.training._config import FitConfig
from polysem.zoo import Objective, ToyModel

Penalty = Callable[[ToyModel], Tensor]
"""From a model, a differentiable penalty `[n_inst]` to add to its loss."""


@runtime_checkable
class Problem(Protocol):
    """A stack of independent losses, each over its own `n_parameters` numbers, on the present batch of samples."""

    def renew(self) -> None:
        """Move on to the next batch."""
        ...

    def loss(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, " n_inst"]:
        """Value of each loss, float64."""
        ...

    def gradient(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters"]:
        """Gradient of each loss."""
        ...

    def pack(self, state: dict[str, Tensor]) -> Float[Tensor, "n_inst n_parameters"]:
        """The free parameters in a model's state."""
        ...

    def unpack(self, theta: Float[Tensor, "n_inst n_parameters"]) -> dict[str, Tensor]:
        """A model's state with these free parameters, differentiable by them."""
        ...


class ExactProblem:
    """An objective, for which there are no batches."""

    def __init__(self, objective: Objective) -> None:
        self.loss, self.gradient = objective.loss, objective.gradient
        self.pack, self.unpack = objective.pack, objective.unpack

    def renew(self) -> None:
        """Do nothing."""


class SampledProblem:
    r"""Mean losses over samples with an active feature, the case without one added exactly.

        L(θ) = Σ_s weight_s ℓ(x_s; θ) / n + P(no feature active) ℓ(inactive_value; θ)

    Features of shape `[n_features]` give all instances the same samples. Masked features are 0 in every sample.

    Args:
        model: the stack; its parameters are what is trained, those that require gradients.
        features: inputs.
        importance: `[n_inst, n_features]`, checked, 0 for masked features.
        masked: which features are removed, `[n_features]` or `[n_inst, n_features]`, or None.
        config: batch size, strata and compilation.
        generator: source of the samples.

    Raises:
        ValueError: a shape that does not fit, or strata for features that are not independent.
    """

    def __init__(
        self,
        model: ToyModel,
        features: SparseFeatures,
        importance: Tensor,
        masked: Tensor | None,
        config: FitConfig,
        generator: torch.Generator,
    ) -> None:
        model.check_features(features)
        self._features, self._generator, self._masked = features, generator, masked
        self._size = config.batch_size
        self._sampler = StratifiedSampler(features) if config.stratified else None
        self._shapes = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
        if not self._shapes:
            raise ValueError(f"model must have a parameter that requires gradients, got {type(model).__name__}")
        rows = model.embedding
        self._dtype, self._device = rows.dtype, rows.device
        shell = _Shell(lambda x: model.unchecked_loss(x, importance), model)

        def mean_loss(theta: Tensor, x: Tensor, weight: Tensor) -> Tensor:
            losses: Tensor = functional_call(shell, _inside(self.unpack(theta)), (x,))
            return (weight * losses).sum(0)

        self._mean_loss: Callable[[Tensor, Tensor, Tensor], Tensor]
        self._mean_loss = torch.compile(mean_loss) if config.compile else mean_loss
        self._x, self._weight = torch.empty(0), torch.empty(0)

    def renew(self) -> None:
        """Draw the next batch."""
        source = self._sampler.sample if self._sampler else self._features.sample_active
        x, weight = source(self._size, generator=self._generator, dtype=self._dtype)
        chance = self._chance_of_some(weight)
        x = torch.cat([x, self._features.inactive_value[None].to(x)])
        weight = torch.cat([(weight / self._size).expand(self._size, *chance.shape), (1 - chance)[None]])
        x, weight = (t if t.ndim == k else t[:, None] for t, k in ((x, 3), (weight, 2)))
        x, self._weight = x.to(self._device), weight.to(self._device, self._dtype)
        self._x = x if self._masked is None else torch.where(self._masked, 0.0, x)

    def loss(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, " n_inst"]:
        """Mean loss of the present batch."""
        return self._mean_loss(theta, self._x, self._weight).double()

    def gradient(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters"]:
        """Its gradient."""
        with torch.enable_grad():
            theta = theta.detach().requires_grad_()
            return torch.autograd.grad(self._mean_loss(theta, self._x, self._weight).sum(), theta)[0]

    def pack(self, state: dict[str, Tensor]) -> Float[Tensor, "n_inst n_parameters"]:
        """All parameters that require gradients, one after the other."""
        return torch.cat([state[name].reshape(len(state[name]), -1) for name in self._shapes], -1)

    def unpack(self, theta: Float[Tensor, "n_inst n_parameters"]) -> dict[str, Tensor]:
        """The parameters by name."""
        parts = torch.split(theta, [shape[1:].numel() for shape in self._shapes.values()], -1)
        return {name: part.reshape(s) for (name, s), part in zip(self._shapes.items(), parts, strict=True)}

    def _chance_of_some(self, weight: Tensor) -> Tensor:
        """The chance that a feature is active: `sample_active`'s weight, or what stratified weights estimate."""
        if self._sampler is None:
            return weight
        p = self._features.feature_probability.to(weight.device)
        return -torch.expm1(torch.log1p(-p).sum(-1))


class Penalties:
    """The sum of penalties on a model, as a function of a problem's free parameters.

    Args:
        penalties: callables from the model to `[n_inst]`.
        model: the stack; its parameters are replaced while penalties look at it.
    """

    def __init__(self, penalties: Sequence[Penalty], model: ToyModel) -> None:
        self.all, self._n_inst = tuple(penalties), model.n_inst
        self._shell = _Shell(lambda: self._sum(model), model)

    def gradient(self, problem: Problem, theta: Float[Tensor, "n_inst n_parameters"]) -> Tensor | float:
        """Gradient of the sum, calling each penalty once; 0 without penalties.

        Raises:
            ValueError: a penalty that is not `[n_inst]`, or does not depend on the parameters.
        """
        if not self.all:
            return 0.0
        with torch.enable_grad():
            theta = theta.detach().requires_grad_()
            total: Tensor = functional_call(self._shell, _inside(problem.unpack(theta)), ())
            return torch.autograd.grad(total, theta)[0]

    def _sum(self, model: ToyModel) -> Tensor:
        values = []
        for index, penalty in enumerate(self.all):
            value = penalty(model)
            if not (isinstance(value, Tensor) and value.shape == (self._n_inst,) and value.requires_grad):
                shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                kind = f"differentiable by the parameters and of shape [n_inst] = ({self._n_inst},)"
                raise ValueError(f"penalties[{index}] must return a tensor {kind}, got {shape}")
            values.append(value.sum())
        return torch.stack(values).sum()


class _Shell(nn.Module):
    """A function of a model, called as a module so that the model's parameters can be replaced for the call."""

    def __init__(self, function: Callable[..., Tensor], model: ToyModel) -> None:
        super().__init__()
        self.function, self.model = function, model

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.function(*arguments)


def _inside(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{name}": value for name, value in state.items()}
