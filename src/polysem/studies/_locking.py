"""Where polytopes lock capacities, so that prices follow importance instead of being equal."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polysem.features import geometric
from polysem.measure import FeatureClass
from polysem.returns import EqualReturns, Prices, equal_returns, prices
from polysem.studies._architectures import architecture
from polysem.studies._configs_locking import LockingConfig
from polysem.studies._geometry import POLYTOPES, STICKY
from polysem.sweeps import Engine, Grid, Output, Stack, SweepStatus, run, task
from polysem.training import fit

if TYPE_CHECKING:
    import xarray as xr


@task(
    stacked=("feature_probability", "decay"),
    shared=("architecture", "d_hidden", "n_features", "adam_steps", "batch_size", "price_samples"),
    outputs={
        "capacity": Output({"feature": "n_features"}),
        "kind": Output({"feature": "n_features"}, "int64"),
        "price": Output({"feature": "n_features"}),
        "price_stderr": Output({"feature": "n_features"}),
        "loss": Output(),
        "stderr": Output(),
    },
    max_cells=64,
)
def price_cells(stack: Stack) -> dict[str, Tensor]:
    """Train one architecture at several feature probabilities and importance decays, and measure all prices.

    Args:
        stack: cells with a `feature_probability` and a `decay`, and for all of them the name of an architecture whose
            readouts are linear up to the output, `n_features`, `d_hidden`, the steps and batch size of sampled
            training, and the samples for prices. Prices of the quadratic model are exact.

    Returns:
        Capacity of every feature, its `FeatureClass` (`kind`), price and standard error, and the loss.

    Source: ours.
    """
    chosen, n_features = architecture(stack["architecture"]), stack["n_features"]
    generator = torch.Generator().manual_seed(int(stack.seeds[0]))
    p, decay = (
        torch.from_numpy(np.asarray(stack[name], dtype=np.float64)) for name in ("feature_probability", "decay")
    )
    features = chosen.features(p[:, None].expand(-1, n_features))
    importance = chosen.importance(torch.stack([geometric(n_features, ratio) for ratio in decay.tolist()]))
    done = fit(
        chosen.model(n_features, stack["d_hidden"], stack.n_cells, generator),
        features,
        importance,
        chosen.fit_config(stack["adam_steps"], stack["batch_size"]),
        generator=None if chosen.exact else generator,
    )
    if chosen.family == "quadratic":
        found = prices(done.model, features, importance)
    else:
        x, chance = features.sample_active(stack["price_samples"], generator=generator)
        given = prices(done.model, x, importance)
        found = replace(given, price=given.price * chance[:, None], stderr=given.stderr * chance[:, None])
    return {
        "capacity": found.capacity,
        "kind": found.feature_class,
        "price": found.price,
        "price_stderr": found.stderr,
        "loss": done.loss,
        "stderr": done.stderr,
    }


@dataclass(frozen=True)
class Locking:
    """Capacities and prices of the best start; arrays have axes `[n_architectures, n_d_hidden, n_decay, n_p]`.

    Attributes:
        architecture: names.
        d_hidden: embedding dimensions.
        decay: ratios of one importance to the one before.
        probability: feature probabilities.
        importance: `I_i` `[n_decay, n_features]`.
        test: the equal-returns test by prices alone, with these axes.
        n_failed: cells without a result; they count as without represented features.
    """

    architecture: tuple[str, ...]
    d_hidden: tuple[int, ...]
    decay: tuple[float, ...]
    probability: tuple[float, ...]
    importance: Float[Tensor, "n_decay n_features"]
    test: EqualReturns
    n_failed: int

    @property
    def impure(self) -> Tensor:
        """Whether each feature is impure."""
        return self.test.feature_class == FeatureClass.IMPURE

    @property
    def dispersion(self) -> Tensor:
        """Dispersion of the prices of the impure features; NaN where fewer than two are."""
        return torch.where(self.test.n_impure >= 2, self.test.prices.value, torch.nan)

    @property
    def locked(self) -> Tensor:
        """Share of the impure features whose capacity is within 0.02 of a polytope's; NaN where none is impure."""
        values = torch.tensor([float(value) for value in POLYTOPES.values()]).to(self.test.capacity)
        near = ((self.test.capacity[..., None] - values).abs().amin(-1) <= STICKY) & self.impure
        return torch.where(self.test.n_impure > 0, near.double().sum(-1) / self.test.n_impure.clamp(min=1), torch.nan)

    @property
    def elasticity(self) -> Tensor:
        """Slope of log benefit on log importance over the impure features: 0 for equal prices, 1 if they follow it.

        NaN where fewer than three are impure, a benefit is not positive, or all are equally important.
        """
        use, benefit = self.impure, self.test.benefit
        logs = torch.where(use, self.importance[:, None].log(), 0.0)
        worth = torch.where(use & (benefit > 0), benefit, 1.0).log()
        n = use.sum(-1, keepdim=True).clamp(min=1)
        logs = torch.where(use, logs - logs.sum(-1, keepdim=True) / n, 0.0)
        spread = logs.square().sum(-1)
        good = (self.test.n_impure >= 3) & (spread > 1e-9) & ~(use & (benefit <= 0)).any(-1)
        return torch.where(good, (logs * worth).sum(-1) / torch.where(good, spread, 1.0), torch.nan)

    def one(self, name: str, d_hidden: int, decay: float, probability: float) -> EqualReturns:
        """The test of a single cell."""
        return self.test.select(
            (
                self.architecture.index(name),
                self.d_hidden.index(d_hidden),
                self.decay.index(decay),
                self.probability.index(probability),
            )
        )


def locking_grid(config: LockingConfig = LockingConfig()) -> Grid:
    """The cells: architecture × dimension × decay × feature probability × start (`seed`)."""
    return Grid(
        {
            "architecture": config.architectures,
            "d_hidden": config.d_hidden,
            "decay": config.decays,
            "feature_probability": config.probabilities,
            "seed": range(config.seed, config.seed + config.restarts),
        },
        fixed={
            "n_features": config.n_features,
            "adam_steps": config.adam_steps,
            "batch_size": config.batch_size,
            "price_samples": config.price_samples,
        },
    )


def locking(
    config: LockingConfig,
    store: Path,
    *,
    engine: Engine | None = None,
    progress: Callable[[SweepStatus], None] | None = None,
) -> Locking:
    """Train and price every cell, or go on with what the store has.

    Args:
        config: what is trained.
        store: directory of the sweep's store.
        engine: where stacks are trained; by default in this process.
        progress: called with the sweep's status.

    Returns:
        Capacities and prices of the best start of each cell.

    Source: ours.
    """
    for name in config.architectures:
        architecture(name)
    return read_locking(run(locking_grid(config), price_cells, store, engine=engine, progress=progress))


def read_locking(dataset: "xr.Dataset") -> Locking:
    """What the store of a sweep of `price_cells` says, finished or not."""
    data: Any = dataset.transpose("architecture", "d_hidden", "decay", "feature_probability", "seed", "feature", ...)
    loss = data["loss"].values
    best = torch.from_numpy(np.where(np.isnan(loss), np.inf, loss).argmin(-1))

    def chosen(name: str) -> Tensor:
        values = torch.from_numpy(np.nan_to_num(data[name].values))
        return values.take_along_dim(best[..., None, None], -2)[..., 0, :]

    kind = chosen("kind").clamp(min=int(FeatureClass.IGNORED))
    found = Prices(chosen("price"), chosen("price_stderr"), chosen("capacity"), kind)
    decay = tuple(data["decay"].values.tolist())
    return Locking(
        architecture=tuple(str(name) for name in data["architecture"].values),
        d_hidden=tuple(int(d) for d in data["d_hidden"].values),
        decay=decay,
        probability=tuple(data["feature_probability"].values.tolist()),
        importance=torch.stack([geometric(found.price.shape[-1], ratio) for ratio in decay]),
        test=equal_returns(found),
        n_failed=int(np.isnan(loss).sum()),
    )
