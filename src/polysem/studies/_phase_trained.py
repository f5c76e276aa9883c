"""The phase diagram of two features in one dimension, trained: the quadratic model, and architectures beyond theory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks
from polysem.measure import response_capacity
from polysem.studies._architectures import Architecture, architecture
from polysem.studies._configs import TrainedPhaseConfig
from polysem.studies._live_features import SLAB_KURTOSIS, uniform_probability
from polysem.studies._phase import phase_map
from polysem.training import FitConfig, fit

PHASE_MODELS = ("quadratic", "tied relu", "tied abs", "tied identity")
"""Architectures whose phase diagram can be trained: those with an exact loss of two features, read as embedded."""

ADAM_STEPS = 100
AT_ONCE = 1024
"""Models that are trained side by side: more are no faster, fewer say more often how far they are."""

SAME_LOSS = 1e-6
"""Starts whose losses differ by less than this, relatively, end in the same place."""


@dataclass(frozen=True)
class TrainedPhases:
    """Trained capacities over kurtosis and relative importance, beside those of the quadratic theory.

    Attributes:
        architecture: what was trained.
        kurtosis: `[n_kurtosis]`; ratio: `v_2 / v_1` `[n_ratio]`.
        feature_probability: of the features that have this kurtosis `[n_kurtosis]`.
        theory: the quadratic model's optimal capacities `[n_ratio, n_kurtosis, 2]`.
        trained: capacities of the best start `[n_ratio, n_kurtosis, 2]`.
        loss: its exact loss `[n_ratio, n_kurtosis]`, where the larger `v` is 1.
        reached: share of the starts that end at this loss.
    """

    architecture: str
    kurtosis: Float[Tensor, " n_kurtosis"]
    ratio: Float[Tensor, " n_ratio"]
    feature_probability: Float[Tensor, " n_kurtosis"]
    theory: Float[Tensor, "n_ratio n_kurtosis 2"]
    trained: Float[Tensor, "n_ratio n_kurtosis 2"]
    loss: Float[Tensor, "n_ratio n_kurtosis"]
    reached: Float[Tensor, "n_ratio n_kurtosis"]

    def nearest(self, kurtosis: float, ratio: float) -> tuple[int, int]:
        """Row and column of the cell that lies nearest on the logarithmic axes."""
        row = (self.ratio.log() - torch.tensor(ratio).log()).abs().argmin()
        column = (self.kurtosis.log() - torch.tensor(kurtosis).log()).abs().argmin()
        return int(row), int(column)


def trained_phases(
    config: TrainedPhaseConfig = TrainedPhaseConfig(), progress: Callable[[float], None] | None = None
) -> TrainedPhases:
    """Train two features in one dimension in every cell, from many starts, on the exact loss.

        quadratic: target Σ v_i x_i²;    autoencoders: loss Σ v_i² E(x̂_i − x_i)²

    Features are uniform when they are active: on [0, 1] for autoencoders, signed and of variance 1 for the quadratic
    model; how often they are follows from the kurtosis.

    Args:
        config: architecture and grid.
        progress: called with the share of the work that is done. What it raises ends the training.

    Returns:
        Capacities and losses of the best start of each cell.

    Raises:
        ValueError: an architecture that is none of `PHASE_MODELS`.

    Example:
        >>> config = TrainedPhaseConfig(n_kurtosis=2, n_ratio=2, largest_ratio=1.5, restarts=8)
        >>> found = trained_phases(config)  # v_2 / v_1 = 1.5: a pair of sparse features still takes half each
        >>> [[round(C, 2) for C in second[1, :, 1].tolist()] for second in (found.theory, found.trained)]
        [[1.0, 0.61], [1.0, 0.5]]

    Source: ours; the diagram is that of Scherlis et al. 2022, the autoencoders those of Elhage et al. 2022.
    """
    allowed = " or ".join(f'"{name}"' for name in PHASE_MODELS)
    _checks.require(config.architecture in PHASE_MODELS, "architecture", config.architecture, allowed)
    kind, theory = architecture(config.architecture), phase_map(config)
    p = _probability(kind, theory.kurtosis)
    v = theory.v.reshape(-1, 2)
    chance = p.expand(config.n_ratio, -1).reshape(-1, 1).expand(-1, 2)
    generator = torch.Generator().manual_seed(config.seed)
    cells, ends = max(1, AT_ONCE // config.restarts), []
    for first in range(0, len(v), cells):
        some = slice(first, first + cells)
        features, importance = (x[some].repeat_interleave(config.restarts, 0) for x in (chance, v.square()))
        start = kind.model(2, 1, len(importance), generator).double()

        def said(step: int, first: int = first, n: int = len(v[some])) -> None:
            if progress is not None:
                progress((first + n * step / (2 * ADAM_STEPS)) / len(v))  # the polish is the other half

        done = fit(
            start,
            kind.features(features),
            kind.importance(importance),
            FitConfig(adam_steps=ADAM_STEPS),
            progress=said,
        )
        loss = done.loss.view(-1, config.restarts)
        C = response_capacity(done.model.embedding.detach(), done.model.readout.detach())
        ends.append(_best(loss, C.view(*loss.shape, 2)))
    shape = (config.n_ratio, config.n_kurtosis)
    capacity, loss, reached = (torch.cat(parts) for parts in zip(*ends, strict=True))
    return TrainedPhases(
        architecture=config.architecture,
        kurtosis=theory.kurtosis,
        ratio=theory.ratio,
        feature_probability=p,
        theory=theory.optimum.capacity,
        trained=capacity.view(*shape, 2),
        loss=loss.view(shape),
        reached=reached.view(shape),
    )


def _best(loss: Tensor, capacity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Capacities and loss of the best start of each cell, and the share of the starts that reach it."""
    least, best = loss.min(1)
    reached = (loss <= least[:, None] * (1 + SAME_LOSS)).double().mean(1)
    return capacity[torch.arange(len(best)), best], least, reached


def _probability(kind: Architecture, kurtosis: Tensor) -> Tensor:
    """How often features are active that have this kurtosis: uniform on [-1, 1] (quadratic) or on [0, 1] if active."""
    if kind.family == "quadratic":
        return SLAB_KURTOSIS / kurtosis
    return torch.tensor([uniform_probability(F) for F in kurtosis.tolist()], dtype=torch.float64)
