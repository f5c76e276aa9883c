"""Fitting a stack of toy models to the minimum of its exact loss."""

from copy import deepcopy
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem import _checks
from polysem.features import SparseFeatures
from polysem.training._adam import adam
from polysem.training._config import FitConfig
from polysem.training._newton import newton
from polysem.zoo import ToyModel

ROUNDING = 1e-14


class FitStatus(IntEnum):
    """How the fit of an instance ended."""

    CONVERGED = 0
    """At a local minimum: the gradient is within tolerance and no curvature is negative."""
    NOT_CONVERGED = 1
    """Out of steps, or no step lowers the loss any more."""


@dataclass(frozen=True)
class Fit:
    """A fitted stack.

    Attributes:
        model: the fitted copy of the given model.
        loss: exact loss of each instance at the end.
        gradient_norm: largest entry of the gradient, relative to largest curvature times largest parameter.
        status: a `FitStatus` for each instance.
        n_steps: steps of Adam and Newton together.
        history: losses before Adam's steps 0, `record_every`, ..., then after Adam, then at the end.
    """

    model: ToyModel
    loss: Float[Tensor, " n_inst"]
    gradient_norm: Float[Tensor, " n_inst"]
    status: Int[Tensor, " n_inst"]
    n_steps: Int[Tensor, " n_inst"]
    history: Float[Tensor, "n_records n_inst"]

    @property
    def best(self) -> int:
        """Index of the instance with the lowest loss, the first of equals."""
        return int(self.loss.argmin())

    def share_at_best(self, relative_tolerance: float = 1e-6) -> float:
        """Share of the instances (restarts of one problem) whose loss is that of the best.

            loss <= (1 + relative_tolerance) · best loss + 1e-14 · largest starting loss

        Args:
            relative_tolerance: how far above the best still counts, non-negative.

        Returns:
            A share in (0, 1].

        Raises:
            ValueError: a negative tolerance or NaN.
        """
        allowed = "non-negative"
        _checks.require(relative_tolerance >= 0, "relative_tolerance", relative_tolerance, allowed)
        limit = self.loss.min() * (1 + relative_tolerance) + ROUNDING * self.history[0].max()
        return float((self.loss <= limit).double().mean())


@torch.no_grad()
def fit(
    model: ToyModel,
    features: SparseFeatures,
    importance: object,
    config: FitConfig = FitConfig(),
) -> Fit:
    r"""Minimise the exact loss of every instance, from where the given model stands.

        θ* = argmin_θ E ℓ(x; θ)       Adam to a basin, then a damped Newton method to its bottom

    Instances are independent: a stack can hold restarts of one problem, or a problem in each instance. Which
    minimum an instance finds depends on its start; nothing here is random. Parameters with a closed-form best
    value (the offset of the quadratic model) take it.

    Args:
        model: a stack of toy models; it is left untouched.
        features: inputs, of shape `[n_features]` or `[n_inst, n_features]`.
        importance: `[n_features]` or `[n_inst, n_features]`, none negative.
        config: steps and tolerances.

    Returns:
        The fitted copy with losses, status and history.

    Raises:
        ValueError: parameters that are not finite, features without an exact loss, shapes that do not fit.

    Example:
        >>> import torch
        >>> from polysem.features import SparseGaussian
        >>> from polysem.training import fit
        >>> from polysem.zoo import QuadraticModel
        >>> start = QuadraticModel(2, 1, n_inst=8, generator=torch.Generator().manual_seed(0))
        >>> done = fit(start, SparseGaussian.from_kurtosis([20.0, 20.0], standardise=True), [1.0, 1.0])
        >>> round(done.loss[done.best].item(), 6), done.share_at_best()
        (3.619048, 1.0)

    Source: Scherlis et al. 2022, section 2 (the problem); the method is ours.
    """
    objective = model.objective(features, importance)
    theta = objective.pack(model.state_dict())
    _checks.require(bool(theta.isfinite().all()), "model", theta, "a stack with finite parameters")
    theta, history = adam(objective, theta, config)
    history.append(objective.loss(theta))
    end = newton(objective, theta, max_steps=config.newton_steps, tolerance=config.gradient_tolerance)
    loss = objective.loss(end.theta)
    fitted = deepcopy(model)
    fitted.load_state_dict(objective.unpack(end.theta))
    return Fit(
        model=fitted,
        loss=loss,
        gradient_norm=end.gradient_norm,
        status=torch.where(end.converged, int(FitStatus.CONVERGED), int(FitStatus.NOT_CONVERGED)),
        n_steps=config.adam_steps + end.n_steps,
        history=torch.stack([*history, loss]),
    )
