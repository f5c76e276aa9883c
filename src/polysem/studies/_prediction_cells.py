"""Train one architecture, measure its curves, and divide its capacity by them."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem.features import SparseUniform, geometric
from polysem.measure import IGNORED_BELOW, FeatureClass, classify
from polysem.returns import curve
from polysem.studies._architectures import Architecture, architecture
from polysem.sweeps import Output, Stack, task
from polysem.theory import allocate, allocate_curves
from polysem.training import Fit, fit
from polysem.zoo import ToyModel

PATTERNS = ("spread", "antipodal", "network")
"""What interferes with a feature: all others alike, one partner, or what does in the trained network."""
SPENT, WHOLE = 0, 1
"""Which total is divided: what the trained network spends, or all `d_hidden` dimensions."""
EXACT_STARTS = 4
"""Exact losses are quick to train on: so many times the starts."""
FINER = 8
"""Curves in closed form cost next to nothing: they have so many times the steps and the samples."""


@task(
    stacked=("feature_probability",),
    shared=(
        "architecture",
        "d_hidden",
        "n_features",
        "decay",
        "restarts",
        "adam_steps",
        "batch_size",
        "n_grid",
        "n_samples",
    ),
    outputs={
        "capacity": Output({"feature": "n_features"}),
        "second": Output({"feature": "n_features"}),
        "kind": Output({"feature": "n_features"}, "int64"),
        "loss": Output(),
        "stderr": Output(),
        "loss_ignored": Output(),
        "predicted": Output({"pattern": len(PATTERNS), "total": 2, "feature": "n_features"}),
        "predicted_loss": Output({"pattern": len(PATTERNS), "total": 2}),
        "quadratic": Output({"total": 2, "feature": "n_features"}),
    },
    max_cells=16,
)
def prediction_cells(stack: Stack) -> dict[str, Tensor]:
    r"""Train one architecture at several feature probabilities, measure its curves, and divide its capacity by them.

        minimise Σ_i L_i(C_i)   subject to   Σ_i C_i ≤ total,     L_i(C) by `returns.curve`,   I_i = decay^i

    Curves with the pattern "spread" (`ν_i = -Σ_{j≠i} x_j / √(N - 1)`, all others alike, of the sign that a ReLU can
    silence) and "antipodal" (`ν_i = -x_i'`, one partner) are known before training; features differ in nothing but
    importance, so that one curve, averaged over them, serves all. With "network" the trained network's own interference
    is scaled; ignored features, which have none, take the antipodal one, as `returns.curve` does.

    Args:
        stack: cells with a `feature_probability`, and for all of them the name of the architecture, `n_features`,
            `d_hidden`, `decay`, `restarts`, the steps and batch size of sampled training, and the numbers of points of
            a curve and of samples.

    Returns:
        Of the best start the capacities (0 where the response is negligible), `FeatureClass` (`kind`) and loss with its
        standard error; capacities of the `second` best start; the loss of ignoring everything; capacities and losses
        `predicted` with each of `PATTERNS` for both totals, `SPENT` and `WHOLE`, and those of the `quadratic` model's
        optimum at the same kurtosis.

    Source: ours; `C_i` and the allocation after Scherlis et al. 2022, section 2.
    """
    chosen, n_features, d_hidden = architecture(stack["architecture"]), stack["n_features"], stack["d_hidden"]
    generator = torch.Generator().manual_seed(int(stack.seeds[0]))
    p = torch.from_numpy(np.asarray(stack["feature_probability"], dtype=np.float64))[:, None].expand(-1, n_features)
    importance, features = geometric(n_features, stack["decay"]), chosen.features(p)
    starts = stack["restarts"] * (EXACT_STARTS if chosen.exact else 1)
    done = fit(
        chosen.model(n_features, d_hidden, stack.n_cells * starts, generator),
        chosen.features(p.repeat_interleave(starts, 0)),
        chosen.importance(importance),
        chosen.fit_config(stack["adam_steps"], stack["batch_size"]),
        generator=None if chosen.exact else generator,
    )
    best, second = _two_best(done, stack.n_cells)
    model, other = (_instances(chosen, done.model, at, generator) for at in (best, second))
    C, kind = _owned(chosen, model, features, generator)
    grid, losses = _curves(chosen, model, kind, features, importance, stack["n_grid"], stack["n_samples"])
    totals = torch.stack([C.sum(-1), torch.full_like(C[:, 0], d_hidden)], -1)
    divided = [
        [allocate_curves(grid, losses[k, cell], total) for k in range(len(PATTERNS))]
        for cell, total in enumerate(totals)
    ]
    kurtosis = features.kurtosis
    closed = [allocate(importance.sqrt(), kurtosis[cell], total).capacity for cell, total in enumerate(totals)]
    return {
        "capacity": C,
        "second": _owned(chosen, other, features, generator)[0],
        "kind": kind,
        "loss": done.loss[best],
        "stderr": done.stderr[best],
        "loss_ignored": (importance * chosen.target_variance(features)).sum(-1),
        "predicted": torch.stack([torch.stack([one.capacity for one in cell]) for cell in divided]),
        "predicted_loss": torch.stack([torch.stack([one.loss for one in cell]) for cell in divided]),
        "quadratic": torch.stack(closed),
    }


def _two_best(done: Fit, n_cells: int) -> tuple[Int[Tensor, " n_cells"], Int[Tensor, " n_cells"]]:
    """The instances with the lowest and the second lowest loss of each cell."""
    loss = done.loss.nan_to_num(nan=torch.inf).view(n_cells, -1)
    place = loss.argsort(dim=-1, stable=True)[:, :2] + torch.arange(n_cells)[:, None] * loss.shape[1]
    return place[:, 0], place[:, 1]


def _instances(chosen: Architecture, model: ToyModel, at: Tensor, generator: torch.Generator) -> ToyModel:
    """Some instances of a stack, as a stack."""
    result = chosen.model(model.n_features, model.d_hidden, len(at), generator)
    result.load_state_dict({name: value[at] for name, value in model.state_dict().items()})
    return result


def _owned(
    chosen: Architecture, model: ToyModel, features: SparseUniform, generator: torch.Generator
) -> tuple[Float[Tensor, "n_cells n_features"], Int[Tensor, "n_cells n_features"]]:
    """Capacities and classes; a response of no size owns nothing, whatever its direction."""
    C, size = chosen.capacity(model, features, generator)
    kind = classify(C, size)
    return torch.where((kind == FeatureClass.IGNORED) & (C >= IGNORED_BELOW), 0.0, C), kind


def _curves(
    chosen: Architecture,
    model: ToyModel,
    kind: Tensor,
    features: SparseUniform,
    importance: Tensor,
    n_grid: int,
    n_samples: int,
) -> tuple[Float[Tensor, " n_points"], Float[Tensor, "n_patterns n_cells n_features n_points"]]:
    """Losses at every capacity with each of `PATTERNS`."""
    closed = chosen.family == "quadratic" or linear(chosen)
    if closed:
        n_grid, n_samples = 1 + FINER * (n_grid - 1), FINER * n_samples
    grid, weight = torch.linspace(0, 1, n_grid, dtype=torch.float64), importance[:, None]

    def measured(pattern: str | Tensor) -> Tensor:
        own = chosen.importance(importance)
        return curve(model, features, own, C=grid, pattern=pattern, n_samples=n_samples).losses

    def shared(pattern: str | Tensor) -> Tensor:
        return weight * (measured(pattern) / weight).mean(-2, keepdim=True)

    antipodal = shared("antipodal")
    if closed:  # whatever the pattern
        return grid, torch.stack([antipodal] * len(PATTERNS))
    n_features = len(importance)
    spread = shared(-torch.ones(n_features, n_features, dtype=torch.float64))
    network = torch.where((kind == FeatureClass.IGNORED)[..., None], antipodal, measured("network"))
    return grid, torch.stack([spread, antipodal, network])


def linear(chosen: Architecture) -> bool:
    """Whether its outputs are linear in what is read: then returns are constant, whatever interferes."""
    return chosen.activation == "identity" or chosen.family in ("hidden", "residual")
