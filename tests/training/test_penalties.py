"""Penalties against Adam written as a loop, one instance at a time."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.features import SparseSign, SparseUniform
from polysem.measure import capacity
from polysem.training import FitConfig, FitStatus, fit
from polysem.zoo import QuadraticModel, TiedAutoencoder, ToyModel

V = [1.0, 0.8, 0.6, 0.5]
FEATURES = SparseSign.from_kurtosis([20.0] * 4, standardise=True)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def impurity(model: ToyModel) -> Tensor:
    C = capacity(model.embedding)
    return 3.0 * (C * (1 - C)).sum(-1)


def adam_by_hand(W: Tensor, config: FitConfig) -> list[list[float]]:
    """Adam on the quadratic model's exact loss at its best offset, entry by entry of one instance."""
    n, d = W.shape
    rows = W.tolist()
    first, second = ([[0.0] * d for _ in range(n)] for _ in range(2))
    for step in range(config.adam_steps):
        X = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
        loss = torch.zeros((), dtype=torch.float64)
        for i in range(n):
            loss = loss + 19.0 * (V[i] - X[i] @ X[i]) ** 2
            spent = torch.zeros((), dtype=torch.float64)
            for j in range(n):
                spent = spent + (X[i] @ X[j]) ** 2
                if j != i:
                    loss = loss + 2 * (X[i] @ X[j]) ** 2
            C = (X[i] @ X[i]) ** 2 / spent
            loss = loss + 3.0 * C * (1 - C)
        gradient = torch.autograd.grad(loss, X)[0].tolist()
        largest = max(abs(x) for row in rows for x in row)
        rate = config.learning_rate * (1 + math.cos(math.pi * step / config.adam_steps)) / 2
        for i in range(n):
            for k in range(d):
                g = gradient[i][k]
                first[i][k] = 0.9 * first[i][k] + 0.1 * g
                second[i][k] = 0.999 * second[i][k] + 0.001 * g * g
                m, s = first[i][k] / (1 - 0.9 ** (step + 1)), second[i][k] / (1 - 0.999 ** (step + 1))
                rows[i][k] -= rate * largest * m / math.sqrt(s)
    return rows


def test_exact_loss_with_penalty_is_adam_by_hand() -> None:
    model = QuadraticModel(4, 2, n_inst=3, generator=seeded(0))
    config = FitConfig(adam_steps=40)
    done = fit(model, FEATURES, V, config, penalties=[impurity])
    for i in range(3):
        assert_close(done.model.W[i].tolist(), adam_by_hand(model.W[i].detach(), config), rtol=1e-8, atol=1e-10)
    assert (done.n_steps == 40).all()  # nothing is polished
    assert (done.status == FitStatus.NOT_CONVERGED).all()
    assert_close(done.loss, done.model.exact_loss(FEATURES, V).detach())  # without the penalty
    plain = fit(model, FEATURES, V, FitConfig(adam_steps=40, polish="none"))
    assert (done.model.W - plain.model.W).abs().max() > 0.01


def test_penalties_add_up_and_each_is_called_once_a_step() -> None:
    model, calls = QuadraticModel(4, 2, n_inst=3, generator=seeded(1)), []

    def counted(model: ToyModel) -> Tensor:
        calls.append(1)
        return impurity(model) / 2

    config = FitConfig(adam_steps=20)
    twice = fit(model, FEATURES, V, config, penalties=[counted, counted])
    assert len(calls) == 2 * 21  # once more to judge the end
    once = fit(model, FEATURES, V, config, penalties=[impurity])
    assert_close(twice.model.W, once.model.W, rtol=1e-9, atol=1e-12)


def test_flattening_makes_features_pure() -> None:
    model = QuadraticModel(4, 2, n_inst=4, generator=seeded(2))
    plain = fit(model, FEATURES, V)
    flat = fit(model, FEATURES, V, FitConfig(adam_steps=300), penalties=[lambda m: 30 * impurity(m)])
    mixed, pure = (capacity(done.model.W.detach()) for done in (plain, flat))
    assert ((mixed > 0.05) & (mixed < 0.95)).any(-1).all()
    assert ((pure < 0.05) | (pure > 0.95)).all(-1).sum() >= 3  # nearly equal features take their time to part
    assert (flat.loss > plain.loss.min()).all()


def test_sampled_loss_takes_the_gradient_of_the_penalty_too() -> None:
    features, model = SparseUniform([0.2] * 4), TiedAutoencoder(4, 2, n_inst=2, generator=seeded(3))
    gradients = []

    def shrinking(model: ToyModel) -> Tensor:
        return 100 * model.embedding.square().sum((-2, -1))

    def watching(model: ToyModel) -> Tensor:
        model.embedding.register_hook(gradients.append)
        return 0 * model.embedding.sum((-2, -1))

    config = FitConfig(loss="sampled", adam_steps=150, schedule="constant")
    done = fit(model, features, [1.0] * 4, config, penalties=[shrinking, watching], generator=seeded(4))
    assert (done.model.W.abs().amax((-2, -1)) < 0.3 * model.W.abs().amax((-2, -1))).all()
    assert len(gradients) == 151
    assert_close(gradients[0], 200 * model.W.detach())


@pytest.mark.bad_input
def test_bad_penalties_are_refused() -> None:
    model, config = QuadraticModel(4, 2, n_inst=3, generator=seeded(0)), FitConfig(adam_steps=1)
    for penalty, got in (
        (lambda m: m.embedding.sum(), r"shape \(\)"),
        (lambda m: torch.zeros(3), r"shape \(3,\)"),
        (lambda m: 1.0, "float"),
    ):
        with pytest.raises(ValueError, match=r"penalties\[1\] must return a tensor differentiable .*" + got):
            fit(model, FEATURES, V, config, penalties=[impurity, penalty])
    with pytest.raises(ValueError, match="penalties must be callables"):
        fit(model, FEATURES, V, config, penalties=[3])
