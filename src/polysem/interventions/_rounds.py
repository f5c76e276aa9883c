"""What interventions that go round by round have in common: when an instance stops, and what is kept of its way."""

from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polysem.features import SparseFeatures
from polysem.interventions._penalty import CapacityPenalty
from polysem.interventions._treated import measured
from polysem.measure import FeatureClass, polysemanticity
from polysem.training import Fit, FitConfig, fit
from polysem.zoo import ToyModel

NONE = -1
"""In a history: no feature was chosen."""


class Outcome(IntEnum):
    """How the rounds of an instance ended."""

    MONOSEMANTIC = 0
    """No feature is impure any more."""
    EXHAUSTED = 1
    """Impure features are left, and none among them that the intervention could still choose."""


@dataclass(frozen=True)
class History:
    """What happened round by round.

    Attributes:
        chosen: features chosen in each round `[n_rounds, n_inst, n_at_once]`, -1 where there was none to choose: an
            instance that has stopped chooses no more.
        loss: expected loss over all features, without penalties, `[n_rounds + 1, n_inst]`: before the first round
            and after each. It stays where an instance has stopped; so do the following.
        n_impure: how many features are impure.
        polysemanticity: `measure.polysemanticity`.
    """

    chosen: Int[Tensor, "n_rounds n_inst n_at_once"]
    loss: Float[Tensor, "n_rows n_inst"]
    n_impure: Int[Tensor, "n_rows n_inst"]
    polysemanticity: Float[Tensor, "n_rows n_inst"]

    @property
    def n_rounds(self) -> Int[Tensor, " n_inst"]:
        """After how many rounds each instance stopped."""
        return (self.chosen != NONE).any(-1).sum(0)

    def order(self, instance: int) -> list[int]:
        """Features in the order in which an instance chose them."""
        return [feature for feature in self.chosen[:, instance].flatten().tolist() if feature != NONE]


class Rounds:
    """A stack on its way through the rounds.

    Args:
        start: the stack before the first.
        at_once: how many features an instance chooses in a round at most.

    Attributes:
        fit: the stack now, with the losses and steps of all rounds.
        capacity, feature_class: of its features `[n_inst, n_features]`.
    """

    def __init__(self, start: Fit, at_once: int) -> None:
        self.fit = start
        self.capacity, self.feature_class = measured(start.model)
        self._chosen = [torch.empty(0, *start.loss.shape, at_once, dtype=torch.int64, device=start.loss.device)]
        self._rows = [self._row()]

    @property
    def impure(self) -> Bool[Tensor, "n_inst n_features"]:
        """Which features are impure now."""
        return self.feature_class == FeatureClass.IMPURE

    @property
    def outcome(self) -> Int[Tensor, " n_inst"]:
        """Code of `Outcome`, once the rounds are over."""
        return torch.where(self.impure.any(-1), int(Outcome.EXHAUSTED), int(Outcome.MONOSEMANTIC))

    @property
    def history(self) -> History:
        """What happened so far."""
        loss, n_impure, index = (torch.stack(column) for column in zip(*self._rows, strict=True))
        return History(torch.cat(self._chosen), loss, n_impure, index)

    def advance(self, done: Fit, chosen: Int[Tensor, "n_inst n_at_once"]) -> None:
        """Take over what a round's training made of the instances that had chosen a feature; the others stay."""
        going, before = (chosen != NONE).any(-1), self.fit
        state = before.model.state_dict()
        state = {
            name: torch.where(going.view(-1, *[1] * (value.ndim - 1)), value, state[name])
            for name, value in done.model.state_dict().items()
        }
        done.model.load_state_dict(state)
        self.fit = Fit(
            model=done.model,
            loss=torch.where(going, done.loss, before.loss),
            stderr=torch.where(going, done.stderr, before.stderr),
            gradient_norm=torch.where(going, done.gradient_norm, before.gradient_norm),
            status=torch.where(going, done.status, before.status),
            n_steps=before.n_steps + torch.where(going, done.n_steps, 0),
            history=torch.cat([before.history, torch.where(going, done.history, before.loss)]),
        )
        self.capacity, self.feature_class = measured(self.fit.model)
        self._chosen.append(chosen[None])
        self._rows.append(self._row())

    def _row(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.fit.loss, self.impure.sum(-1), polysemanticity(self.capacity, self.feature_class)


def first(
    score: Float[Tensor, "n_inst n_features"], among: Bool[Tensor, "n_inst n_features"], count: int
) -> Int[Tensor, "n_inst n_at_once"]:
    """The features with the least scores among those that may be chosen, the first of equals; -1 where none is left."""
    order = score.masked_fill(~among, torch.inf).sort(dim=-1, stable=True).indices[:, :count]
    return order.masked_fill(~among.gather(-1, order), NONE)


def as_flags(
    chosen: Int[Tensor, "n_inst n_at_once"], like: Bool[Tensor, "n_inst n_features"]
) -> Bool[Tensor, "n_inst n_features"]:
    """Which features were chosen."""
    counts = torch.zeros_like(like, dtype=torch.int64)
    return counts.scatter_add(-1, chosen.clamp(min=0), (chosen != NONE).long()) > 0


def as_given(
    model: ToyModel,
    features: SparseFeatures,
    importance: object,
    config: FitConfig,
    generator: torch.Generator | None,
) -> Fit:
    """The loss of a stack that is not trained at all; no matrix of second derivatives is made, as with a penalty."""
    none = replace(config, adam_steps=0, warmup_steps=0, polish="none")
    return fit(model, features, importance, none, penalties=[CapacityPenalty(0.0)], generator=generator)
