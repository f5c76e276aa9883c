"""Capacities predicted from measured curves, beside those that training ends with, for every architecture."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from polysem.measure import FeatureClass, classify
from polysem.studies._architectures import ARCHITECTURES, architecture
from polysem.studies._configs_prediction import PredictionConfig
from polysem.studies._geometry import sticky
from polysem.studies._prediction_cells import PATTERNS, SPENT, linear, prediction_cells
from polysem.sweeps import Engine, Grid, SweepStatus, run

if TYPE_CHECKING:
    import xarray as xr

BASELINES = ("equal", "quadratic")
"""What knows nothing of the architecture: an equal split, and the quadratic model's optimum at the same kurtosis."""
TOLERANCE = 0.05
"""Mean error of capacity up to which a prediction counts as right; capacities closer than that have no order."""
ROUNDING = 1e-9
LINEAR = "linear readouts"
"""What the architectures are called, as a group, whose curves are straight."""


@dataclass(frozen=True)
class Prediction:
    """Predicted and trained capacities; arrays have the axes `[n_architectures, n_probability]` first.

    Attributes:
        architecture: names.
        probability: feature probabilities, falling.
        d_hidden: the embedding dimension.
        linear: whether readouts are linear, so that curves are straight and say "whole features, by importance",
            `[n_architectures]`.
        capacity: of every feature `[..., n_features]`, of the best start.
        second: of the second best start.
        kind: their `FeatureClass`; -1 where there is no result.
        loss: of the best start, over that of ignoring everything.
        predicted: name → capacities `[..., 2, n_features]` for the totals `SPENT` and `WHOLE`, for each of `PATTERNS`
            and of `BASELINES`.
        predicted_loss: sum of the curves at the predicted capacities `[..., 2]` over the loss of ignoring everything,
            for each of `PATTERNS`.
    """

    architecture: tuple[str, ...]
    probability: np.ndarray
    d_hidden: int
    linear: np.ndarray
    capacity: np.ndarray
    second: np.ndarray
    kind: np.ndarray
    loss: np.ndarray
    predicted: dict[str, np.ndarray]
    predicted_loss: dict[str, np.ndarray]

    @property
    def groups(self) -> dict[str, list[int]]:
        """Places of the architectures by family, without those that are linear, which are a group of their own."""
        result: dict[str, list[int]] = {}
        for row, name in enumerate(self.architecture):
            group = LINEAR if self.linear[row] else architecture(name).family
            result.setdefault(group, []).append(row)
        return result

    @property
    def n_failed(self) -> int:
        """Settings without a result; they are NaN everywhere."""
        return int(np.isnan(self.loss).sum())

    @property
    def noise(self) -> np.ndarray:
        """Mean absolute difference between the capacities of the two best starts: how far training settles them."""
        return np.asarray(np.abs(self.second - self.capacity).mean(-1))

    def error(self, name: str, total: int = SPENT) -> np.ndarray:
        """Mean absolute error of capacity over the features."""
        return np.asarray(np.abs(self.predicted[name][..., total, :] - self.capacity).mean(-1))

    def ordered(self, name: str, total: int = SPENT) -> np.ndarray:
        """Share of the pairs of features more than `TOLERANCE` apart that are predicted in their order.

        Predicted ties count half; NaN without such a pair.
        """
        guess = self.predicted[name][..., total, :]
        trained, guessed = (values[..., :, None] - values[..., None, :] for values in (self.capacity, guess))
        counted = trained > TOLERANCE
        right = np.where(guessed > ROUNDING, 1.0, np.where(guessed < -ROUNDING, 0.0, 0.5))
        n = counted.sum((-1, -2))
        return np.asarray((right * counted).sum((-1, -2)) / np.where(n > 0, n, np.nan))

    def same_class(self, name: str, total: int = SPENT) -> np.ndarray:
        """Share of the features that are ignored, impure or pure as predicted."""
        classes = classify(torch.from_numpy(self.predicted[name][..., total, :])).numpy()
        return np.where(np.isnan(self.loss), np.nan, (classes == self.kind).mean(-1))

    def stuck(self, group: str, name: str | None = None) -> float:
        """Share of a group's impure features that have a polytope's capacity, trained or as predicted; 0 of none."""
        C = self.capacity if name is None else self.predicted[name][..., SPENT, :]
        capacity = torch.from_numpy(C[self.groups[group]])
        return sticky(capacity[classify(capacity) == FeatureClass.IMPURE])

    def predicts(self, name: str, total: int = SPENT) -> np.ndarray:
        """Whether the error is within `TOLERANCE` and below that of an equal split."""
        error = self.error(name, total)
        return np.asarray((error <= TOLERANCE) & (error < self.error("equal", total)))


def prediction_grid(config: PredictionConfig = PredictionConfig()) -> Grid:
    """The cells of the prediction: architecture × feature probability."""
    return Grid(
        {
            "architecture": config.architectures or tuple(ARCHITECTURES),
            "d_hidden": [config.d_hidden],
            "feature_probability": [float(p) for p in config.probabilities],
        },
        fixed={
            "seed": config.seed,
            "n_features": config.n_features,
            "decay": config.decay,
            "restarts": config.restarts,
            "adam_steps": config.adam_steps,
            "batch_size": config.batch_size,
            "n_grid": config.n_grid,
            "n_samples": config.n_samples,
        },
    )


def prediction(
    config: PredictionConfig,
    store: Path,
    *,
    engine: Engine | None = None,
    progress: Callable[[SweepStatus], None] | None = None,
) -> Prediction:
    """Train, measure and predict every architecture at every feature probability, or go on with the store.

    Args:
        config: what is trained and predicted.
        store: directory of the sweep's store.
        engine: where stacks are computed; by default in this process.
        progress: called with the sweep's status.

    Returns:
        Predicted and trained capacities.

    Source: ours.
    """
    for name in config.architectures:
        architecture(name)
    return read_prediction(run(prediction_grid(config), prediction_cells, store, engine=engine, progress=progress))


def read_prediction(dataset: "xr.Dataset") -> Prediction:
    """What the store of a prediction says, finished or not."""
    data: Any = dataset.isel(d_hidden=0)
    data = data.transpose("architecture", "feature_probability", "pattern", "total", "feature", ...)
    names, C = tuple(str(name) for name in data["architecture"].values), data["capacity"].values
    d_hidden = int(data["d_hidden"])
    totals = np.stack([C.sum(-1), np.full(C.shape[:-1], float(d_hidden))], -1)
    equal = np.repeat(totals[..., None] / C.shape[-1], C.shape[-1], -1)
    curves = {name: data["predicted"].values[:, :, k] for k, name in enumerate(PATTERNS)}
    ignored = data["loss_ignored"].values
    return Prediction(
        architecture=names,
        probability=data["feature_probability"].values,
        d_hidden=d_hidden,
        linear=np.array([linear(architecture(name)) for name in names]),
        capacity=C,
        second=data["second"].values,
        kind=data["kind"].values,
        loss=data["loss"].values / ignored,
        predicted={**curves, **dict(zip(BASELINES, (equal, data["quadratic"].values), strict=True))},
        predicted_loss={
            name: data["predicted_loss"].values[:, :, k] / ignored[..., None] for k, name in enumerate(PATTERNS)
        },
    )
