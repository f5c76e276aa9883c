"""The equal-returns test: where it must pass, where it must fail, and how sure it may be."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem import theory
from polysem.features import SparseGaussian, SparseSign, geometric
from polysem.measure import FeatureClass
from polysem.returns import Curves, EqualReturns, Prices, Verdict, curve, equal_returns, prices
from polysem.training import fit
from polysem.zoo import QuadraticModel, UntiedAutoencoder, expected_loss

N, D, F, SEEDS = 7, 3, 12.0, 100
V = geometric(N, 0.85)
FEATURES = SparseSign.from_kurtosis([F] * N, standardise=True)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def start() -> QuadraticModel:
    return QuadraticModel(N, D, n_inst=SEEDS, generator=seeded(0))


@pytest.fixture(scope="module")
def curves(start: QuadraticModel) -> Curves:
    return curve(start, FEATURES, V)


@pytest.fixture(scope="module")
def optimum(start: QuadraticModel) -> QuadraticModel:
    model = fit(start, FEATURES, V).model
    best = theory.allocate(V, F, D).loss
    assert_close(model.exact_loss(FEATURES, V), best.expand(SEEDS), rtol=1e-9, atol=0)
    return model


def judged(model: QuadraticModel, curves: Curves) -> EqualReturns:
    return equal_returns(prices(model, FEATURES, V), curves)


def with_rows(W: Tensor) -> QuadraticModel:
    model = QuadraticModel(N, D, n_inst=SEEDS)
    model.load_state_dict({"W": W, "b": torch.zeros(SEEDS)})
    return model


def test_optima_are_never_refuted(optimum: QuadraticModel, curves: Curves) -> None:
    found = judged(optimum, curves)
    assert (found.verdict == Verdict.EQUAL).all()
    assert found.says == "100 equal"
    best = theory.allocate(V, F, D)
    impure = found.feature_class[0] == FeatureClass.IMPURE
    assert impure.sum() == N
    assert_close(found.benefit, best.price.expand(SEEDS, N), rtol=1e-6, atol=0)
    assert found.curves is not None
    assert found.p_value is not None
    for one in (found.prices, found.curves):
        assert_close(one.mean, best.price.expand(SEEDS), rtol=1e-6, atol=0)
        assert one.value.max() < 1e-8
    assert (found.p_value == 1 / 201).all()  # no random dealing comes near


def test_random_networks_are_always_refuted(start: QuadraticModel, curves: Curves) -> None:
    found = judged(start, curves)
    assert (found.verdict == Verdict.UNEQUAL).all()
    assert found.p_value is not None
    assert 0.3 < found.p_value.mean() < 0.7


def test_training_stopped_a_tenth_above_the_optimum_is_refuted(start: QuadraticModel, curves: Curves) -> None:
    goal = 1.1 * theory.allocate(V, F, D).loss
    model = copy.deepcopy(start)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    stopped, W = torch.zeros(SEEDS, dtype=torch.bool), model.W.detach().clone()
    while not stopped.all():
        loss = model.exact_loss(FEATURES, V)
        reached = (loss.detach() <= goal) & ~stopped
        W[reached] = model.W.detach()[reached]
        stopped |= reached
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
    found = judged(with_rows(W), curves)
    assert (found.verdict == Verdict.UNEQUAL).all()
    assert found.curves is not None
    assert (found.curves.low > 0.05).all()


def test_rows_dealt_to_the_wrong_features_keep_their_prices_and_are_refuted(
    optimum: QuadraticModel, curves: Curves
) -> None:
    g = seeded(1)
    order = torch.stack([torch.randperm(N, generator=g) for _ in range(SEEDS)])
    W = optimum.W.detach().gather(1, order[..., None].expand(-1, -1, D))
    found = judged(with_rows(W), curves)
    assert found.prices.value.max() < 1e-8
    assert found.curves is not None
    assert (found.curves.value > 0.2).all()
    assert (found.verdict == Verdict.UNEQUAL).all()
    entries = torch.stack([row[torch.randperm(N * D, generator=g)] for row in optimum.W.detach().flatten(1)])
    assert (judged(with_rows(entries.view_as(W)), curves).verdict == Verdict.UNEQUAL).all()


def test_samples_leave_doubt_but_refute_no_optimum(optimum: QuadraticModel, curves: Curves) -> None:
    x = FEATURES.sample(20_000, generator=seeded(2))
    found = equal_returns(prices(optimum, x, V), curves)
    few = equal_returns(prices(optimum, x[:1_000], V), curves)
    assert (found.verdict != Verdict.UNEQUAL).double().mean() >= 0.95
    assert (few.verdict == Verdict.UNDECIDED).double().mean() >= 0.9
    assert (found.prices.high < few.prices.high).double().mean() > 0.95
    assert found.prices.high.max() < 0.3


def test_pure_and_ignored_features_are_held_against_their_curves() -> None:
    v = torch.tensor([3.0, 1.0, 0.9, 0.02], dtype=torch.float64)
    features = SparseSign.from_kurtosis([6.0] * 4, standardise=True)
    best = theory.allocate(v, 6.0, 2)
    model = QuadraticModel(4, 2)
    model.load_state_dict({"W": theory.embed(best, 2)[None], "b": torch.zeros(1)})
    ends = curve(model, features, v)
    found = equal_returns(prices(model, features, v), ends)
    assert found.feature_class[0].tolist() == [FeatureClass.PURE, FeatureClass.IMPURE, FeatureClass.IMPURE, 0]
    assert (found.violation == 0).all()
    assert found.verdict.tolist() == [Verdict.EQUAL]
    assert_close(found.benefit[0, 0], theory.marginal_benefit(v, 6.0, [1.0] * 4)[0], rtol=1e-9, atol=0)
    assert_close(found.benefit[0, 3], theory.marginal_benefit(v, 6.0, [0.0] * 4)[3], rtol=1e-9, atol=0)
    assert found.says == (
        "equal: prices of 2 impure features scatter by 0%, slopes of their curves by 0%, 0 violations at the ends"
    )

    model.load_state_dict({"W": theory.embed(best, 2)[None][:, [1, 0, 2, 3]][:, [3, 1, 2, 0]], "b": torch.zeros(1)})
    wrong = equal_returns(prices(model, features, v), ends)
    assert wrong.verdict.tolist() == [Verdict.UNEQUAL]
    assert int((wrong.violation > 0).sum()) >= 1


def test_violations_by_hand() -> None:
    """Two features, one pure, one ignored: any price between their benefits will do, if there is one."""
    v = [1.0, 0.1]
    features = SparseSign.from_kurtosis([4.0, 4.0], standardise=True)
    model = QuadraticModel(2, 1)
    for rows, expected in (([1.0, 0.0], [0.0, 0.0]), ([0.0, 0.1], None)):
        model.load_state_dict({"W": torch.tensor(rows)[None, :, None], "b": torch.zeros(1)})
        found = equal_returns(prices(model, features, v), curve(model, features, v))
        b0 = theory.marginal_benefit(v, 4.0, [0.0, 0.0])
        b1 = theory.marginal_benefit(v, 4.0, [1.0, 1.0])
        if expected is None:  # the feature that should be pure is ignored, and the other way round
            middle = (b0[0] + b1[1]) / 2
            expected = [float((b0[0] - middle) / middle), float((middle - b1[1]) / middle)]
        assert_close(found.violation[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)
        assert found.verdict.tolist() == [Verdict.UNEQUAL if max(expected) else Verdict.EQUAL]


def made(price: list[float], stderr: list[float], capacity: list[float], kind: list[int]) -> Prices:
    values = (torch.tensor([row], dtype=torch.float64) for row in (price, stderr, capacity))
    return Prices(*values, feature_class=torch.tensor([kind]))


@pytest.mark.parametrize("kind", [[1, 1, 0], [0, 0, 0]])
def test_a_dead_network_decides_nothing(kind: list[int]) -> None:
    found = equal_returns(made([0.0] * 3, [0.0] * 3, [0.5, 0.5, 0.0], kind))
    assert found.verdict == Verdict.UNDECIDED


def test_pure_features_alone_are_at_an_optimum() -> None:
    assert equal_returns(made([0.0] * 2, [0.0] * 2, [1.0, 1.0], [2, 2])).verdict == Verdict.EQUAL


def test_dispersion_by_hand() -> None:
    found = equal_returns(made([-1.0, -2.0, -3.0, 0.0], [0.1, 0.2, 0.3, 0.0], [0.3, 0.4, 0.5, 0.0], [1, 1, 1, 0]))
    square = 1.0 - (0.01 + 0.04 + 0.09) / 3
    assert_close(float(found.prices.mean), 2.0)
    assert_close(float(found.prices.value), math.sqrt(square / (square + 4)))
    assert found.curves is None
    assert found.null is None
    assert found.p_value is None
    assert found.verdict.tolist() == [Verdict.UNEQUAL]
    alone = equal_returns(made([-1.0, 0.0], [0.1, 0.0], [0.5, 0.0], [1, 0]))
    assert (float(alone.prices.mean), float(alone.prices.value), alone.verdict.tolist()) == (1.0, 0.0, [Verdict.EQUAL])
    none = equal_returns(made([0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0, 2]))
    assert (float(none.prices.mean), none.verdict.tolist()) == (0.0, [Verdict.EQUAL])


def test_intervals_cover_the_dispersion() -> None:
    """Of 400 measurements with known errors about 95 % hold the truth."""
    truth = torch.tensor([1.0, 1.3, 0.8, 1.1, 0.9, 1.2, 1.0, 0.7], dtype=torch.float64)
    sigma = torch.linspace(0.05, 0.25, 8, dtype=torch.float64)
    drawn = truth + sigma * torch.randn(400, 8, generator=seeded(3), dtype=torch.float64)
    several = Prices(-drawn, sigma.expand(400, 8), torch.full((400, 8), 0.5), torch.ones(400, 8, dtype=torch.int64))
    found = equal_returns(several).prices
    true = float(truth.var() / (truth.var() + truth.mean().square())) ** 0.5
    covered = ((found.low <= true) & (true <= found.high)).double().mean()
    assert 0.9 < covered < 0.995
    assert abs(float(found.value.square().mean().sqrt()) / true - 1) < 0.05


def test_several_measurements_of_curves_give_errors() -> None:
    p, g = [0.3] * 4, seeded(4)
    features = SparseGaussian(p)
    model = UntiedAutoencoder(4, 2, generator=g)
    measured = [curve(model, features, [1.0] * 4, seed=seed, n_samples=256) for seed in range(4)]
    found = equal_returns(prices(model, features, [1.0] * 4), measured)
    apart = [equal_returns(prices(model, features, [1.0] * 4), one).curves for one in measured]
    assert found.curves is not None
    means = torch.stack([one.mean for one in apart if one is not None])
    assert_close(found.curves.mean, means.mean(0))
    assert (found.curves.high > found.curves.low).all()


def test_exact_prices_are_what_samples_tend_to() -> None:
    g = seeded(5)
    features, importance = SparseGaussian([0.2] * 5), [1.0, 0.9, 0.8, 0.7, 0.6]
    model = UntiedAutoencoder(5, 2, n_inst=3, generator=g)
    with torch.no_grad():
        model.b.normal_(std=0.2, generator=g)
    exact, sampled = (prices(model, batch, importance) for batch in (features, features.sample(200_000, generator=g)))
    assert_close(exact.capacity, sampled.capacity)
    assert (exact.stderr == 0).all()
    measured = sampled.stderr > 0
    assert measured.sum() > 8
    z = ((sampled.price - exact.price) / torch.where(measured, sampled.stderr, 1.0))[measured]
    assert z.abs().max() < 4
    assert 0.4 < z.square().mean().sqrt() < 1.6


def test_exact_prices_equal_finite_differences_of_the_exact_loss() -> None:
    features, importance = SparseGaussian([0.4] * 4), [1.0, 0.5, 0.8, 0.7]
    model = UntiedAutoencoder(4, 2, generator=seeded(6))
    found = prices(model, features, importance)
    free = UntiedAutoencoder(4, 4)
    R = model.response().detach()
    for i in range(4):
        losses = []
        for s in (1e-4, -1e-4):
            moved = R.clone()
            moved[0, i] *= math.sqrt(1 - s)
            moved[0, i, i] = R[0, i, i]
            free.load_state_dict({"W": torch.eye(4)[None], "V": moved, "b": model.b.detach()})
            losses.append(float(expected_loss(free, features, importance).value))
        C = float(found.capacity[0, i])
        if found.feature_class[0, i] == FeatureClass.IMPURE:
            slope = (losses[0] - losses[1]) / 2e-4 / (C * (1 - C))
            assert_close(float(found.price[0, i]), slope, rtol=1e-6, atol=1e-9)
    assert (found.feature_class == FeatureClass.IMPURE).sum() >= 2


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tolerance": 0.0}, "tolerance must be in"),
        ({"n_permutations": 0}, "n_permutations must be"),
        ({"curves": []}, "curves must be at least one"),
        ({"C": [0.1, 0.5, 1.0]}, "ends of curves must be 0 and 1"),
        ({"others": 3}, "shape of curves must be that of the prices"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    C, others = change.pop("C", None), change.pop("others", N)
    model = QuadraticModel(others, D)
    features = SparseSign.from_kurtosis([F] * others, standardise=True)
    measured = curve(model, features, [1.0] * others, C=C)
    found = prices(QuadraticModel(N, D, generator=seeded(0)), FEATURES, V)
    with pytest.raises(ValueError, match=message):
        equal_returns(found, change.pop("curves", measured), **change)


@pytest.mark.bad_input
def test_features_without_an_exact_loss() -> None:
    with pytest.raises(ValueError, match="exact loss"):
        prices(UntiedAutoencoder(4, 2, activation="gelu"), SparseGaussian([0.1] * 4), [1.0] * 4)
    with pytest.raises(TypeError, match="batch must be samples where the model is no toy model, got SparseGaussian"):
        prices(torch.nn.Identity(), SparseGaussian([0.1] * 4), lambda z, x: z)
