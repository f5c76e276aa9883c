"""Loss, marginal benefit and best norm of one feature of the quadratic model."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.testing import assert_close

from polysem.theory import loss, marginal_benefit, optimal_norm

importance = st.floats(0.01, 100)
kurtosis = st.floats(1.001, 1000)


@pytest.mark.parametrize("F", [1.2, 2.0, 3.0, 3.1, 20.0, 100.0])
@pytest.mark.parametrize("C", [0.01, 0.3, 0.999, 1.0])
def test_norm_and_loss_are_the_minimum_over_the_norm(F: float, C: float) -> None:
    v = 0.7

    def loss_of_norm(a: float) -> float:
        return (F - 1) * (v - a) ** 2 + 2 * a**2 * (1 / C - 1)

    best = minimize_scalar(loss_of_norm, bounds=(0, 2 * v), method="bounded", options={"xatol": 1e-12})
    assert_close(loss(v, F, C).item(), float(best.fun), rtol=1e-12, atol=1e-14)
    assert_close(optimal_norm(v, F, C).item(), float(best.x), rtol=1e-6, atol=0)


@settings(deadline=None)
@given(importance, kurtosis, st.floats(0, 1))
def test_marginal_benefit_is_the_derivative_of_loss(v: float, F: float, C: float) -> None:
    capacity = torch.tensor(C, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(v, F, capacity), capacity)
    assert_close(marginal_benefit(v, F, C), -slope, rtol=1e-10, atol=0)


@settings(deadline=None)
@given(importance, kurtosis, st.floats(0.001, 1))
def test_marginal_benefit_is_twice_the_squared_norm_per_capacity(v: float, F: float, C: float) -> None:
    assert_close(marginal_benefit(v, F, C), 2 * (optimal_norm(v, F, C) / C) ** 2, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("F", "sign"), [(1.5, 1), (3.0, 0), (8.0, -1)])
def test_returns_increase_below_3_and_diminish_above(F: float, sign: int) -> None:
    benefit = marginal_benefit(1.0, F, torch.linspace(0, 1, 50, dtype=torch.float64))
    assert (benefit.diff().sign() == sign).all()
    assert_close(benefit[0].item(), (F - 1) ** 2 / 2)
    assert_close(benefit[-1].item(), 2.0)


def test_ends_of_loss_and_norm() -> None:
    assert_close(loss(0.5, [2.0, 9.0], 0.0), torch.tensor([0.25, 2.0], dtype=torch.float64))
    assert_close(loss(0.5, [2.0, 9.0], 1.0), torch.zeros(2, dtype=torch.float64))
    assert_close(optimal_norm(0.5, [2.0, 9.0], [[0.0], [1.0]])[:, 0], torch.tensor([0.0, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("function", [loss, marginal_benefit, optimal_norm])
def test_a_feature_with_kurtosis_1_is_worth_nothing(function: object) -> None:
    assert callable(function)
    assert_close(function(2.0, 1.0, [0.0, 0.5, 1.0]), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("v", [1e-200, 1e-150, 1e150, 1e200, 0.0])
def test_extreme_scales_never_give_nan(v: float) -> None:
    C = [0.0, 0.5, 1.0]
    for values in (loss(v, 5.0, C), marginal_benefit(v, 5.0, C), optimal_norm(v, 5.0, C)):
        assert not values.isnan().any()
    assert loss(v, 5.0, 1.0) == 0


def test_numbers_arrays_and_tensors_broadcast_to_float64() -> None:
    result = loss(np.ones((3, 1), dtype=np.float32), 4, torch.tensor([0, 1], dtype=torch.int32))
    assert result.dtype == torch.float64
    assert_close(result, torch.tensor([[3.0, 0.0]] * 3, dtype=torch.float64))


@pytest.mark.bad_input
@pytest.mark.parametrize("function", [loss, marginal_benefit, optimal_norm])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 5.0, 0.5), "v must be non-negative and finite, got -1.0"),
        ((math.nan, 5.0, 0.5), "v must be free of NaN"),
        ((math.inf, 5.0, 0.5), "v must be non-negative and finite"),
        ((1.0, 0.99, 0.5), "kurtosis must be finite and at least 1"),
        ((1.0, math.inf, 0.5), "kurtosis must be finite and at least 1"),
        ((1.0, math.nan, 0.5), "kurtosis must be free of NaN"),
        ((1.0, 5.0, 1.0000001), r"C must be in \[0, 1\], got 1.0000001"),
        ((1.0, 5.0, -0.1), r"C must be in \[0, 1\]"),
        (([1.0, 2.0], 5.0, [0.1, 0.2, 0.3]), r"must broadcast, got v \[2\], kurtosis \[\], C \[3\]"),
    ],
)
def test_bad_values(function: object, arguments: tuple[object, ...], message: str) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match=message):
        function(*arguments)


@pytest.mark.bad_input
def test_bad_type() -> None:
    with pytest.raises(TypeError, match="kurtosis must be a number"):
        loss(1.0, "high", 0.5)
