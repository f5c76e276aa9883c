"""Trained stacks against the optimal allocation, computed here on its own."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from polysem.features import SparseGaussian, SparseSign, SparseUniform
from polysem.training import Fit, FitConfig, FitStatus, fit
from polysem.training._adam import rate
from polysem.zoo import QuadraticModel, expected_loss
from reference import capacity as capacity_by_hand


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def losses_at(v: list[float], kurtosis: list[float], capacity: list[float]) -> float:
    return sum(2 * (f - 1) * a**2 * (1 - c) / (2 + (f - 3) * c) for a, f, c in zip(v, kurtosis, capacity, strict=True))


def optimum_of_diminishing_returns(v: list[float], kurtosis: list[float], d: int) -> float:
    """Least total loss for F > 3: bisection for the price at which capacities add up to the budget."""

    def capacity(price: float) -> list[float]:
        wanted = [(a * (f - 1) * math.sqrt(2 / price) - 2) / (f - 3) for a, f in zip(v, kurtosis, strict=True)]
        return [min(max(c, 0.0), 1.0) for c in wanted]

    low, high = -100.0, math.log(max(a**2 * (f - 1) ** 2 for a, f in zip(v, kurtosis, strict=True)))
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(capacity(math.exp(middle))) > d else (low, middle)
    return losses_at(v, kurtosis, capacity(math.exp(low)))


def restarts(
    v: list[float], kurtosis: list[float], d: int, *, n_inst: int, seed: int, config: FitConfig | None = None
) -> Fit:
    model = QuadraticModel(len(v), d, n_inst=n_inst, generator=seeded(seed))
    return fit(model, SparseSign.from_kurtosis(kurtosis, standardise=True), v, config or FitConfig())


def assert_stationary(done: Fit, v: list[float], kurtosis: list[float]) -> None:
    """`M W_i = [a_i + (F_i - 1)(v_i - a_i)/2] W_i` at every converged instance."""
    W = done.model.embedding.detach()
    a = W.square().sum(-1)
    factor = a + (double(kurtosis) - 1) * (double(v) - a) / 2
    assert_close(W @ (W.mT @ W), factor[..., None] * W, rtol=0, atol=1e-7)


def test_twenty_features_in_five_dimensions_reach_the_optimum() -> None:
    v, kurtosis = [0.9**i for i in range(20)], [20.0] * 20
    done = restarts(v, kurtosis, 5, n_inst=8, seed=0)
    expected = optimum_of_diminishing_returns(v, kurtosis, 5)
    assert_close(done.loss, torch.full((8,), expected, dtype=torch.float64), rtol=1e-9, atol=0)
    assert (done.status == FitStatus.CONVERGED).all()
    assert (done.gradient_norm <= 1e-10).all()
    assert done.share_at_best() == 1.0
    assert_stationary(done, v, kurtosis)


@settings(deadline=None, max_examples=12)
@given(n=st.integers(2, 9), seed=st.integers(0, 2**32), data=st.data())
def test_diminishing_returns_reach_the_optimum(n: int, seed: int, data: st.DataObject) -> None:
    d = data.draw(st.integers(1, n - 1))
    g = seeded(seed)
    v = (0.05 + torch.rand(n, generator=g, dtype=torch.float64)).tolist()
    kurtosis = (3.1 + 90 * torch.rand(n, generator=g, dtype=torch.float64)).tolist()
    done = restarts(v, kurtosis, d, n_inst=8, seed=seed)
    expected = optimum_of_diminishing_returns(v, kurtosis, d)
    assert_close(done.loss.min().item(), expected, rtol=1e-7, atol=0)
    assert_stationary(done, v, kurtosis)


@pytest.mark.parametrize("seed", range(3))
def test_increasing_returns_choose_the_best_features(seed: int) -> None:
    g = seeded(seed)
    v = (0.2 + torch.rand(6, generator=g, dtype=torch.float64)).tolist()
    kurtosis = (1.2 + 1.6 * torch.rand(6, generator=g, dtype=torch.float64)).tolist()
    done = restarts(v, kurtosis, 2, n_inst=32, seed=seed)
    cost = sorted((f - 1) * a**2 for a, f in zip(v, kurtosis, strict=True))
    assert_close(done.loss.min().item(), sum(cost[:-2]), rtol=1e-7, atol=0)
    assert 0 < done.share_at_best() <= 1


def test_wrong_winner_is_a_minimum_and_is_reported() -> None:
    done = restarts([1.0, 0.9], [2.0, 2.0], 1, n_inst=32, seed=1)
    assert (done.status == FitStatus.CONVERGED).all()
    won = (done.loss - 0.81).abs() < 1e-8
    lost = (done.loss - 1.0).abs() < 1e-8
    assert (won ^ lost).all()
    assert won.any()
    assert lost.any()
    assert_close(done.share_at_best(), won.double().mean().item())
    assert won[done.best]


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e6])
def test_scale_of_importance_does_not_matter(scale: float) -> None:
    v, kurtosis = [1.0, 0.8, 0.6, 0.1], [20.0, 8.0, 5.0, 50.0]
    done = restarts([scale * a for a in v], kurtosis, 2, n_inst=8, seed=2)
    expected = optimum_of_diminishing_returns(v, kurtosis, 2)
    assert_close(done.loss.min().item() / scale**2, expected, rtol=1e-8, atol=0)
    assert (done.status == FitStatus.CONVERGED).all()


@pytest.mark.parametrize(
    ("v", "kurtosis", "d", "expected"),
    [
        ([0.0, 0.0, 0.0], [5.0] * 3, 1, 0.0),  # nothing to do
        ([1.0, 0.0], [5.0] * 2, 2, 0.0),  # a minimum of quartic order
        ([1.0, 0.5], [5.0] * 2, 4, 0.0),  # more dimensions than features
        ([1.0, 1.0, 1.0], [3.0] * 3, 1, 4.0),  # constant returns: every allocation is optimal
        ([1.0, 2 / 19], [20.0] * 2, 1, 19 * (2 / 19) ** 2),  # on the phase boundary
        ([1.0, 0.5], [1.0] * 2, 1, 0.0),  # squares that do not vary
        ([2.0], [5.0], 1, 0.0),
    ],
)
def test_degenerate_problems(v: list[float], kurtosis: list[float], d: int, expected: float) -> None:
    done = restarts(v, kurtosis, d, n_inst=6, seed=3)
    assert (done.status == FitStatus.CONVERGED).all()
    assert_close(done.loss, torch.full((6,), expected, dtype=torch.float64), rtol=1e-9, atol=1e-13)
    assert done.share_at_best() == 1.0


def test_every_instance_can_be_a_problem_of_its_own() -> None:
    g = seeded(4)
    v = 0.1 + torch.rand(50, 3, generator=g, dtype=torch.float64)
    kurtosis = 3.1 + 50 * torch.rand(50, 3, generator=g, dtype=torch.float64)
    model = QuadraticModel(3, 2, n_inst=50, generator=g)
    done = fit(model, SparseGaussian.from_kurtosis(kurtosis, standardise=True), v)
    expected = [optimum_of_diminishing_returns(a, f, 2) for a, f in zip(v.tolist(), kurtosis.tolist(), strict=True)]
    assert_close(done.loss, double(expected), rtol=1e-8, atol=0)


def test_offset_is_at_its_best_and_loss_is_the_models() -> None:
    features = SparseUniform([0.05, 0.1, 0.3], standardise=True)
    done = fit(QuadraticModel(3, 1, n_inst=4, generator=seeded(5)), features, [1.0, 0.7, 0.6])
    assert_close(expected_loss(done.model, features, [1.0, 0.7, 0.6]).value, done.loss, rtol=1e-12, atol=0)


def test_same_seed_gives_the_same_bits_and_the_given_model_is_untouched() -> None:
    features = SparseGaussian([0.1] * 6, standardise=True)
    v = [0.8**i for i in range(6)]
    model = QuadraticModel(6, 2, n_inst=5, generator=seeded(6))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = fit(model, features, v)
    for name, value in model.state_dict().items():
        assert_close(value, before[name], rtol=0, atol=0)
    assert (first.model.embedding - model.embedding).abs().max() > 0.01
    again = fit(QuadraticModel(6, 2, n_inst=5, generator=seeded(6)), features, v)
    assert_close(again.model.embedding, first.model.embedding, rtol=0, atol=0)
    assert_close(again.history, first.history, rtol=0, atol=0)


def test_history_has_the_stated_rows() -> None:
    config = FitConfig(adam_steps=25, record_every=10)
    v, kurtosis = [1.0, 0.5, 0.3], [20.0] * 3
    model = QuadraticModel(3, 1, n_inst=4, generator=seeded(7))
    features = SparseSign.from_kurtosis(kurtosis, standardise=True)
    done = fit(model, features, v, config)
    assert done.history.shape == (5, 4)  # steps 0, 10, 20, after Adam, at the end
    objective = model.objective(features, v)
    assert_close(done.history[0], objective.loss(objective.pack(model.state_dict())), rtol=0, atol=0)
    assert_close(done.history[-1], done.loss, rtol=0, atol=0)
    assert (done.history[-1] <= done.history[-2] * (1 + 1e-12)).all()
    assert (done.history[-2] < done.history[0]).all()
    assert (done.n_steps > 25).all()


def test_capacities_are_those_of_the_recorded_parameters() -> None:
    config = FitConfig(adam_steps=20, record_every=10, record_capacities=True)
    model = QuadraticModel(3, 1, n_inst=2, generator=seeded(10))
    features = SparseSign.from_kurtosis([20.0] * 3, standardise=True)
    done = fit(model, features, [1.0, 0.5, 0.3], config)
    assert done.capacities is not None
    assert done.capacities.shape == (4, 2, 3)
    for instance in range(2):
        assert_close(done.capacities[0, instance], capacity_by_hand(model.W[instance].detach()))
        assert_close(done.capacities[-1, instance], capacity_by_hand(done.model.W[instance].detach()))
    assert_close(done.capacities[-1].sum(-1), torch.ones(2, dtype=torch.float64))
    assert_close(fit(model, features, [1.0, 0.5, 0.3], config).loss, done.loss, rtol=0, atol=0)
    assert fit(model, features, [1.0, 0.5, 0.3], FitConfig(adam_steps=1)).capacities is None


def test_schedules() -> None:
    constant = FitConfig(adam_steps=8, warmup_steps=4, schedule="constant", learning_rate=0.2)
    assert_close([rate(step, constant) for step in range(8)], [0.05, 0.1, 0.15, 0.2, 0.2, 0.2, 0.2, 0.2])
    cosine = FitConfig(adam_steps=10, warmup_steps=2, learning_rate=0.2)
    expected = [0.1 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    assert_close([rate(step, cosine) for step in range(10)], [0.1, 0.2, *expected])
    # One step of Adam is as long as its rate, whatever the gradient.
    model = QuadraticModel(3, 1, n_inst=2, generator=seeded(11))
    features = SparseSign.from_kurtosis([20.0] * 3, standardise=True)
    config = FitConfig(adam_steps=1, warmup_steps=1, learning_rate=0.03, polish="none")
    moved = (fit(model, features, [1.0, 0.5, 0.3], config).model.W - model.W).abs()
    assert_close(moved, (0.03 * model.W.abs().amax((-2, -1), keepdim=True)).expand_as(moved))


def test_best_passes_over_nan() -> None:
    loss = double([math.nan, 2.0, 1.0])
    zeros = torch.zeros(3, dtype=torch.int64)
    done = Fit(QuadraticModel(2, 1, n_inst=3), loss, loss, loss, zeros, zeros, torch.ones(1, 3, dtype=torch.float64))
    assert (done.best, done.share_at_best()) == (2, 1 / 3)


def test_adam_alone_is_not_converged() -> None:
    v, kurtosis = [1.0, 0.5, 0.3], [20.0] * 3
    done = restarts(v, kurtosis, 1, n_inst=4, seed=8, config=FitConfig(newton_steps=0))
    assert (done.status == FitStatus.NOT_CONVERGED).all()
    assert (done.n_steps == 300).all()
    expected = optimum_of_diminishing_returns(v, kurtosis, 1)
    assert (done.loss - expected < 0.05 * expected).all()
    assert (done.gradient_norm > 1e-10).all()


def test_single_precision_model_stays_so() -> None:
    model = QuadraticModel(4, 2, n_inst=3, generator=seeded(9), dtype=torch.float32)
    features = SparseSign.from_kurtosis([20.0] * 4, standardise=True)
    done = fit(model, features, [1.0, 0.8, 0.6, 0.4])
    assert done.model.embedding.dtype == torch.float32
    assert (done.status == FitStatus.CONVERGED).all()
    assert_close(done.model.exact_loss(features, [1.0, 0.8, 0.6, 0.4]).detach(), done.loss, rtol=1e-6, atol=0)


def test_share_at_best_counts_within_the_tolerance() -> None:
    loss = double([1.0, 1.0 + 1e-9, 1.1, 2.0])
    done = Fit(
        model=QuadraticModel(2, 1, n_inst=4),
        loss=loss,
        stderr=torch.zeros(4),
        gradient_norm=torch.zeros(4),
        status=torch.zeros(4, dtype=torch.int64),
        n_steps=torch.zeros(4, dtype=torch.int64),
        history=loss[None],
    )
    assert (done.best, done.share_at_best(), done.share_at_best(0.2), done.share_at_best(0.0)) == (
        0,
        0.5,
        0.75,
        0.25,
    )


@pytest.mark.bad_input
def test_bad_arguments_are_refused() -> None:
    model = QuadraticModel(2, 1, n_inst=2, generator=seeded(0))
    features = SparseSign([0.5, 0.5], standardise=True)
    with pytest.raises(ValueError, match="importance must be"):
        fit(model, features, [1.0, -1.0])
    with pytest.raises(ValueError, match="standardise=True"):
        fit(model, SparseSign([0.5, 0.5]), [1.0, 1.0])
    with pytest.raises(ValueError, match="relative_tolerance must be"):
        fit(model, features, [1.0, 1.0], FitConfig(adam_steps=1)).share_at_best(-1.0)
    with torch.no_grad():
        model.W[0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="model must be a stack with finite parameters"):
        fit(model, features, [1.0, 1.0])
