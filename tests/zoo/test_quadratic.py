"""The exact loss against enumeration and loops, its derivatives against autograd."""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call
from torch.testing import assert_close

from polysem.features import SparseGaussian, SparseLaplace, SparseSign, SparseUniform
from polysem.zoo import QuadraticModel, QuadraticObjective


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_model(n: int, d: int, n_inst: int = 1, seed: int = 0) -> QuadraticModel:
    model = QuadraticModel(n, d, n_inst=n_inst, generator=seeded(seed))
    with torch.no_grad():
        model.b.copy_(torch.randn(n_inst, generator=seeded(seed + 1), dtype=torch.float64))
    return model


def sign_outcomes(p: list[float]) -> Iterator[tuple[float, list[float]]]:
    """Every outcome of standardised sparse signs with its probability."""
    choices = [[(1 - q, 0.0), (q / 2, q**-0.5), (q / 2, -(q**-0.5))] for q in p]
    for outcome in itertools.product(*choices):
        yield math.prod(chance for chance, _ in outcome), [value for _, value in outcome]


@pytest.mark.parametrize("p", [[0.5, 0.2, 0.9], [1.0, 0.3, 1e-3], [1.0, 1.0, 1.0]])
def test_exact_loss_equals_enumeration(p: list[float]) -> None:
    v = [1.0, 0.4, 2.0]
    model = random_model(3, 2)
    W, b = model.W.detach()[0].tolist(), model.b.item()
    expected = 0.0
    for chance, x in sign_outcomes(p):
        hidden = [sum(x[i] * W[i][k] for i in range(3)) for k in range(2)]
        y = sum(v[i] * x[i] ** 2 for i in range(3))
        expected += chance * (y - sum(h * h for h in hidden) - b) ** 2
    loss = model.exact_loss(SparseSign(p, standardise=True), v)
    assert_close(loss.item(), expected, rtol=1e-12, atol=1e-12)


def test_forward_and_sample_losses_equal_a_loop() -> None:
    model = random_model(4, 2, n_inst=3)
    v = torch.rand(3, 4, generator=seeded(5), dtype=torch.float64)
    x = torch.randn(6, 3, 4, generator=seeded(6), dtype=torch.float64)
    W, b = model.W.detach(), model.b.detach()
    y = torch.zeros(6, 3, dtype=torch.float64)
    loss = torch.zeros_like(y)
    for s, i in itertools.product(range(6), range(3)):
        y[s, i] = (W[i].T @ x[s, i]).square().sum() + b[i]
        loss[s, i] = ((v[i] * x[s, i] ** 2).sum() - y[s, i]) ** 2
    assert_close(model(x).detach(), y)
    assert_close(model.per_sample_loss(x, v).detach(), loss)
    shared = x[:, :1]
    assert_close(model(shared), model(shared.expand(6, 3, 4)))
    assert_close(model.per_sample_loss(shared, v), model.per_sample_loss(shared.expand(6, 3, 4), v))


def loop_loss(W: Tensor, v: Tensor, kurtosis: Tensor) -> float:
    total = 0.0
    for i in range(len(W)):
        total += ((kurtosis[i] - 1) * (v[i] - W[i] @ W[i]) ** 2).item()
        total += sum(2 * (W[i] @ W[j]).item() ** 2 for j in range(len(W)) if j != i)
    return total


def random_objective(n_inst: int, n: int, d: int, seed: int) -> tuple[QuadraticObjective, Tensor]:
    g = seeded(seed)
    v = torch.rand(n_inst, n, generator=g, dtype=torch.float64)
    kurtosis = 1 + 10 * torch.rand(n_inst, n, generator=g, dtype=torch.float64)
    theta = torch.randn(n_inst, n * d, generator=g, dtype=torch.float64)
    return QuadraticObjective(v, kurtosis, d), theta


@settings(deadline=None, max_examples=40)
@given(n_inst=st.integers(1, 3), n=st.integers(1, 5), d=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_derivatives_equal_autograd(n_inst: int, n: int, d: int, seed: int) -> None:
    objective, theta = random_objective(n_inst, n, d, seed)
    loops = [
        loop_loss(W, v, k)
        for W, v, k in zip(theta.reshape(n_inst, n, d), objective.importance, objective.kurtosis, strict=True)
    ]
    assert_close(objective.loss(theta), torch.tensor(loops, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    gradient, hessian = objective.gradient(theta), objective.hessian(theta)
    for i in range(n_inst):
        one = objective.select(torch.tensor([i]))

        def scalar(t: Tensor, one: QuadraticObjective = one) -> Tensor:
            return one.loss(t[None])[0]

        slope = torch.func.grad(scalar)(theta[i])
        curvature = torch.autograd.functional.hessian(scalar, theta[i])
        assert isinstance(curvature, Tensor)
        scale = curvature.abs().max().item() + 1
        assert_close(gradient[i], slope, rtol=1e-10, atol=1e-10 * scale)
        assert_close(hessian[i], curvature, rtol=1e-10, atol=1e-10 * scale)


@pytest.mark.parametrize("kind", [SparseUniform, SparseGaussian, SparseLaplace, SparseSign])
def test_best_offset_removes_the_last_term(kind: type[SparseGaussian]) -> None:
    features = kind([[0.3, 0.1, 0.6], [0.2, 0.9, 0.5]], standardise=True)
    v = torch.tensor([[1.0, 0.5, 0.2], [0.1, 2.0, 3.0]], dtype=torch.float64)
    model = random_model(3, 2, n_inst=2)
    objective = model.objective(features, v)
    theta = objective.pack(model.state_dict())
    best = objective.unpack(theta)
    assert_close(best["W"], model.W.detach())
    at_best = functional_call(model, best, (torch.zeros(1, 1, 3, dtype=torch.float64),))
    assert_close(at_best[0], best["b"])
    given_b = model.b.detach().clone()
    loss = model.exact_loss(features, v).detach()
    model.load_state_dict(best)
    assert_close(model.exact_loss(features, v).detach(), objective.loss(theta))
    assert_close(loss, objective.loss(theta) + (given_b - best["b"]).square())


def test_exact_loss_has_gradients_by_all_parameters() -> None:
    features = SparseUniform([0.3, 0.1], standardise=True)
    model = random_model(2, 1)
    model.exact_loss(features, [1.0, 0.5]).sum().backward()
    objective = model.objective(features, [1.0, 0.5])
    miss = (objective.importance - model.W.detach().square().sum(-1)).sum(-1) - model.b.detach()
    own = objective.gradient(objective.pack(model.state_dict())).reshape(1, 2, 1)
    assert model.W.grad is not None
    assert model.b.grad is not None
    assert_close(model.W.grad, own - 4 * miss * model.W.detach())
    assert_close(model.b.grad, -2 * miss)


def test_rows_are_features() -> None:
    model = QuadraticModel(3, 2, n_inst=2, generator=seeded(0))
    assert model.W.shape == (2, 3, 2)
    assert model.W.dtype == model.b.dtype == torch.float64
    assert_close(model.response(), torch.einsum("nid,njd->nij", model.W, model.W))
    assert_close(model.embedding, model.readout)


def test_start_is_seeded_and_of_the_stated_size() -> None:
    first, again = (QuadraticModel(50, 20, n_inst=20, generator=seeded(3)) for _ in range(2))
    assert_close(first.W, again.W, rtol=0, atol=0)
    assert_close(first.b.detach(), torch.zeros(20, dtype=torch.float64))
    sizes = first.W.detach().square().sum(-1)
    assert abs(sizes.mean().item() - 0.25) < 5 * sizes.std().item() / math.sqrt(sizes.numel())


def test_other_precision_is_kept_and_its_loss_computed_in_float64() -> None:
    single = QuadraticModel(3, 2, generator=seeded(0), dtype=torch.float32)
    features = SparseSign([0.5, 0.5, 0.2], standardise=True)
    assert single.W.dtype == torch.float32
    double = QuadraticModel(3, 2)
    double.load_state_dict(single.state_dict())
    loss = single.exact_loss(features, [1.0, 1.0, 0.5])
    assert loss.dtype == torch.float64
    assert_close(loss, double.exact_loss(features, [1.0, 1.0, 0.5]), rtol=1e-14, atol=0)


@pytest.mark.bad_input
def test_bad_arguments_are_refused() -> None:
    for n, d, n_inst, name in [(0, 1, 1, "n_features"), (2, 0, 1, "d_hidden"), (2, 1, 0, "n_inst")]:
        with pytest.raises(ValueError, match=f"{name} must be"):
            QuadraticModel(n, d, n_inst=n_inst)
    model = QuadraticModel(2, 1, n_inst=3)
    good = SparseSign([0.5, 0.5], standardise=True)
    for v in ([1.0], 1.0, [[1.0, 1.0]], [1.0, -1.0], [1.0, math.inf], [1.0, math.nan]):
        with pytest.raises(ValueError, match="importance must be"):
            model.exact_loss(good, v)
    for features in (SparseUniform([0.5, 0.5]), SparseSign([0.5, 0.5]), SparseGaussian([0.5, 1.0])):
        with pytest.raises(ValueError, match="standardise=True"):
            model.exact_loss(features, [1.0, 1.0])
    for p in (0.5, [0.5], [[0.5, 0.5]], [0.5, 0.5, 0.5]):
        with pytest.raises(ValueError, match="shape of features must be"):
            model.exact_loss(SparseSign(p, standardise=True), [1.0, 1.0])
