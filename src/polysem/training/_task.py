"""What one call of `fit` has to do: a problem, with the features that are masked and the penalties that are added."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.features import SparseFeatures
from polysem.measure import response_capacity
from polysem.training._config import FitConfig
from polysem.training._mask import Restricted, clear_rows, read_mask, require_removed
from polysem.training._problem import ExactProblem, Penalties, Penalty, Problem, SampledProblem
from polysem.zoo import Objective, ToyModel


class Task:
    """A stack to fit, of which the given model is a copy that stays as it is. Arguments as in `fit`.

    Attributes:
        model: the working copy.
        problem: what Adam descends.
        objective: what is polished: the exact loss, unless losses are sampled or penalties are added.
        start: parameters `[n_inst, n_parameters]` of the problem at the start.
        importance: `[n_inst, n_features]`, 0 for masked features.
        masked: which features are removed, or None.
        features, penalties, generator: as given.
    """

    def __init__(
        self,
        model: ToyModel,
        features: SparseFeatures,
        importance: object,
        config: FitConfig,
        penalties: Sequence[Penalty],
        mask: object,
        generator: torch.Generator | None,
    ) -> None:
        _checks.require(all(map(callable, penalties)), "penalties", penalties, "callables from a model to [n_inst]")
        self.model, self.features, self.generator = deepcopy(model), features, generator
        self.importance = model.importance_per_instance(importance)
        self.masked = None if mask is None else read_mask(mask, model)
        fixed: dict[str, Tensor] = {}
        if self.masked is not None:
            self.importance = self.importance.masked_fill(self.masked, 0.0)
            fixed = clear_rows(self.model, self.masked)
        self.problem, exact = self._problem(config)
        self.start = self.problem.pack(self.model.state_dict())
        _checks.require(bool(self.start.isfinite().all()), "model", self.start, "a stack with finite parameters")
        self._free = (self.problem.pack(fixed) == 0).to(self.start) if fixed else None
        if exact is not None and self._free is not None:
            exact = Restricted(exact, self._free)
        self.penalties = tuple(penalties)
        self.objective = None if penalties else exact
        self._penalties = Penalties(self.penalties, self.model)

    def gradient(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters"]:
        """Gradient of the present batch's loss with its penalties, 0 along fixed parameters."""
        return self.with_penalties(theta, self.problem.gradient(theta))

    def with_penalties(
        self, theta: Float[Tensor, "n_inst n_parameters"], gradient: Float[Tensor, "n_inst n_parameters"]
    ) -> Float[Tensor, "n_inst n_parameters"]:
        """A gradient of the loss with that of the penalties added, 0 along fixed parameters."""
        if self.penalties:
            gradient = gradient + self._penalties.gradient(self.problem, theta)
        return gradient if self._free is None else gradient * self._free

    def put(self, theta: Float[Tensor, "n_inst n_parameters"]) -> ToyModel:
        """The working copy with these parameters."""
        self.model.load_state_dict({**self.model.state_dict(), **self.problem.unpack(theta)})
        return self.model

    def capacities(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_features"]:
        """Capacity of every feature at these parameters."""
        model = self.put(theta)
        return response_capacity(model.embedding, model.readout)

    def _problem(self, config: FitConfig) -> tuple[Problem, Objective | None]:
        if config.loss == "exact":
            _checks.require(self.generator is None, "generator", self.generator, 'left out unless loss="sampled"')
            if self.masked is not None:
                require_removed(self.model, self.features, self.importance, self.masked)
            objective = self.model.objective(self.features, self.importance)
            return ExactProblem(objective), objective
        if self.generator is None:
            raise ValueError('generator must be given where loss="sampled", got None')
        return SampledProblem(self.model, self.features, self.importance, self.masked, config, self.generator), None
