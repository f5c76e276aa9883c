"""The errata against loops, against values by hand, and the margin by which every slip fails."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from polysem.features import SparseSign
from polysem.studies import Check, Correction, Errata, ErrataConfig, errata
from polysem.studies._outcomes import one_at_a_time, three_point

ROWS, INDEPENDENCE, CUMULANTS, SQUARES = range(4)


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def found(correction: Correction, start: str) -> Check:
    (check,) = (check for check in correction.checks if check.label.startswith(start))
    return check


def sign_outcomes(n: int) -> Iterator[tuple[float, list[float]]]:
    """Independent inputs that are each ±√n with chance 1/(2n), else 0."""
    choices = [(1 - 1 / n, 0.0), (0.5 / n, math.sqrt(n)), (0.5 / n, -math.sqrt(n))]
    for outcome in itertools.product(choices, repeat=n):
        yield math.prod(chance for chance, _ in outcome), [value for _, value in outcome]


def single_outcomes(n: int) -> Iterator[tuple[float, list[float]]]:
    for i, sign in itertools.product(range(n), (1, -1)):
        yield 0.5 / n, [sign * math.sqrt(n) if j == i else 0.0 for j in range(n)]


def loop_loss(outcomes: list[tuple[float, list[float]]], W: list[list[float]], v: list[float]) -> float:
    errors = []
    for _, x in outcomes:
        hidden = [sum(x[i] * W[i][d] for i in range(len(W))) for d in range(len(W[0]))]
        errors.append(sum(c * value**2 for c, value in zip(v, x, strict=True)) - sum(h**2 for h in hidden))
    offset = sum(chance * error for (chance, _), error in zip(outcomes, errors, strict=True))
    return sum(chance * (error - offset) ** 2 for (chance, _), error in zip(outcomes, errors, strict=True))


@pytest.fixture(scope="module")
def default() -> Errata:
    return errata()


def test_losses_equal_loops(default: Errata) -> None:
    n, v = default.config.n_features, default.importance.tolist()
    independent, dependent = list(sign_outcomes(n)), list(single_outcomes(n))
    for k in (0, 19, 39):
        W = default.W[k].tolist()
        formula = 0.0
        for i, j in itertools.product(range(n), repeat=2):
            dot = sum(a * b for a, b in zip(W[i], W[j], strict=True))
            formula += (n - 1) * (v[i] - dot) ** 2 if i == j else 2 * dot**2
        assert_close(default.formula[k].item(), formula, rtol=1e-12, atol=0)
        assert_close(default.independent[k].item(), loop_loss(independent, W, v), rtol=1e-12, atol=0)
        assert_close(default.dependent[k].item(), loop_loss(dependent, W, v), rtol=1e-12, atol=0)


def test_only_independent_inputs_follow_the_formula(default: Errata) -> None:
    assert_close(default.independent, default.formula, rtol=1e-12, atol=0)
    apart = (default.dependent - default.formula).abs() / default.formula
    assert (apart > 0.05).double().mean() > 0.9
    assert apart.median() > 0.5


def test_losses_by_hand() -> None:
    kurtosis = doubles(3, 3, 3)
    independent, dependent = three_point(kurtosis, torch.zeros_like(kurtosis)), one_at_a_time(3)
    nothing, pair = torch.zeros(3, 1, dtype=torch.float64), doubles(1, 1, 0)[:, None]
    v = doubles(1, 2, 3)
    assert_close(independent.loss(nothing, v), doubles(28)[0])  # 2 (1 + 4 + 9)
    assert_close(dependent.loss(nothing, v), doubles(6)[0])  # 3 · 14 − 6²
    assert_close(independent.loss(pair, 0 * v), doubles(8)[0])  # 2 (1 + 1) + 2 · 2
    assert_close(dependent.loss(pair, 0 * v), doubles(2)[0])  # 3 · 2 − 2²
    assert_close(dependent.loss(v.sqrt()[:, None], v), doubles(0)[0])


@settings(deadline=None, max_examples=50)
@given(
    kurtosis=st.lists(st.floats(1.01, 50), min_size=1, max_size=4),
    share=st.floats(-1, 1),
)
def test_moments_of_three_points(kurtosis: list[float], share: float) -> None:
    fourth = doubles(*kurtosis)
    third = share * (fourth - 1).sqrt()
    inputs = three_point(fourth, third)
    n = len(kurtosis)
    assert inputs.x.shape == (3**n, n)
    assert bool((inputs.chance >= 0).all())
    assert_close(inputs.chance.sum(), doubles(1)[0])
    sixth = fourth.square() + third.square() * (fourth - third.square())
    for power, moment in ((1, 0 * fourth), (2, torch.ones(n).double()), (3, third), (4, fourth), (6, sixth)):
        assert_close(inputs.mean(inputs.x**power), moment, rtol=1e-9, atol=1e-9)
    second = inputs.mean(inputs.x[:, :, None].square() * inputs.x[:, None].square())
    expected = torch.ones(n, n).double() + torch.diag(fourth - 1)
    assert_close(second, expected, rtol=1e-9, atol=1e-9)


def test_three_points_without_skewness_are_standardised_sparse_signs() -> None:
    p = [0.5, 0.2, 1.0]
    signs = SparseSign(p, standardise=True)
    inputs = three_point(signs.kurtosis, torch.zeros(3, dtype=torch.float64))
    drawn = signs.sample(50, generator=torch.Generator().manual_seed(0))
    for i in range(3):
        values = torch.unique(inputs.x[:, i])
        assert (drawn[:, i, None] - values).abs().min(-1).values.max() < 1e-12
        assert_close(inputs.mean((inputs.x[:, i] != 0).double()), doubles(p[i])[0])


def test_one_at_a_time_has_the_moments_of_independent_inputs_but_one() -> None:
    n = 5
    dependent, independent = one_at_a_time(n), three_point(torch.full((n,), n).double(), torch.zeros(n).double())
    for power in range(1, 9):
        assert_close(dependent.mean(dependent.x**power), independent.mean(independent.x**power))
    for inputs, paired in ((dependent, 0.0), (independent, 1.0)):
        assert_close(inputs.mean(inputs.x[:, 0] * inputs.x[:, 1]), doubles(0)[0])
        assert_close(inputs.mean(inputs.x[:, 0].square() * inputs.x[:, 1].square()), doubles(paired)[0])


@pytest.mark.parametrize(
    "config",
    [ErrataConfig(), ErrataConfig(n_features=3, d_hidden=1, seed=1), ErrataConfig(n_features=6, d_hidden=3, seed=2)],
)
def test_every_correction_holds_and_every_slip_fails(config: ErrataConfig) -> None:
    result = errata(config)
    for correction in result.corrections:
        assert {check.agree for check in correction.checks} == {True, False}
        for check in correction.checks:
            limit = 1e-12 * max(1, abs(check.compared))
            assert check.difference <= limit if check.agree else check.difference > 0.05 * check.compared
    assert result.holds


def test_rows_and_columns(default: Errata) -> None:
    rows = default.corrections[ROWS]
    least, total = found(rows, "least capacity"), found(rows, "total capacity")
    assert (least.measured, least.compared) == (0.5, 1.0)
    assert (total.measured, total.compared) == (2.0, 2.0)


def test_the_optimum_moves_by_hand() -> None:
    three = errata(ErrataConfig(n_features=3)).corrections[INDEPENDENCE]
    # F = 3, v = (1, 0.8, 0.64): the formula keeps the first feature alone.
    best, there = found(three, "dependent inputs: least loss"), found(three, "dependent inputs: exact loss of the")
    assert_close(best.compared, 2 * (0.8**2 + 0.64**2))
    assert_close(best.measured, 0.0)
    assert_close(there.measured, 3 * (0.8**2 + 0.64**2) - 1.44**2)
    represented = found(three, "dependent inputs: features represented")
    assert (represented.measured, represented.compared) == (3, 1)
    # F = 4, v = 0.8^i: the formula gives 7/9 and 2/9 to the first two and ignores the others.
    four = errata().corrections[INDEPENDENCE]
    shared = 6 * (2 / 9) / (2 + 7 / 9) + 6 * 0.64 * (7 / 9) / (2 + 2 / 9)
    assert_close(found(four, "dependent inputs: least loss").compared, shared + 3 * (0.64**2 + 0.512**2))
    represented = found(four, "dependent inputs: features represented")
    assert (represented.measured, represented.compared) == (4, 2)


def test_skewed_moments_by_hand(default: Errata) -> None:
    cumulants = default.corrections[CUMULANTS]
    # The largest kurtosis is 7, of skewness √6 / 2.
    assert_close(found(cumulants, "skewed inputs: largest E x_i³").measured, math.sqrt(1.5))
    sixth = found(cumulants, "skewed inputs: largest E x_i⁶")
    assert_close(sixth.measured, 49 + 1.5 * 5.5)
    assert_close(sixth.compared, 49.0)
    assert "of the 216 with" in found(cumulants, "skewed inputs: largest |E").label  # 4⁴ − 4 − 3 · 4 · 3


def test_squares_weigh_more_than_products(default: Errata) -> None:
    slip = found(default.corrections[SQUARES], "Var Σ_i s_i x_i x_{i+1} against Σ_i (F_i")
    # Kurtosis 4 to 7: each square weighs at least 3 times, at most 6 times as much.
    assert 3 * slip.measured < slip.compared < 6 * slip.measured


def test_a_check_can_fail(default: Errata) -> None:
    assert Check("", 1.0, 1.0 + 1e-11, agree=True).holds
    assert not Check("", 1.0, 1.0 + 1e-9, agree=True).holds
    assert Check("", 100.0, 98.0, agree=False).holds
    assert not Check("", 100.0, 99.5, agree=False).holds
    assert not Check("", math.nan, 1.0, agree=True).holds
    assert not Check("", math.nan, 1.0, agree=False).holds
    broken = replace(default.corrections[0], checks=(Check("", 1.0, 2.0, agree=True),))
    assert not replace(default, corrections=(*default.corrections[1:], broken)).holds


def test_same_seed_same_result(default: Errata) -> None:
    again, other = errata(), errata(ErrataConfig(seed=1))
    assert again.corrections == default.corrections
    assert_close(again.W, default.W, rtol=0, atol=0)
    assert (other.W - default.W).abs().max() > 0.1


def test_one_matrix_is_enough() -> None:
    result = errata(ErrataConfig(n_matrices=1, d_hidden=6))
    assert result.W.shape == (1, 4, 6)
    assert_close(result.independent, result.formula, rtol=1e-12, atol=0)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_features", 2),
        ("n_features", 9),
        ("n_features", 4.0),
        ("d_hidden", 0),
        ("d_hidden", math.nan),
        ("n_matrices", 0),
        ("n_matrices", True),
        ("n_matrices", 1001),
        ("seed", -1),
        ("seed", "0"),
    ],
)
def test_nonsense_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be a whole number from .* got {value!r}"):
        ErrataConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.bad_input
def test_unknown_settings_are_refused() -> None:
    with pytest.raises(TypeError, match="n_feature"):
        ErrataConfig(n_feature=4)  # type: ignore[call-arg]
