"""The phase diagram of two features in one dimension: theory's boundaries against trained capacities."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from polysem.studies._configs import PhaseConfig
from polysem.studies._points import train_pairs
from polysem.theory import Allocation, Phase, allocate, phase

REPRESENTED = 1e-6
"""A trained feature with more capacity than this lies beyond the boundary at which theory ignores it."""


@dataclass(frozen=True)
class PhaseDiagram:
    """Capacities of both features in every cell, by theory and by training.

    Attributes:
        kurtosis: `[n_kurtosis]`; ratio: `v_2 / v_1` `[n_ratio]`.
        theory, trained: capacities `[n_ratio, n_kurtosis, 2]`.
        phases: codes of `theory.Phase` `[n_ratio, n_kurtosis]`.
        deviation: largest difference between a trained and a predicted capacity.
        excess: largest relative excess of a trained loss over the optimal one.
        boundary_offset: largest distance, in cells along the ratio axis, between a boundary of the formula and
            the one measured from trained capacities.
        same_phase: share of cells whose trained capacities lie in the predicted phase.
    """

    kurtosis: Tensor
    ratio: Tensor
    theory: Tensor
    trained: Tensor
    phases: Tensor
    deviation: float
    excess: float
    boundary_offset: float
    same_phase: float


@dataclass(frozen=True)
class PhaseMap:
    """Optimal capacities over kurtosis `[n_kurtosis]` and `ratio = v_2 / v_1` `[n_ratio]`.

    Attributes:
        kurtosis, ratio: the axes, float64.
        v: importances `[n_ratio, n_kurtosis, 2]`; the larger of each pair is 1, so that all losses are of one size.
        optimum: the optimal allocation, batch `[n_ratio, n_kurtosis]`.
    """

    kurtosis: Tensor
    ratio: Tensor
    v: Tensor
    optimum: Allocation


def phase_map(config: PhaseConfig = PhaseConfig()) -> PhaseMap:
    """The phase diagram by theory alone.

    Example:
        >>> result = phase_map(PhaseConfig(n_kurtosis=2, n_ratio=2))
        >>> result.optimum.capacity[0].tolist()
        [[1.0, 0.0], [1.0, 0.0]]

    Source: Scherlis et al. 2022, the phase diagram of two features.
    """
    low, high = (math.log10(value) for value in config.kurtosis_range)
    kurtosis = torch.logspace(low, high, config.n_kurtosis, dtype=torch.float64)
    half = math.log10(config.largest_ratio)
    ratio = torch.logspace(-half, half, config.n_ratio, dtype=torch.float64)
    v = torch.stack([torch.ones_like(ratio), ratio], -1) / ratio.clamp(min=1)[:, None]
    v = v[:, None].expand(-1, config.n_kurtosis, -1)
    F = kurtosis.expand(config.n_ratio, -1)
    return PhaseMap(kurtosis, ratio, v, allocate(v, F[..., None], torch.ones(F.shape, dtype=torch.float64)))


def phase_diagram(config: PhaseConfig = PhaseConfig()) -> PhaseDiagram:
    """Train every cell and compare with the closed form.

    Example:
        >>> result = phase_diagram(PhaseConfig(n_kurtosis=4, n_ratio=4, restarts=4))
        >>> result.deviation < 1e-6, result.same_phase
        (True, 1.0)

    Source: Scherlis et al. 2022, the phase diagram of two features; closed-form boundaries are ours.
    """
    theory = phase_map(config)
    kurtosis, ratio, optimum = theory.kurtosis, theory.ratio, theory.optimum
    F_cells = kurtosis.expand(config.n_ratio, -1)
    best, loss = train_pairs(theory.v.reshape(-1, 2), F_cells.reshape(-1), restarts=config.restarts, seed=config.seed)
    trained = best.view(*F_cells.shape, 2)
    phases = phase(ratio[:, None], kurtosis)
    measured = measured_phases(trained)
    return PhaseDiagram(
        kurtosis=kurtosis,
        ratio=ratio,
        theory=optimum.capacity,
        trained=trained,
        phases=phases,
        deviation=float((trained - optimum.capacity).abs().max()),
        excess=float((loss.view(F_cells.shape) / optimum.loss - 1).max()),
        boundary_offset=_boundary_offset(measured, kurtosis, ratio),
        same_phase=float((measured == phases).double().mean()),
    )


def measured_phases(trained: Tensor) -> Tensor:
    """Code of `Phase` for trained capacities `[..., 2]`: which features own more than `REPRESENTED`."""
    first, second = (trained > REPRESENTED).unbind(-1)
    codes = torch.full_like(first, Phase.BOTH, dtype=torch.int64)
    codes[~second] = Phase.FIRST_ONLY
    codes[~first] = Phase.SECOND_ONLY
    return codes


def _boundary_offset(measured: Tensor, kurtosis: Tensor, ratio: Tensor) -> float:
    """Largest distance in cells between formula and measured boundary, columns of equal kurtosis one by one."""
    step = float((ratio[1] / ratio[0]).log())
    largest = 0.0
    for column, F in enumerate(kurtosis.tolist()):
        boundaries = (2 / (F - 1), (F - 1) / 2) if F > 3 else (1.0, 1.0)
        codes = measured[:, column]
        for code, boundary in zip((Phase.FIRST_ONLY, Phase.SECOND_ONLY), boundaries, strict=True):
            below = (codes == code if code == Phase.FIRST_ONLY else codes != code).long()
            leading, trailing = int(below.cumprod(0).sum()), int((1 - below).flip(0).cumprod(0).sum())
            expected = (math.log(boundary) - float(ratio[0].log())) / step
            expected = min(max(expected, -0.5), len(ratio) - 0.5)
            # Midway between the last cell of one phase and the first of the next; cells out of order give two places.
            measured_at = (leading - 0.5, len(ratio) - trailing - 0.5)
            largest = max(largest, *(abs(place - expected) for place in measured_at))
    return largest
