"""The Newton method on objectives whose minima and saddles are known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from torch import Tensor
from torch.testing import assert_close

from objectives import Ledge, Saddle
from polysem.features import SparseSign, SparseUniform
from polysem.training import _newton
from polysem.training._newton import newton
from polysem.zoo import QuadraticModel, TiedAutoencoder


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_leaves_saddles_and_counts_steps() -> None:
    starts = double([[0.0, 0.0], [3.0, 0.0], [0.5, 0.2], [0.0, 1.0], [-2.0, -0.7]])
    objective = Saddle(double([1.0, 1e6, 1e-6, 1.0, 1.0]))
    end = newton(objective, starts, max_steps=100, tolerance=1e-12)
    assert end.converged.all()
    assert_close(end.theta[:, 0], torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-10)
    assert_close(end.theta[:, 1].abs(), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-10)
    assert end.n_steps[3].item() == 0
    assert (end.n_steps[[0, 1, 2, 4]] > 0).all()
    assert (end.gradient_norm <= 1e-12).all()


def test_out_of_steps_is_not_converged() -> None:
    objective, start = Saddle(double([1.0, 1.0])), double([[3.0, 5.0], [0.3, 0.1]])
    for max_steps in (0, 1):
        end = newton(objective, start, max_steps=max_steps, tolerance=1e-12)
        assert not end.converged.any()
        assert end.n_steps.tolist() == [max_steps, max_steps]
    assert_close(newton(objective, start, max_steps=0, tolerance=1e-12).theta, start)
    assert (objective.loss(end.theta) < objective.loss(start)).all()


def test_goes_on_where_the_loss_falls_beyond_a_kink() -> None:
    depth = double([7.0, 1.5, 1.01, 1.01, 0.99])
    objective, starts = Ledge(depth), double([[1.0, 1.0]] * 3 + [[3.0, 1.2], [1.0, 1.0]])
    end = newton(objective, starts, max_steps=100, tolerance=1e-12)
    assert end.converged.all()
    drop = (depth - 1).clamp(min=0)
    assert_close(end.theta[:, 1], 1 + drop.sqrt(), rtol=0, atol=1e-9)
    assert_close(end.theta[:, 0], 1 - drop.sqrt(), rtol=0, atol=1e-9)
    assert_close(objective.loss(end.theta), -drop.square() / 2, rtol=1e-9, atol=1e-16)
    assert (end.n_steps[:4] > 0).all()
    assert end.n_steps[4] == 0


@pytest.mark.parametrize("max_steps", [0, 1, 3])
def test_a_kink_with_lower_losses_beyond_is_no_minimum(max_steps: int) -> None:
    objective, start = Ledge(double([1.3, 0.5])), double([[1.0, 1.0]] * 2)
    end = newton(objective, start, max_steps=max_steps, tolerance=1e-12)
    assert end.converged.tolist() == [False, True]
    assert end.n_steps.tolist() == [max_steps, 0]
    assert bool(objective.loss(end.theta)[0] < objective.loss(start)[0]) == (max_steps > 0)


def test_a_feature_in_its_own_dimension_is_left_if_a_pair_is_better() -> None:
    """A solution in closed form that sits on a kink; the cone of lower losses holds one direction in a thousand."""
    p, second = double([[0.4] * 2, [0.1] * 2, [0.1] * 2]), double([[1.0, 0.5], [1.0, 0.35], [1.0, 0.02]])
    objective = TiedAutoencoder(2, 1, n_inst=3).objective(SparseUniform(p), second)
    zero = torch.zeros_like(p[:, 0])
    start = torch.stack([zero + 1, zero, zero, p[:, 1] / 2], -1)  # W = (1, 0), b = (0, E x_2)
    assert_close(objective.gradient(start), torch.zeros_like(start), rtol=0, atol=1e-15)
    assert (torch.linalg.eigvalsh(objective.hessian(start)) > 0).all()
    end = newton(objective, start, max_steps=100, tolerance=1e-10)
    assert end.converged.all()
    relative = objective.loss(end.theta) / objective.loss(start)
    assert (relative < double([0.81, 0.21, 1.5])).all()
    assert_close(end.theta[2], start[2], rtol=0, atol=0)
    generator = torch.Generator().manual_seed(0)
    for distance in (1e-4, 1e-3, 1e-2):
        for _ in range(60):
            away = torch.randn(start.shape, generator=generator, dtype=torch.float64)
            around = objective.loss(end.theta + distance * away)
            assert (around > objective.loss(end.theta) * (1 - 1e-12)).all()


@pytest.mark.parametrize("zero_rows", [0, 3, 6])
def test_starts_on_saddles_of_the_quadratic_model_end_in_the_minimum(zero_rows: int) -> None:
    model = QuadraticModel(6, 2, n_inst=4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.W[:, :zero_rows] = 0.0
    v = double([0.8**i for i in range(6)])
    objective = model.objective(SparseSign.from_kurtosis([20.0] * 6, standardise=True), v)
    end = newton(objective, objective.pack(model.state_dict()), max_steps=300, tolerance=1e-10)
    assert end.converged.all()
    losses = objective.loss(end.theta)
    assert_close(losses, losses[:1].expand(4), rtol=1e-10, atol=0)


@settings(deadline=None, max_examples=15)
@given(n=st.integers(1, 5), d=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_no_instance_ends_above_its_start_and_minima_are_scipys(n: int, d: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    model = QuadraticModel(n, d, n_inst=3, generator=g)
    kurtosis = 1.2 + 20 * torch.rand(3, n, generator=g, dtype=torch.float64)
    v = torch.rand(3, n, generator=g, dtype=torch.float64)
    objective = model.objective(SparseSign.from_kurtosis(kurtosis, standardise=True), v)
    start = objective.pack(model.state_dict())
    end = newton(objective, start, max_steps=500, tolerance=1e-10)
    assert end.converged.all()
    loss = objective.loss(end.theta)
    assert (loss <= objective.loss(start) * (1 + 1e-12)).all()
    for i in range(3):
        one = objective.select(torch.tensor([i]))
        found = optimize.minimize(
            lambda t, one=one: one.loss(torch.from_numpy(t)[None]).item(),
            end.theta[i].numpy(),
            jac=lambda t, one=one: one.gradient(torch.from_numpy(t)[None])[0].numpy(),
            method="BFGS",
        )
        assert_close(loss[i].item(), found.fun, rtol=1e-9, atol=1e-12)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = double([[0.3 * k, 0.4 - 0.1 * k] for k in range(7)])
    objective = Saddle(double([1.0 + k for k in range(7)]))
    whole = newton(objective, starts, max_steps=100, tolerance=1e-12)
    monkeypatch.setattr(_newton, "BLOCK_BYTES", 2 * 4 * 8 * 4)
    parts = newton(objective, starts, max_steps=100, tolerance=1e-12)
    assert_close(parts.theta, whole.theta, rtol=0, atol=0)
    assert_close(parts.n_steps, whole.n_steps, rtol=0, atol=0)
    assert_close(parts.gradient_norm, whole.gradient_norm, rtol=0, atol=0)
