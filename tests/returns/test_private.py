"""Prices that each feature's own loss feels, against differences, other prices, and a network at its minimum."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from polysem.features import SparseUniform
from polysem.returns import Exposed, Prices, Private, layers, prices

STEP = 1e-5


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def network(n: int = 6, d: int = 3, seed: int = 0) -> nn.Sequential:
    """Features, embedded along rows, moved on, then read."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(n, d), nn.Tanh(), nn.Linear(d, d), nn.Linear(d, n), nn.GELU()).double()


def errors(output: Tensor, x: Tensor) -> Tensor:
    return (output - x).square()


def slopes(h: Tensor, x: Tensor) -> Tensor:
    h, x = h - h.mean(0), x - x.mean(0)
    return x.mT @ h / x.square().sum(0)[:, None]


def private(model: nn.Module, x: Tensor, module: str, V: Tensor, W: Tensor, **changes: Any) -> Prices:
    site = Private(module, V, W, seeded(0), **changes)
    return prices(model, x, errors, readout=site, embedding=W)


@pytest.mark.parametrize("passes", [6, 4])
def test_prices_equal_differences_of_own_losses(passes: int) -> None:
    model, x = network(), normal(40, 6, seed=1)
    V, W, origin = normal(6, 3, seed=2), normal(6, 3, seed=3), normal(3, seed=4)
    found = private(model, x, "1", V, W, origin=origin, passes=6)
    h = model[:2](x).detach()
    R = V @ W.mT
    expected = torch.zeros(6, dtype=torch.float64)
    for i in range(6):
        z, own, losses = (h - origin) @ V[i], R[i, i] * x[:, i], []
        for s in (STEP, -STEP):
            change = ((1 - s) ** 0.5 - 1) * (z - own) / R[i, i]
            losses.append(errors(model[2:](h + change[:, None] * W[i]), x)[:, i].mean().detach())
        expected[i] = (losses[0] - losses[1]) / (2 * STEP)
    C = R.diagonal().square() / R.square().sum(-1)
    impure = found.price != 0
    assert impure.sum() >= 3
    assert_close(found.capacity, C)
    assert_close(found.price[impure], (expected / (C * (1 - C)))[impure], rtol=1e-6, atol=1e-8)
    if passes < 6:
        noisy = private(model, x.repeat(500, 1), "1", V, W, origin=origin, passes=passes)
        assert ((noisy.price - found.price).abs() <= 4 * noisy.stderr + 1e-12).all()
        assert (noisy.stderr[impure] < 0.2 * found.price[impure].abs().max()).all()
        assert (noisy.price != found.price).any()


def test_outputs_hear_their_own_readouts_only() -> None:
    """In the last state, with the outputs' own rows: what `Exposed` says, but for the offset of the outputs."""
    model, x = network(), normal(50, 6, seed=1)
    model[3].bias.data.zero_()
    V = model[3].weight.detach()
    W = slopes(model[:3](x).detach(), x)
    found = private(model, x, "2", V, W, passes=6)
    exposed = prices(model, x, lambda y, x: errors(y, x).sum(-1), readout=Exposed("3", V), embedding=W)
    assert (found.price != 0).sum() >= 3
    assert_close(found.price, exposed.price)
    assert_close(found.stderr, exposed.stderr)


@pytest.fixture(scope="module")
def settled() -> tuple[nn.Sequential, Tensor]:
    """A network at a minimum of its loss over the batch."""
    model, x = network(), SparseUniform([0.3] * 6, signed=True).sample(60, generator=seeded(5))
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=3000, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = errors(model(x), x).sum(-1).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert max(float(parameter.grad.abs().max()) for parameter in model.parameters()) < 1e-7
    return model, x


@pytest.mark.parametrize("readout", [{}, {"0": normal(6, 3, seed=9)}], ids=["fitted", "any"])
def test_at_a_minimum_only_own_losses_ask_for_capacity(
    settled: tuple[nn.Sequential, Tensor], readout: dict[str, Tensor]
) -> None:
    model, x = settled

    def measured(model: nn.Module, per_feature: bool = False) -> Prices:
        def loss(y: Tensor, x: Tensor) -> Tensor:
            return errors(y, x) if per_feature else errors(y, x).sum(-1)

        return layers(model, x, loss, ["0"], readout=readout, held_out=False, per_feature=per_feature)[0].prices

    whole, before, apart = measured(model), measured(network()), measured(model, per_feature=True)
    assert (apart.price != 0).sum() >= 2
    assert whole.price.abs().max() < 1e-5
    assert before.price.abs().max() > 1e-2
    assert apart.price.abs().max() > 1e-2


@pytest.mark.parametrize("passes", [1, 4])
def test_layers_pass_on_what_private_says(passes: int) -> None:
    model, x = network(), normal(80, 6, seed=1)
    (layer,) = layers(model, x, errors, ["1"], per_feature=True, seed=3, passes=passes, standardise=False)
    rest = x[1::2]
    site = Private("1", layer.readout, layer.embedding, seeded(3), layer.origin, passes)
    direct = prices(model, rest, errors, readout=site, embedding=layer.embedding, features=rest - rest.mean(0))
    assert (direct.price != 0).any()
    assert_close(layer.prices.price, direct.price)
    again = layers(model, x, errors, ["1"], per_feature=True, seed=3, passes=passes, standardise=False)[0]
    assert_close(again.prices.price, layer.prices.price, rtol=0, atol=0)


def test_positions_and_features_without_a_response() -> None:
    model, x = network(), normal(30, 4, 6, seed=1)
    V, W = normal(6, 3, seed=2), normal(6, 3, seed=3)
    V[2] = 0
    flat, deep = (private(model, given, "1", V, W, passes=6) for given in (x.flatten(0, 1), x))
    assert flat.price[2] == 0
    assert (flat.price != 0).any()
    assert_close(deep.price, 4 * flat.price)  # losses are summed over positions
    assert deep.price.isfinite().all()


ROWS = normal(6, 3, seed=2)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Private("1", ROWS, ROWS[:5], seeded(0)), r"shape of embedding must be \(6, 3\), got \(5, 3\)"),
        (lambda: Private("1", ROWS, ROWS, seeded(0), ROWS[0, :2]), r"shape of origin must be \(3,\), got \(2,\)"),
        (lambda: Private("1", ROWS, ROWS, seeded(0), passes=7), "passes must be at most n_features = 6, got 7"),
        (lambda: Private("1", ROWS, ROWS, seeded(0), passes=0), "passes must be a whole number of at least 1"),
        (
            lambda: prices(
                network(),
                normal(4, 6, seed=0),
                lambda y, x: errors(y, x).sum(-1),
                readout=Private("1", ROWS, ROWS, seeded(0)),
                embedding=ROWS,
            ),
            r"shape of loss must be \(4, 6\), got \(4,\)",
        ),
    ],
)
def test_bad_values(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
