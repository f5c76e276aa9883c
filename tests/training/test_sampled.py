"""Sampled losses: unbiased, near the exact optimum after training, and honest about their noise."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.features import CorrelatedFeatures, SparseFeatures, SparseGaussian, SparseSign, SparseUniform
from polysem.measure import response_capacity
from polysem.training import FitConfig, FitStatus, fit
from polysem.training._problem import SampledProblem
from polysem.zoo import HiddenLayerModel, QuadraticModel, TiedAutoencoder, ToyModel, expected_loss


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def problem(
    model: ToyModel, features: SparseFeatures, v: list[float], *, stratified: bool, batch_size: int, seed: int = 0
) -> SampledProblem:
    config = FitConfig(loss="sampled", stratified=stratified, batch_size=batch_size)
    importance = torch.tensor([v] * model.n_inst, dtype=torch.float64)
    return SampledProblem(model, features, importance, None, config, seeded(seed))


def mean_over_batches(sampled: SampledProblem, theta: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means of loss and gradient over batches, and their standard errors."""
    losses, gradients = [], []
    for _ in range(n):
        sampled.renew()
        losses.append(sampled.loss(theta))
        gradients.append(sampled.gradient(theta))
    loss, gradient = torch.stack(losses), torch.stack(gradients)
    return loss.mean(0), loss.std(0) / n**0.5, gradient.mean(0), gradient.std(0) / n**0.5


@pytest.mark.parametrize("stratified", [False, True])
def test_loss_and_gradient_are_unbiased_by_enumeration(stratified: bool) -> None:
    p, v = [0.5, 0.1, 0.3], [1.0, 0.7, 0.4]
    model = TiedAutoencoder(3, 2, n_inst=2, activation="tanh", generator=seeded(0))
    sampled = problem(model, SparseSign(p), v, stratified=stratified, batch_size=4)
    theta = sampled.pack(model.state_dict())
    loss, loss_error, gradient, gradient_error = mean_over_batches(sampled, theta, 400)

    truth = torch.zeros(2, dtype=torch.float64)
    for outcome in itertools.product((0, 1, -1), repeat=3):
        chance = math.prod(1 - q if not s else q / 2 for q, s in zip(p, outcome, strict=True))
        x = torch.tensor(outcome, dtype=torch.float64)
        truth = truth + chance * model.per_sample_loss(x.expand(1, 2, 3), v)[0]
    slopes = torch.cat([g.flatten(1) for g in torch.autograd.grad(truth.sum(), [model.W, model.b])], -1)
    assert ((loss - truth).abs() < 4.5 * loss_error).all()
    assert ((gradient - slopes).abs() < 4.5 * gradient_error).all()


@pytest.mark.parametrize("stratified", [False, True])
def test_each_instance_has_features_of_its_own(stratified: bool) -> None:
    features = SparseGaussian([[0.1, 0.4, 0.2], [1.0, 0.3, 0.05]], standardise=True)
    v = [1.0, 0.7, 0.4]
    model = QuadraticModel(3, 2, n_inst=2, generator=seeded(1))
    sampled = problem(model, features, v, stratified=stratified, batch_size=256)
    theta = sampled.pack(model.state_dict())
    loss, loss_error, gradient, gradient_error = mean_over_batches(sampled, theta, 200)
    truth = model.exact_loss(features, v)
    slopes = torch.cat([g.reshape(2, -1) for g in torch.autograd.grad(truth.sum(), [model.W, model.b])], -1)
    assert ((loss - truth).abs() < 4.5 * loss_error).all()
    assert ((gradient - slopes).abs() < 4.5 * gradient_error).all()


def test_strata_reduce_the_noise_of_gradients() -> None:
    features, v = SparseUniform([0.05] * 20), [0.9**i for i in range(20)]
    start = TiedAutoencoder(20, 5, generator=seeded(2))
    config = FitConfig(loss="sampled", stratified=True, adam_steps=200, batch_size=256)
    model = fit(start, features, v, config, generator=seeded(3)).model
    variances = []
    for stratified in (False, True):
        sampled = problem(model, features, v, stratified=stratified, batch_size=512)
        theta = sampled.pack(model.state_dict())
        variances.append(float(mean_over_batches(sampled, theta, 60)[3].square().sum()))
    assert variances[0] > 2 * variances[1]


@pytest.mark.parametrize("stratified", [False, True])
def test_comes_near_the_exact_optimum_and_says_so(stratified: bool) -> None:
    features, v = SparseUniform([0.2] * 6, signed=True, standardise=True), [0.9**i for i in range(6)]
    model = QuadraticModel(6, 2, n_inst=4, generator=seeded(4))
    optimum = fit(model, features, v).loss.min()
    config = FitConfig(loss="sampled", stratified=stratified, adam_steps=400)
    done = fit(model, features, v, config, generator=seeded(5))
    exact = done.model.exact_loss(features, v).detach()
    assert (exact >= optimum).all()
    assert (exact < 1.02 * optimum).all()
    assert ((done.loss - exact).abs() < 5 * done.stderr).all()
    assert (done.stderr < 0.05 * exact).all()
    assert (done.status == FitStatus.WITHIN_NOISE).sum() >= 3
    assert (done.n_steps == 400).all()
    assert done.history.shape == (42, 4)
    assert_close(done.history[-1], done.loss, rtol=0, atol=0)


def test_far_from_a_minimum_is_not_within_noise() -> None:
    features, v = SparseUniform([0.2] * 6, signed=True, standardise=True), [0.9**i for i in range(6)]
    model = QuadraticModel(6, 2, n_inst=4, generator=seeded(4))
    for config in (
        FitConfig(loss="sampled", adam_steps=5),
        FitConfig(loss="sampled", adam_steps=200, schedule="constant", learning_rate=0.1, stratified=True),
    ):
        done = fit(model, features, v, config, generator=seeded(5))
        assert (done.status == FitStatus.NOT_CONVERGED).all()


def test_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    features, v = SparseUniform([0.2] * 4), [1.0, 0.8, 0.6, 0.4]
    model = TiedAutoencoder(4, 2, n_inst=3, generator=seeded(6))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = FitConfig(loss="sampled", adam_steps=20, stratified=True, record_capacities=True)
    first, again, other = (fit(model, features, v, config, generator=seeded(seed)) for seed in (1, 1, 2))
    for name, value in model.state_dict().items():
        assert_close(value, before[name], rtol=0, atol=0)
    assert_close(first.model.W, again.model.W, rtol=0, atol=0)
    assert_close(first.history, again.history, rtol=0, atol=0)
    assert (first.model.W - other.model.W).abs().max() > 1e-6
    assert first.capacities is not None
    assert first.capacities.shape == (4, 3, 4)
    assert_close(first.capacities[0], response_capacity(model.W, model.W).detach())
    assert_close(first.capacities[-1], response_capacity(first.model.W, first.model.W).detach())


def test_single_precision_correlated_features_and_fixed_parameters() -> None:
    features = CorrelatedFeatures(SparseUniform([0.2] * 4), [[0, 1]], correlation=0.5)
    model = TiedAutoencoder(4, 2, n_inst=3, activation="gelu", generator=seeded(7), dtype=torch.float32)
    model.b.requires_grad_(False)
    config = FitConfig(loss="sampled", adam_steps=50)
    done = fit(model, features, [1.0] * 4, config, generator=seeded(8))
    assert done.model.W.dtype == torch.float32
    assert_close(done.model.b, model.b, rtol=0, atol=0)
    assert (done.history[-1] < done.history[0]).all()
    check = expected_loss(done.model, features, [1.0] * 4, method="sampled", n_samples=50_000, generator=seeded(9))
    assert ((check.value - done.loss).abs() < 5 * (check.stderr + done.stderr)).all()


def test_compile_passes_the_loss_through_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function: compiled.append(function) or function)
    features, model = SparseUniform([0.2] * 3), TiedAutoencoder(3, 2, generator=seeded(10))
    plain, passed = (
        fit(model, features, [1.0] * 3, FitConfig(loss="sampled", adam_steps=3, compile=flag), generator=seeded(11))
        for flag in (False, True)
    )
    assert len(compiled) == 1
    assert_close(passed.model.W, plain.model.W, rtol=0, atol=0)


@pytest.mark.bad_input  # run-time shape checks would be in the graph
@pytest.mark.parametrize("family", [QuadraticModel, TiedAutoencoder, HiddenLayerModel])
def test_a_compiled_loss_is_one_graph(family: type[ToyModel], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    # This backend traces losses and gradients, and needs no C++ compiler.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, fullgraph=True, backend="aot_eager"))
    features, model = SparseUniform([0.2] * 3), family(3, 2, n_inst=2, generator=seeded(12))
    plain, passed = (
        fit(model, features, [1.0] * 3, FitConfig(loss="sampled", adam_steps=3, compile=flag), generator=seeded(13))
        for flag in (False, True)
    )
    assert_close(passed.loss, plain.loss, rtol=1e-12, atol=0)
    assert_close(passed.model.embedding, plain.model.embedding, rtol=1e-12, atol=1e-12)


@pytest.mark.bad_input
def test_bad_arguments_are_refused() -> None:
    features, model = SparseSign([0.5, 0.5], standardise=True), QuadraticModel(2, 1, generator=seeded(0))
    sampled = FitConfig(loss="sampled", adam_steps=1)
    with pytest.raises(ValueError, match='generator must be given where loss="sampled", got None'):
        fit(model, features, [1.0, 1.0], sampled)
    with pytest.raises(ValueError, match='generator must be left out unless loss="sampled"'):
        fit(model, features, [1.0, 1.0], generator=seeded(0))
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator, got int"):
        fit(model, features, [1.0, 1.0], sampled, generator=3)
    with pytest.raises(ValueError, match="the shape of features must be"):
        fit(model, SparseSign([0.5] * 3), [1.0, 1.0], sampled, generator=seeded(0))
    together, config = (
        CorrelatedFeatures(features, [[0, 1]], correlation=0.5),
        FitConfig(loss="sampled", stratified=True),
    )
    with pytest.raises(ValueError, match="features must be independent for stratified samples"):
        fit(model, together, [1.0, 1.0], config, generator=seeded(0))
    with pytest.raises(ValueError, match="model must have a parameter that requires gradients"):
        fit(model.requires_grad_(False), features, [1.0, 1.0], sampled, generator=seeded(0))
