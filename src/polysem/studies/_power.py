"""How often the equal-returns test is right: on optima, and on networks that are none."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from polysem import theory
from polysem.features import SparseSign, geometric
from polysem.returns import EqualReturns, curve, equal_returns, prices
from polysem.studies._configs_locking import PowerConfig
from polysem.training import fit
from polysem.zoo import QuadraticModel

LEARNING_RATE = 0.01


@dataclass(frozen=True)
class Power:
    """The equal-returns test of several kinds of networks, stacks of `n_models` each.

    Attributes:
        optimum: trained to the end, where returns should be equal.
        others: networks that are at no optimum, by what they are.
    """

    optimum: EqualReturns
    others: dict[str, EqualReturns]


def power(config: PowerConfig = PowerConfig()) -> Power:
    """Try the equal-returns test, by exact prices and curves, on quadratic models that are at their optimum or not.

    Example:
        >>> found = power(PowerConfig(n_models=4))
        >>> found.optimum.says, found.others["random"].says
        ('4 equal', '4 unequal')

    Source: ours.
    """
    generator = torch.Generator().manual_seed(config.seed)
    v = geometric(config.n_features, config.decay)
    features = SparseSign.from_kurtosis([config.kurtosis] * config.n_features, standardise=True)
    best = theory.allocate(v, config.kurtosis, config.d_hidden).loss
    start = QuadraticModel(config.n_features, config.d_hidden, n_inst=config.n_models, generator=generator)
    curves = curve(start, features, v)

    def judged(W: Tensor) -> EqualReturns:
        model = copy.deepcopy(start)
        model.load_state_dict({"W": W, "b": torch.zeros(config.n_models)})
        return equal_returns(prices(model, features, v), curves)

    W = fit(start, features, v).model.embedding.detach()
    rows = torch.stack([one[torch.randperm(len(one), generator=generator)] for one in W])
    entries = torch.stack([one[torch.randperm(one.numel(), generator=generator)] for one in W.flatten(1)])
    return Power(
        optimum=judged(W),
        others={
            "random": judged(start.W.detach()),
            f"stopped {config.excess:.0%} above the optimal loss": judged(
                _stopped(start, features, v, (1 + config.excess) * best)
            ),
            "rows dealt out to other features": judged(rows),
            "entries shuffled": judged(entries.view_as(W)),
        },
    )


def _stopped(start: QuadraticModel, features: SparseSign, v: Tensor, goal: Tensor) -> Tensor:
    """Embeddings when their loss first falls to the goal."""
    model = copy.deepcopy(start)
    parameters = list(model.parameters())
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    W, stopped = model.W.detach().clone(), torch.zeros(model.n_inst, dtype=torch.bool)
    while not stopped.all():
        loss = model.exact_loss(features, v)
        now = (loss.detach() <= goal) & ~stopped
        W[now] = model.W.detach()[now]
        stopped |= now
        for parameter, slope in zip(parameters, torch.autograd.grad(loss.sum(), parameters), strict=True):
            parameter.grad = slope
        optimiser.step()
    return W
