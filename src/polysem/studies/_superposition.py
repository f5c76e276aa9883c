"""Two features in one dimension of a ReLU autoencoder: which are represented, and as an antipodal pair or alone."""

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from polysem.features import SparseUniform
from polysem.measure import capacity
from polysem.studies._configs import SuperpositionConfig
from polysem.training import Fit, FitConfig, FitStatus, fit
from polysem.zoo import TiedAutoencoder

REPRESENTED = 1e-3
"""A feature with a shorter row than this is not represented."""

TIE = 1e-9
"""Configurations whose losses differ by less than this, relatively, are the same."""


class SuperpositionPhase(IntEnum):
    """What happens to the second feature."""

    NOT_REPRESENTED = 0
    OWN_DIMENSION = 1
    ANTIPODAL = 2


@dataclass(frozen=True)
class Superposition:
    """The phase of the second feature in every cell, trained and by comparing configurations built by hand.

    Attributes:
        probability: feature probability `[n_probability]` of both features, falling.
        ratio: relative importance `I_2 / I_1` `[n_ratio]`.
        trained: codes of `SuperpositionPhase` `[n_ratio, n_probability]` of the best start.
        built: the same for the best of three configurations: only feature 1, only feature 2, the best antipodal pair.
        capacity: trained capacities `[n_ratio, n_probability, 2]`.
        loss: trained loss `[n_ratio, n_probability]`.
        built_loss: loss of the best configuration built by hand.
        converged: share of all starts that ended at a local minimum.
    """

    probability: Tensor
    ratio: Tensor
    trained: Tensor
    built: Tensor
    capacity: Tensor
    loss: Tensor
    built_loss: Tensor
    converged: float

    @property
    def agreement(self) -> float:
        """Share of the cells in which training and the comparison by hand name the same phase."""
        return float((self.trained == self.built).double().mean())


def superposition(config: SuperpositionConfig = SuperpositionConfig()) -> Superposition:
    """Train every cell on the exact expected loss, and compare with configurations built by hand.

    `x̂ = ReLU(x W Wᵀ + b)` with two features uniform on [0, 1], active with probability p, in one dimension;
    `L = I_1 E(x̂_1 − x_1)² + I_2 E(x̂_2 − x_2)²`. A feature that is not represented costs `I Var x`.

    Example:
        >>> result = superposition(SuperpositionConfig(n_probability=3, n_ratio=4, restarts=4))
        >>> result.trained[1].tolist()  # the denser, the less superposition
        [0, 2, 2]

    Source: Elhage et al. 2022, section on superposition as a phase change; exact losses are ours.
    """
    n_p, n_ratio = config.n_probability, config.n_ratio
    probability = torch.logspace(0, torch.tensor(config.lowest_probability).log10(), n_p, dtype=torch.float64)
    half = float(torch.tensor(config.largest_ratio).log10())
    ratio = torch.logspace(-half, half, n_ratio, dtype=torch.float64)
    p = probability.expand(n_ratio, n_p).reshape(-1)
    importance = torch.stack([torch.ones_like(ratio), ratio], -1) / ratio.clamp(min=1)[:, None]
    importance = importance[:, None].expand(-1, n_p, -1).reshape(-1, 2)
    cells = len(p)

    def train(start: TiedAutoencoder, repeats: int) -> Fit:
        features = SparseUniform(p.repeat_interleave(repeats)[:, None].expand(-1, 2))
        settings = FitConfig(adam_steps=config.adam_steps)
        return fit(start, features, importance.repeat_interleave(repeats, 0), settings)

    generator = torch.Generator().manual_seed(config.seed)
    done = train(TiedAutoencoder(2, 1, n_inst=cells * config.restarts, generator=generator), config.restarts)
    loss, best = done.loss.view(cells, config.restarts).min(1)
    W = done.model.embedding.detach().view(cells, config.restarts, 2, 1)[torch.arange(cells), best]

    pair = TiedAutoencoder(2, 1, n_inst=cells)
    with torch.no_grad():
        pair.W.copy_(torch.tensor([[1.0], [-1.0]]).expand_as(pair.W))
    variance = SparseUniform(p).variance
    options = torch.stack([importance[:, 1] * variance, importance[:, 0] * variance, train(pair, 1).loss])
    built_loss = options.amin(0)
    # A pair that shrinks to one feature as it is trained ties with that feature alone: the first of equals counts.
    built = (options <= built_loss * (1 + TIE)).int().argmax(0)
    shape = (n_ratio, n_p)
    return Superposition(
        probability=probability,
        ratio=ratio,
        trained=superposition_phases(W).view(shape),
        built=built.view(shape),
        capacity=capacity(W).view(*shape, 2),
        loss=loss.view(shape),
        built_loss=built_loss.view(shape),
        converged=float((done.status == int(FitStatus.CONVERGED)).double().mean()),
    )


def superposition_phases(W: Tensor) -> Tensor:
    """Codes of `SuperpositionPhase` for rows `[n_cells, 2, 1]`."""
    first, second = (W[..., 0].abs() > REPRESENTED).unbind(-1)
    codes = torch.full_like(first, SuperpositionPhase.ANTIPODAL, dtype=torch.int64)
    codes[~first] = SuperpositionPhase.OWN_DIMENSION
    codes[~second] = SuperpositionPhase.NOT_REPRESENTED
    return codes
