"""What a fit returns."""

from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem import _checks
from polysem.zoo import ToyModel

ROUNDING = 1e-14


class FitStatus(IntEnum):
    """How the fit of an instance ended."""

    CONVERGED = 0
    """At a local minimum of the exact loss: the gradient is within tolerance and no curvature is negative."""
    NOT_CONVERGED = 1
    """Not known to be at a minimum: out of steps, no step lowers the loss any more, or the loss has penalties."""
    WITHIN_NOISE = 2
    """Sampled: over 32 fresh batches no entry of the mean gradient differs from 0 beyond chance (1 in 100).

    A bound on what these samples can tell, not a proof: the gradient may be small, and curvature is not tested.
    """


@dataclass(frozen=True)
class Fit:
    """A fitted stack.

    Attributes:
        model: the fitted copy of the given model.
        loss: expected loss of each instance at the end, without penalties: exact, or the mean over 32 fresh batches.
        stderr: standard error of `loss`; 0 where it is exact.
        gradient_norm: largest entry of the gradient relative to largest curvature times largest parameter; for
            sampled losses and with penalties, whose curvature is not known, times largest parameter relative to loss.
        status: a `FitStatus` for each instance.
        n_steps: steps of Adam and of the polish together.
        history: losses before Adam's steps 0, `record_every`, ..., then after Adam, then at the end; sampled ones
            are those of the step's batch.
        capacities: capacity of every feature at each row of the history (`response_capacity` of embedding and
            readout), or None unless recorded.
    """

    model: ToyModel
    loss: Float[Tensor, " n_inst"]
    stderr: Float[Tensor, " n_inst"]
    gradient_norm: Float[Tensor, " n_inst"]
    status: Int[Tensor, " n_inst"]
    n_steps: Int[Tensor, " n_inst"]
    history: Float[Tensor, "n_records n_inst"]
    capacities: Float[Tensor, "n_records n_inst n_features"] | None = None

    @property
    def best(self) -> int:
        """Index of the instance with the lowest loss, the first of equals; NaN is never the lowest."""
        return int(self.loss.nan_to_num(nan=torch.inf).argmin())

    def share_at_best(self, relative_tolerance: float = 1e-6) -> float:
        """Share of the instances (restarts of one problem) whose loss is that of the best.

            loss <= (1 + relative_tolerance) · best loss + 1e-14 · largest starting loss

        Args:
            relative_tolerance: how far above the best still counts, non-negative; for sampled losses choose it
                above their standard error.

        Returns:
            A share in (0, 1].

        Raises:
            ValueError: a negative tolerance or NaN.
        """
        allowed = "non-negative"
        _checks.require(relative_tolerance >= 0, "relative_tolerance", relative_tolerance, allowed)
        limit = self.loss[self.best] * (1 + relative_tolerance) + ROUNDING * self.history[0].max()
        return float((self.loss <= limit).double().mean())
