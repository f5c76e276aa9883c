"""Three ways to polysemanticity without diminishing returns: against enumeration, closed forms and other solvers."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.testing import assert_close

from polysem import theory
from polysem.features import SparseSign, SparseUniform
from polysem.measure import capacity
from polysem.returns import lifted
from polysem.studies import Basins, DependentPair, WithoutDiminishing, WithoutDiminishingConfig, without_diminishing
from polysem.zoo import QuadraticModel, TiedAutoencoder

CONFIG = WithoutDiminishingConfig(
    tie_starts=200, pair_starts=4, pair_steps=200, batch_size=128, n_kurtosis=5, n_ratio=5, starts=24
)


@pytest.fixture(scope="module")
def result() -> WithoutDiminishing:
    return without_diminishing(CONFIG)


def test_at_a_tie_starts_keep_the_span_they_were_drawn_with(result: WithoutDiminishing) -> None:
    for tie in result.ties:
        n, d = tie.n_features, tie.d_hidden
        start = QuadraticModel(n, d, n_inst=200, generator=torch.Generator().manual_seed(0)).W.detach()
        share = [float((W @ torch.linalg.pinv(W))[0, 0]) for W in start]
        assert_close(tie.capacity, torch.tensor(sorted(share), dtype=torch.float64), rtol=0, atol=1e-9)
        assert tie.moved < 1e-9
        assert_close(tie.loss, torch.ones(200, dtype=torch.float64), rtol=0, atol=1e-9)
        law = stats.beta(d / 2, (n - d) / 2)
        assert_close(tie.expected.numpy(), law.cdf(tie.capacity.numpy()), rtol=0, atol=1e-9)
        assert tie.distance == pytest.approx(stats.kstest(tie.capacity.numpy(), law.cdf).statistic, abs=1e-9)
        assert tie.distance < 1.63 / math.sqrt(200)
        assert 0.6 < tie.impure < 0.95


def outcomes(rho: float, p: float, nodes: list[tuple[float, float]]) -> tuple[Tensor, Tensor]:
    """Every outcome of a pair with correlated activities, and its probability; nodes of the slab with weights."""
    both = p * p + rho * p * (1 - p)
    chance = {(1, 1): both, (1, 0): p - both, (0, 1): p - both, (0, 0): 1 - 2 * p + both}
    x, weight = [], []
    for (s1, s2), at in chance.items():
        for (z1, w1), (z2, w2) in product(nodes if s1 else [(0.0, 1.0)], nodes if s2 else [(0.0, 1.0)]):
            x.append([z1, z2])
            weight.append(at * w1 * w2)
    return torch.tensor(x, dtype=torch.float64), torch.tensor(weight, dtype=torch.float64)


def linear_outcomes(rho: float) -> tuple[Tensor, Tensor]:
    at, weight = np.polynomial.legendre.leggauss(3)
    return outcomes(rho, 0.5, [((1 + z) / 2, w / 2) for z, w in zip(at.tolist(), weight.tolist(), strict=True)])


def quadratic_outcomes(rho: float) -> tuple[Tensor, Tensor]:
    return outcomes(rho, 0.4, [(math.sqrt(2.5), 0.5), (-math.sqrt(2.5), 0.5)])


def linear_loss(W: Tensor, x: Tensor, weight: Tensor) -> float:
    """At the best biases."""
    error = x @ W @ W.mT - x
    error = error - weight @ error
    return float(weight @ (error.square() @ torch.tensor([1.0, 0.8], dtype=torch.float64)))


def quadratic_loss(W: Tensor, x: Tensor, weight: Tensor) -> float:
    """At the best offset."""
    error = x.square() @ torch.tensor([1.0, 0.9], dtype=torch.float64) - (x @ W).square().sum(-1)
    return float(weight @ (error - weight @ error).square())


@pytest.mark.parametrize("kind", ["linear", "quadratic"])
def test_pairs_against_enumerated_outcomes(kind: str, result: WithoutDiminishing) -> None:
    pair: DependentPair = getattr(result, kind)
    loss, law = (linear_loss, linear_outcomes) if kind == "linear" else (quadratic_loss, quadratic_outcomes)
    for index, rho in enumerate(pair.correlation):
        x, weight = law(rho)
        assert float(weight.sum()) == pytest.approx(1)
        squares = (x - weight @ x).square()
        kurtosis = weight @ squares.square() / (weight @ squares).square()
        assert pair.kurtosis == pytest.approx(float(kurtosis[0]))
        assert pair.kurtosis < 3
        nothing = loss(torch.zeros(2, 1, dtype=torch.float64), x, weight)
        for at in (0, 37, 100, 180, 200):
            C = float(pair.split[at])

            def at_scale(scale: float, C: float = C, x: Tensor = x, weight: Tensor = weight) -> float:
                rows = ([[math.sqrt(C)], [sign * math.sqrt(1 - C)]] for sign in (1, -1))
                return min(loss(scale * torch.tensor(W, dtype=torch.float64), x, weight) for W in rows)

            found = minimize_scalar(at_scale, bounds=(0, 3), method="bounded", options={"xatol": 1e-9})
            assert float(pair.least[index, at]) == pytest.approx(found.fun / nothing, abs=1e-9)


@pytest.mark.parametrize("kind", ["linear", "quadratic"])
def test_training_finds_the_best_split(kind: str, result: WithoutDiminishing) -> None:
    pair: DependentPair = getattr(result, kind)
    assert -1e-4 < pair.excess < 1e-3
    best = pair.split[pair.least.argmin(-1)]
    assert_close(pair.capacity[:, 0], best, rtol=0, atol=0.03)
    assert_close(pair.capacity.sum(-1), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-6)
    assert float(pair.saved[0]) == 0
    assert (pair.saved[1:] > 0.02).all()
    assert_close(pair.saved, 1 - pair.least.min(1).values / torch.minimum(pair.least[:, 0], pair.least[:, -1]))


def test_independent_pairs_have_the_returns_that_theory_says(result: WithoutDiminishing) -> None:
    line = result.linear.least[0]
    assert_close(line, torch.lerp(line[0], line[-1], result.linear.split))
    split, arch = result.quadratic.split, result.quadratic.least[0]
    some = torch.tensor([20, 60, 100, 170])
    features = SparseSign.from_kurtosis([2.5, 2.5], standardise=True)
    nothing = float(theory.loss([1.0, 0.9], 2.5, 0.0).sum())
    given = torch.stack([split[some], 1 - split[some]], -1)
    reference = lifted(QuadraticModel(2, 1, n_inst=4), features, [1.0, 0.9], given, n_starts=1)
    assert_close(arch[some], reference.loss / nothing, rtol=1e-6, atol=0)
    alone = theory.loss([1.0, 0.9], 2.5, torch.stack([split, 1 - split], -1)).sum(-1) / nothing
    assert_close(arch[[0, -1]], alone[[0, -1]])
    assert (arch >= alone - 1e-12).all()
    assert (arch.diff().diff() < 0).all()
    assert float(result.quadratic.least[-1].min()) < 1e-4  # nothing is lost where features exclude each other


def test_quadratic_models_below_three_have_no_polysemantic_minima(result: WithoutDiminishing) -> None:
    basins = result.rising
    v = torch.tensor([0.9**i for i in range(6)], dtype=torch.float64)
    best = theory.allocate(v, basins.setting[:, None], torch.full_like(basins.setting, 3.0)).loss
    monosemantic = (basins.setting - 1) * (v[3:] ** 2).sum()
    assert_close(basins.loss.amin(-1), best / monosemantic, rtol=1e-9, atol=0)
    assert basins.converged.all()
    below = basins.setting < 3
    assert (basins.monosemantic == below).all()
    assert basins.stuck.sum() == 0
    assert basins.above[below].double().mean() > 0.3
    assert basins.worst == 1


def test_a_tight_frame_of_rising_returns_is_a_saddle() -> None:
    for n, d, F in ((2, 1, 2.0), (3, 2, 2.9), (5, 2, 1.5), (6, 3, 2.5)):
        kurtosis = torch.full((n,), F, dtype=torch.float64)
        C = torch.full((n,), d / n, dtype=torch.float64)
        frame = theory.Allocation(
            capacity=C,
            price=theory.marginal_benefit(1.0, F, d / n),
            loss=theory.loss(1.0, kurtosis, C).sum(),
            status=torch.tensor(0),
            squared_norm=theory.optimal_norm(1.0, kurtosis, C),
        )
        W = theory.embed(frame, d)
        assert_close(capacity(W), C)
        model = QuadraticModel(n, d)
        objective = model.objective(SparseSign.from_kurtosis(kurtosis, standardise=True), [1.0] * n)
        theta = W.flatten()[None]
        assert_close(objective.gradient(theta), torch.zeros_like(theta), rtol=0, atol=1e-9)
        assert float(torch.linalg.eigvalsh(objective.hessian(theta))[0, 0]) < -0.01


def test_relu_autoencoders_have_polysemantic_minima_beside_a_monosemantic_optimum(result: WithoutDiminishing) -> None:
    basins = result.relu
    features = SparseUniform([0.3] * 3)
    model = TiedAutoencoder(3, 2)
    rows = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)
    model.load_state_dict({"W": rows, "b": torch.tensor([[0.0, 0.0, 0.15]])})
    for ratio, losses in zip(basins.setting.tolist(), basins.loss, strict=True):
        pure = model.exact_loss(features, [1.0, 1.0, ratio]).item()
        assert pure == pytest.approx(ratio * float(features.variance[2]))
        assert float(losses.min()) < 1 + 1e-9
    assert basins.monosemantic.tolist() == sorted(basins.monosemantic.tolist(), reverse=True)
    assert basins.stuck.any()
    assert basins.share_stuck > 0
    assert basins.worst > 1.005
    assert basins.converged.double().mean() > 0.95
    assert abs(result.relu_curvature) < 0.02


def test_what_is_counted() -> None:
    loss = torch.tensor([[1.0, 1.5, 1.2, 1.3], [0.9, 1.0, 1.1, 0.9]], dtype=torch.float64)
    impure = torch.tensor([[False, True, False, True], [True, False, True, True]])
    converged = torch.tensor([[True, True, True, False], [True] * 4])
    basins = Basins(torch.tensor([1.0, 2.0], dtype=torch.float64), loss, impure, converged)
    assert basins.monosemantic.tolist() == [True, False]
    assert basins.above.tolist() == [[False, True, True, False], [False] * 4]
    assert basins.stuck.tolist() == [[False, True, False, False], [False] * 4]
    assert (basins.share_above, basins.share_stuck, basins.worst) == (0.5, 0.25, 1.5)
    found = [(ending.setting, ending.loss, ending.impure, ending.share) for ending in basins.endings]
    assert found == [
        (1.0, 1.0, False, 0.25),
        (1.0, 1.2, False, 0.25),
        (1.0, 1.3, True, 0.25),
        (1.0, 1.5, True, 0.25),
        (2.0, 0.9, True, 0.5),
        (2.0, 1.0, False, 0.25),
        (2.0, 1.1, True, 0.25),
    ]


def test_one_seed_gives_one_result() -> None:
    small = replace(CONFIG, tie_starts=3, pair_starts=1, pair_steps=5, n_kurtosis=2, n_ratio=2, starts=1)
    first, again, other = (without_diminishing(replace(small, seed=seed)) for seed in (0, 0, 1))
    for one, two, equal in ((first, again, True), (first, other, False)):
        assert torch.equal(one.ties[0].capacity, two.ties[0].capacity) == equal
        assert torch.equal(one.linear.loss, two.linear.loss) == equal
        assert torch.equal(one.quadratic.loss, two.quadratic.loss) == equal
