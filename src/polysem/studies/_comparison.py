"""How much polysemanticity each architecture shows as features get sparser, and what it costs in loss."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from polysem.features import geometric
from polysem.measure import FeatureClass, classify, polysemanticity
from polysem.studies._architectures import ARCHITECTURES, architecture
from polysem.studies._configs import ComparisonConfig
from polysem.sweeps import Engine, Grid, Output, Stack, SweepStatus, run, task
from polysem.training import fit

if TYPE_CHECKING:
    import xarray as xr

CONFIDENCE = 0.95


@task(
    stacked=("feature_probability",),
    shared=("architecture", "d_hidden", "n_features", "decay", "adam_steps", "batch_size"),
    outputs={
        "capacity": Output({"feature": "n_features"}),
        "kind": Output({"feature": "n_features"}, "int64"),
        "loss": Output(),
        "stderr": Output(),
        "loss_ignored": Output(),
        "loss_monosemantic": Output(),
        "fit_status": Output(dtype="int64"),
    },
    max_cells=64,
)
def architecture_cells(stack: Stack) -> dict[str, Tensor]:
    r"""Train one architecture at several feature probabilities, every cell from a random start of its own.

        loss_ignored = Σ_i I_i Var t(x_i),   loss_monosemantic = Σ_{i >= D} I_i Var t(x_i),   I_i = decay^i

    The monosemantic loss is that of `d_hidden` dimensions each of which holds one feature without error.

    Args:
        stack: cells with a `feature_probability`, and for all of them the name of the architecture, `n_features`,
            `d_hidden`, `decay`, and the steps and batch size of sampled training.

    Returns:
        Capacity of every feature, its `FeatureClass` (`kind`), loss with standard error and the two it is compared
            with, and the `FitStatus`.

    Source: ours; after Scherlis et al. 2022, figure 7.
    """
    chosen, n_features, d_hidden = architecture(stack["architecture"]), stack["n_features"], stack["d_hidden"]
    generator = torch.Generator().manual_seed(int(stack.seeds[0]))
    p = torch.from_numpy(np.asarray(stack["feature_probability"], dtype=np.float64))
    features = chosen.features(p[:, None].expand(-1, n_features))
    importance = geometric(n_features, stack["decay"])
    done = fit(
        chosen.model(n_features, d_hidden, stack.n_cells, generator),
        features,
        chosen.importance(importance),
        chosen.fit_config(stack["adam_steps"], stack["batch_size"]),
        generator=None if chosen.exact else generator,
    )
    C, size = chosen.capacity(done.model, features, generator)
    ignored = importance * chosen.target_variance(features)
    return {
        "capacity": C,
        "kind": classify(C, size),
        "loss": done.loss,
        "stderr": done.stderr,
        "loss_ignored": ignored.sum(-1),
        "loss_monosemantic": ignored[:, d_hidden:].sum(-1),
        "fit_status": done.status,
    }


@dataclass(frozen=True)
class Band:
    """Means over the starts with 95 % confidence intervals for them, by Student's t.

    Attributes:
        mean: `[..., n_probability]`.
        half_width: of the interval; NaN for a single start.
    """

    mean: np.ndarray
    half_width: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """The finished comparison; arrays have the axes `[n_architectures, n_d_hidden, n_probability, n_starts]`.

    Attributes:
        architecture: names.
        d_hidden: embedding dimensions.
        probability: feature probabilities, falling.
        share: share of the features of each `FeatureClass`, one array each.
        polysemanticity: mean of `4 C (1 - C)` over the features that are represented; 0 where none is.
        relative_loss: loss over that of ignoring everything.
        monosemantic: loss of the best monosemantic allocation over that of ignoring everything.
        n_failed: cells without a result; they are NaN everywhere.
    """

    architecture: tuple[str, ...]
    d_hidden: tuple[int, ...]
    probability: np.ndarray
    share: dict[FeatureClass, np.ndarray]
    polysemanticity: np.ndarray
    relative_loss: np.ndarray
    monosemantic: np.ndarray
    n_failed: int

    @property
    def represented(self) -> np.ndarray:
        """Share of the features that are not ignored."""
        return 1 - self.share[FeatureClass.IGNORED]

    @property
    def rises(self) -> np.ndarray:
        """Whether more features are represented at the lowest probability than at the highest `[..., n_d_hidden]`.

        The difference of the means must exceed the two half widths of their intervals, added in squares.
        """
        band = over_starts(self.represented)
        difference = band.mean[..., -1] - band.mean[..., 0]
        noise = np.hypot(np.nan_to_num(band.half_width[..., -1]), np.nan_to_num(band.half_width[..., 0]))
        return np.asarray(difference > noise)

    @property
    def best(self) -> np.ndarray:
        """The start with the lowest loss `[n_architectures, n_d_hidden, n_probability]`."""
        return np.asarray(np.where(np.isnan(self.relative_loss), np.inf, self.relative_loss).argmin(-1))


def over_starts(values: np.ndarray) -> Band:
    """Mean and interval over the last axis, without the cells that failed."""
    there = ~np.isnan(values)
    n = there.sum(-1)
    mean = np.where(there, values, 0.0).sum(-1) / np.where(n > 0, n, np.nan)
    squares = np.where(there, values - mean[..., None], 0.0) ** 2
    enough = np.where(n > 1, n, np.nan)
    error = np.sqrt(squares.sum(-1) / (enough - 1) / enough)
    return Band(np.asarray(mean), np.asarray(stdtrit(enough - 1, (1 + CONFIDENCE) / 2) * error))


def comparison_grid(config: ComparisonConfig = ComparisonConfig()) -> Grid:
    """The cells of the comparison: architecture × dimension × feature probability × start (`seed`)."""
    lowest = np.log10(config.lowest_probability)
    return Grid(
        {
            "architecture": config.architectures or tuple(ARCHITECTURES),
            "d_hidden": config.d_hidden,
            "feature_probability": [1.0, *np.logspace(0, lowest, config.n_probability)[1:].tolist()],
            "seed": range(config.seed, config.seed + config.restarts),
        },
        fixed={
            "n_features": config.n_features,
            "decay": config.decay,
            "adam_steps": config.adam_steps,
            "batch_size": config.batch_size,
        },
    )


def comparison(
    config: ComparisonConfig,
    store: Path,
    *,
    engine: Engine | None = None,
    progress: Callable[[SweepStatus], None] | None = None,
) -> Comparison:
    """Train every architecture at every feature probability, or go on with what the store has of it.

    Args:
        config: what is compared.
        store: directory of the sweep's store.
        engine: where stacks are trained; by default in this process.
        progress: called with the sweep's status.

    Returns:
        Shares, polysemanticity and relative losses.

    Source: Scherlis et al. 2022, figure 7; losses are ours.
    """
    for name in config.architectures:
        architecture(name)
    return read_comparison(run(comparison_grid(config), architecture_cells, store, engine=engine, progress=progress))


def read_comparison(dataset: "xr.Dataset") -> Comparison:
    """What the store of a comparison says, finished or not."""
    data: Any = dataset.transpose("architecture", "d_hidden", "feature_probability", "seed", ...)
    C, kind, loss = data["capacity"].values, data["kind"].values, data["loss"].values
    missing = np.isnan(loss)
    return Comparison(
        architecture=tuple(str(name) for name in data["architecture"].values),
        d_hidden=tuple(int(d) for d in data["d_hidden"].values),
        probability=data["feature_probability"].values,
        share={one: np.where(missing, np.nan, (kind == int(one)).mean(-1)) for one in FeatureClass},
        polysemanticity=np.where(missing, np.nan, polysemanticity(torch.as_tensor(C), torch.as_tensor(kind))),
        relative_loss=loss / data["loss_ignored"].values,
        monosemantic=data["loss_monosemantic"].values / data["loss_ignored"].values,
        n_failed=int(missing.sum()),
    )
