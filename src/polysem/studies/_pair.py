"""Two features that share a dimension as an antipodal pair: what their capacities and prices do with importance."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.features import SparseUniform
from polysem.measure import FeatureClass
from polysem.returns import prices
from polysem.studies._configs_locking import PairConfig
from polysem.training import FitConfig, fit
from polysem.zoo import TiedAutoencoder

ADAM_STEPS = 100


@dataclass(frozen=True)
class Pair:
    """The best embedding of two features in one dimension at each probability and relative importance.

    Attributes:
        probability: feature probabilities `[n_probability]`.
        ratio: importance of feature 2 over that of feature 1 `[n_ratio]`.
        capacity: capacity of feature 2 `[n_probability, n_ratio]`; that of feature 1 is the rest of 1.
        price_ratio: price of feature 2 over that of feature 1; NaN where they do not share the dimension.
    """

    probability: Float[Tensor, " n_probability"]
    ratio: Float[Tensor, " n_ratio"]
    capacity: Float[Tensor, "n_probability n_ratio"]
    price_ratio: Float[Tensor, "n_probability n_ratio"]


def pair(config: PairConfig = PairConfig()) -> Pair:
    """Train a ReLU autoencoder of two features in one dimension on its exact loss, and measure its exact prices.

    Example:
        >>> found = pair(PairConfig((0.01,), n_ratio=2, lowest_ratio=0.25, restarts=4))
        >>> [round(C, 3) for C in found.capacity[0].tolist()], [round(r, 2) for r in found.price_ratio[0].tolist()]
        ([0.5, 0.499], [1.0, 0.25])

    Source: ours.
    """
    p = torch.tensor(config.probabilities, dtype=torch.float64)
    ratio = torch.logspace(0, torch.tensor(config.lowest_ratio).log10(), config.n_ratio, dtype=torch.float64)
    cells = len(p) * len(ratio)
    importance = torch.stack([torch.ones_like(ratio), ratio], -1).repeat(len(p), 1)
    chance = p.repeat_interleave(len(ratio))[:, None].expand(-1, 2)
    features = SparseUniform(chance.repeat_interleave(config.restarts, 0))
    weight = importance.repeat_interleave(config.restarts, 0)
    start = TiedAutoencoder(2, 1, n_inst=cells * config.restarts, generator=torch.Generator().manual_seed(config.seed))
    done = fit(start, features, weight, FitConfig(adam_steps=ADAM_STEPS))
    best = done.loss.view(cells, -1).argmin(1) + config.restarts * torch.arange(cells)
    found = prices(done.model, features, weight)
    price, both = found.price[best], (found.feature_class[best] == FeatureClass.IMPURE).all(-1)
    compared = torch.where(both, price[:, 1] / torch.where(both, price[:, 0], 1.0), torch.nan)
    shape = (len(p), len(ratio))
    return Pair(p, ratio, found.capacity[best, 1].view(shape), compared.view(shape))
