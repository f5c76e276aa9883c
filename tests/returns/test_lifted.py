"""The lifted problem against closed forms, another solver, and finite differences of its own least loss."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.testing import assert_close

from polysem import theory
from polysem.features import SparseSign, SparseUniform
from polysem.measure import response_capacity
from polysem.returns import LiftedStatus, lifted
from polysem.returns import _augmented as module
from polysem.zoo import AutoencoderObjective, HiddenLayerModel, QuadraticModel, TiedAutoencoder, UntiedAutoencoder
from reference import regular_polygon

UNIFORM_F, UNIFORM_V = [20.0] * 6, [0.8**i for i in range(6)]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(value: object) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def quadratic(n: int, d: int = 1, n_inst: int = 1) -> QuadraticModel:
    return QuadraticModel(n, d, n_inst=n_inst, generator=seeded(0))


def signs(kurtosis: object) -> SparseSign:
    return SparseSign.from_kurtosis(kurtosis, standardise=True)


def shared_optima(n_optima: int, n_features: int) -> tuple[Tensor, Tensor, theory.Allocation]:
    """Random problems of 3 to `n_features` features, all between 0.02 and 0.98, and worthless ones to fill up."""
    g, found = seeded(0), []
    while len(found) < n_optima:
        n = int(torch.randint(3, n_features + 1, (1,), generator=g))
        d = float(torch.randint(1, n, (1,), generator=g))
        v, F = torch.zeros(n_features, dtype=torch.float64), torch.full((n_features,), 5.0, dtype=torch.float64)
        v[:n] = 0.3 + torch.rand(n, generator=g, dtype=torch.float64)
        F[:n] = 4 + 30 * torch.rand(n, generator=g, dtype=torch.float64)
        C = theory.allocate(v, F, d).capacity[:n]
        if ((C > 0.02) & (C < 0.98)).all():
            found.append((v, F, d))
    v, F = (torch.stack([problem[k] for problem in found]) for k in (0, 1))
    return v, F, theory.allocate(v, F, [problem[2] for problem in found])


def test_at_optima_multipliers_are_minus_the_price_and_the_loss_is_the_closed_form() -> None:
    v, F, best = shared_optima(50, 6)
    found = lifted(quadratic(6, n_inst=50), signs(F), v, best.capacity, n_starts=1)
    assert found.status.max() <= LiftedStatus.ONE_SIDED
    one_dimension = best.capacity.sum(-1) < 1.5
    assert 5 < one_dimension.sum() < 40
    assert (found.status[one_dimension] == LiftedStatus.ONE_SIDED).all()
    assert_close(found.capacity, best.capacity, rtol=0, atol=1e-8)
    assert_close(found.violation, (found.capacity - best.capacity).abs().amax(-1))
    expected = -best.price[:, None] * (best.capacity > 0)
    assert_close(found.multiplier, expected, rtol=1e-4, atol=0)
    assert_close(found.loss, best.loss, rtol=1e-6, atol=0)
    assert (found.gradient_norm < 1e-8).all()


def test_uniform_capacities_agree_until_interference_cannot_be_had() -> None:
    C = numbers([0.25, 0.45, 0.6, 0.9])
    found = lifted(quadratic(6, n_inst=4), signs(UNIFORM_F), UNIFORM_V, C[:, None].expand(-1, 6), n_starts=2)
    assert found.status.tolist() == [LiftedStatus.CONVERGED] * 4
    alone = theory.loss(UNIFORM_V, 20.0, C[:, None]).sum(-1)
    ratio = -found.multiplier / theory.marginal_benefit(UNIFORM_V, 20.0, C[:, None])
    assert_close(found.loss[1:], alone[1:], rtol=1e-6, atol=0)
    assert_close(ratio[1:], torch.ones_like(ratio[1:]), rtol=1e-4, atol=0)
    assert_close(found.loss[0] / alone[0], numbers(1.08583), rtol=1e-5, atol=0)
    assert_close(ratio[0].aminmax().min.item(), 0.65608, rtol=1e-4, atol=0)
    assert_close(ratio[0].aminmax().max.item(), 1.93246, rtol=1e-4, atol=0)


def test_multipliers_are_slopes_of_the_least_loss_where_no_closed_form_is() -> None:
    step, here = 1e-3, torch.full((13, 6), 0.25, dtype=torch.float64)
    here[1:7] += step * torch.eye(6)
    here[7:] -= step * torch.eye(6)
    found = lifted(quadratic(6, n_inst=13), signs(UNIFORM_F), UNIFORM_V, here, n_starts=1)
    assert_close(found.multiplier[0], (found.loss[1:7] - found.loss[7:]) / (2 * step), rtol=1e-4, atol=0)
    assert (found.multiplier[0] + theory.marginal_benefit(UNIFORM_V, 20.0, 0.25)).abs().min() > 0.5


def test_another_solver_finds_the_same_loss() -> None:
    v, F, c = np.array([1.0, 0.8, 0.5, 0.4]), np.array([20.0, 6.0, 12.0, 2.5]), np.array([0.6, 0.15, 0.2, 0.15])

    def gram(W: np.ndarray) -> np.ndarray:
        return W.reshape(4, 4) @ W.reshape(4, 4).T

    def loss(W: np.ndarray) -> float:
        G = gram(W)
        a = np.diag(G)
        return float(((F - 1) * (v - a) ** 2).sum() + 2 * ((G**2).sum() - (a**2).sum()))

    def misses(W: np.ndarray) -> np.ndarray:
        G = gram(W)
        return np.diag(G) ** 2 / (G**2).sum(-1) - c

    rng = np.random.default_rng(0)
    constraint = {"type": "eq", "fun": misses}
    options = {"maxiter": 500, "ftol": 1e-12}
    ends = [
        minimize(loss, rng.normal(size=16), method="SLSQP", constraints=constraint, options=options) for _ in range(4)
    ]
    least = min(end.fun for end in ends if end.success and np.abs(misses(end.x)).max() < 1e-7)
    found = lifted(quadratic(4), signs(F), v, c, n_starts=4)
    assert_close(found.loss[0].item(), least, rtol=1e-6, atol=0)
    assert least > 1.01 * float(theory.loss(v, F, c).sum())
    assert_close(response_capacity(found.model.embedding, found.model.readout)[0], numbers(c), atol=1e-8, rtol=0)
    assert_close(found.model.exact_loss(signs(F), v), found.loss)
    assert found.share_at_best[0] > 0.2


def relu(rows: Tensor, n_inst: int) -> TiedAutoencoder:
    model = TiedAutoencoder(*rows.shape, n_inst=n_inst)
    model.load_state_dict({"W": rows.expand(n_inst, -1, -1), "b": torch.zeros(n_inst, len(rows))})
    return model


def test_an_antipodal_pair_with_a_relu_within_reach_and_at_its_edge() -> None:
    step = 1e-4
    inside = numbers([0.6, 0.55]) + step * numbers([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    edge = 0.5 + step * numbers([[0, 0], [1, 0], [2, 0]])
    pair = relu(numbers([[1.0], [-1.0]]), 8)
    found = lifted(pair, SparseUniform([0.1, 0.1]), [1.0, 0.7], torch.cat([inside, edge]), n_starts=1)
    assert found.status[[0, 5]].tolist() == [LiftedStatus.CONVERGED, LiftedStatus.ONE_SIDED]
    loss = found.loss
    slopes = torch.stack([loss[1] - loss[2], loss[3] - loss[4]]) / (2 * step)
    assert_close(found.multiplier[0], slopes, rtol=1e-4, atol=0)
    up = (-1.5 * loss[5] + 2 * loss[6] - 0.5 * loss[7]) / step
    assert_close(found.multiplier[5, 0], up, rtol=1e-3, atol=0)


def test_a_triangle_has_a_kink_and_its_multipliers_hold_towards_more_capacity() -> None:
    step = 1e-4
    given = 2 / 3 + step * numbers([0, 1, 2, -1])[:, None].expand(-1, 3)
    features, importance = SparseUniform([0.1] * 3), [1.0] * 3
    found = lifted(relu(regular_polygon(3), 4), features, importance, given, n_starts=1)
    assert found.status.tolist() == [LiftedStatus.ONE_SIDED] + [LiftedStatus.CONVERGED] * 3
    loss = found.loss
    up, down = (-1.5 * loss[0] + 2 * loss[1] - 0.5 * loss[2]) / step, (loss[0] - loss[3]) / step
    assert_close(found.multiplier[0].sum(), up, rtol=1e-3, atol=0)
    assert_close(found.multiplier[0], found.multiplier[0, :1].expand(3), rtol=1e-5, atol=0)
    assert down < 5 * up
    by_chance = lifted(relu(torch.zeros(3, 2), 1), features, importance, given[0], n_starts=1)
    assert by_chance.loss > 1.1 * found.loss[0]  # another local minimum: the model's weights were the better start


def test_ignored_and_pure_features_hold_by_construction() -> None:
    v, F = numbers([5.0, 1.0, 0.9, 0.8, 0.02]), numbers([20.0] * 5)
    best = theory.allocate(v, F, 2)
    assert best.capacity[0] == 1
    assert best.capacity[4] == 0
    given = torch.stack([best.capacity, numbers([1.0, 0.0, 1.0, 0.0, 1.0])])
    found = lifted(quadratic(5, n_inst=2), signs(F), v, given, n_starts=2)
    assert_close(found.loss, torch.stack([best.loss, theory.loss(v, F, given[1]).sum()]), rtol=1e-6, atol=0)
    shared = (given[0] > 0) & (given[0] < 1)
    assert_close(found.multiplier[0], torch.where(shared, -best.price, 0.0), rtol=1e-6, atol=0)
    assert (found.multiplier[1] == 0).all()
    rows = found.model.embedding
    assert (rows[0, 4] == 0).all()
    assert (rows[0, 0] @ rows[0, 1:].mT == 0).all()
    assert found.status[1] == LiftedStatus.CONVERGED


def test_capacities_that_sum_to_less_than_one_are_infeasible_for_tied_rows_only() -> None:
    features, importance = SparseUniform([0.2, 0.2, 0.2]), numbers([1.0, 0.9, 0.8])
    given = numbers([[0.3, 0.3, 0.3], [0.5, 0.4, 0.3], [1.0, 0.5, 0.4]])
    tied = TiedAutoencoder(3, 1, n_inst=3, activation="identity", generator=seeded(0))
    found = lifted(tied, features, importance, given, n_starts=2)
    assert found.status.tolist() == [LiftedStatus.INFEASIBLE, LiftedStatus.CONVERGED, LiftedStatus.INFEASIBLE]
    assert found.loss[[0, 2]].tolist() == [math.inf, math.inf]
    assert (found.multiplier[[0, 2]] == 0).all()
    assert found.share_at_best.tolist() == [0, 1, 0]
    variance = features.variance
    assert_close(found.multiplier[1], -importance * variance, rtol=1e-6, atol=0)
    assert_close(found.loss[1], (importance * variance * (1 - given[1])).sum(), rtol=1e-6, atol=0)
    untied = UntiedAutoencoder(3, 1, n_inst=3, activation="identity", generator=seeded(0))
    found = lifted(untied, features, importance, given, n_starts=2)
    assert (found.status == LiftedStatus.CONVERGED).all()
    assert_close(found.loss, (importance * variance * (1 - given)).sum(-1), rtol=1e-6, atol=0)
    assert_close(found.multiplier, torch.where(given < 1, -importance * variance, 0.0), rtol=1e-6, atol=0)


def test_when_rounds_run_out_the_status_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 2)
    found = lifted(quadratic(3), signs([20.0] * 3), [1.0, 0.9, 0.8], [0.7, 0.6, 0.5], n_starts=3)
    assert found.status[0] == LiftedStatus.NOT_CONVERGED
    assert found.violation[0] > 1e-6
    assert found.share_at_best[0] == 0


@pytest.mark.parametrize("tied", [True, False])
def test_terms_of_capacities_have_the_derivatives_they_claim(tied: bool) -> None:
    g = seeded(2)
    target, multiplier, penalty = torch.rand(3, 1, 3, generator=g, dtype=torch.float64).unbind(0)
    terms = module.CapacityTerms(target, multiplier, penalty)
    objective = AutoencoderObjective(terms, torch.ones(1, 3, dtype=torch.float64), 2, tied)
    theta = torch.randn(1, 9 if tied else 15, generator=g, dtype=torch.float64)

    def value(theta: Tensor) -> Tensor:
        rows = theta[:-3].reshape(-1, 3, 2)
        R = rows[-1] @ rows[0].mT
        miss = R.diagonal().square() / R.square().sum(-1) - target[0]
        return (multiplier[0] * miss + penalty[0] / 2 * miss.square()).sum()

    assert_close(objective.loss(theta)[0], value(theta[0]))
    assert_close(objective.gradient(theta)[0], torch.autograd.functional.jacobian(value, theta[0]))
    assert_close(objective.hessian(theta)[0], torch.autograd.functional.hessian(value, theta[0]))


def call(**changes: Any) -> Callable[[], object]:
    arguments: dict[str, Any] = {
        "model": quadratic(2),
        "features": signs([20.0, 20.0]),
        "importance": [1.0, 1.0],
        "capacity": [0.5, 0.6],
    }
    return lambda: lifted(**{**arguments, **changes})


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (call(capacity=[0.5]), "shape of capacity must be"),
        (call(capacity=[[0.5, 0.6]] * 2), "shape of capacity must be"),
        (call(capacity=[0.5, 1.1]), r"capacity must be in \[0, 1\]"),
        (call(capacity=[0.5, math.nan]), "capacity must be free of NaN"),
        (call(n_starts=0), "n_starts must be a whole number of at least 1"),
        (call(tolerance=0.0), "tolerance must be positive"),
        (call(importance=[1.0]), "importance must be"),
        (call(features=SparseUniform([0.1, 0.1])), "features must have mean 0"),
        (call(model=TiedAutoencoder(2, 1, activation="gelu")), "activation must be"),
    ],
)
def test_bad_values(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.bad_input
def test_other_models_are_refused() -> None:
    with pytest.raises(TypeError, match="model must be a QuadraticModel, .*, got HiddenLayerModel"):
        call(model=HiddenLayerModel(2, 1, activation="identity"))()
