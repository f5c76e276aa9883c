"""What prices would be if features had each other's importance."""

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.returns import EqualReturns, Prices, equal_returns

N_DEALS = 100


def dealt_dispersion(
    test: EqualReturns, importance: Float[Tensor, " n_features"], seed: int
) -> Float[Tensor, " n_deals"]:
    """Dispersion of prices if importances were dealt out anew: the price of a feature's own loss goes with its own."""
    generator = torch.Generator().manual_seed(seed)
    deals = torch.stack([torch.randperm(len(importance), generator=generator) for _ in range(N_DEALS)])
    factor = (importance[deals] / importance).to(test.benefit)
    C, kind = (values.expand_as(factor) for values in (test.capacity, test.feature_class))
    return equal_returns(Prices(-test.benefit * factor, test.stderr * factor, C, kind)).prices.value
