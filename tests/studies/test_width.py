"""Width planning against bisection and finite differences, and every way to say what the features are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.studies import Width, WidthConfig, width

F, DECAY, N = 7.0, 0.8, 12


def optimal_loss(v: list[float], kurtosis: list[float], total: float) -> float:
    """By bisection on the price, for diminishing returns."""
    low, high = 1e-12, 1e12
    capacity = [1.0] * len(v)
    for _ in range(200):
        price = (low * high) ** 0.5
        capacity = [
            min(max((w * (k - 1) * (2 / price) ** 0.5 - 2) / (k - 3), 0.0), 1.0)
            for w, k in zip(v, kurtosis, strict=True)
        ]
        low, high = (price, high) if sum(capacity) > total else (low, price)
    return sum(2 * (k - 1) * w**2 * (1 - C) / (2 + (k - 3) * C) for w, k, C in zip(v, kurtosis, capacity, strict=True))


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture(scope="module")
def result() -> Width:
    return width(WidthConfig(n_features=N, decay=DECAY, kurtosis=F, points_between=64))


def test_losses_by_bisection(result: Width) -> None:
    v, kurtosis = [DECAY**i for i in range(N)], [F] * N
    assert_close(result.whole.total, doubles(*range(1, N + 1)), rtol=0, atol=0)
    expected = [optimal_loss(v, kurtosis, D) for D in range(1, N)]
    assert_close(result.whole.loss, doubles(*expected, 0.0), rtol=1e-9, atol=1e-12)
    assert_close(result.whole.next_gain[:-1], -result.whole.loss.diff(), rtol=1e-9, atol=1e-12)
    assert result.whole.next_gain[-1] == 0


def test_the_price_is_the_slope(result: Width) -> None:
    """Central differences; their error is a third derivative times h²/6, except where a feature becomes pure."""
    fine = result.fine
    assert fine.total.diff().min() == fine.total.diff().max() == 1 / 64
    slope = (fine.loss[:-2] - fine.loss[2:]) / (fine.total[2:] - fine.total[:-2])
    assert_close(fine.price[1:-2], slope[:-1], rtol=1e-2, atol=0)
    error = (fine.price[1:-2] / slope[:-1] - 1).abs()
    assert float(error.median()) < 1e-4


def test_the_integral_of_the_price_is_the_fall_of_the_loss(result: Width) -> None:
    """Up to the last grid point but one: at the end, the price to the right is 0."""
    fine = result.fine
    bought = torch.trapezoid(fine.price[:-1], fine.total[:-1])
    assert_close(bought, fine.loss[0] - fine.loss[-2], rtol=1e-4, atol=0)
    steps = torch.trapezoid(fine.price[:-64].unfold(0, 65, 64), dx=1 / 64)
    assert_close(steps, result.whole.next_gain[:-2], rtol=1e-3, atol=0)


def test_kinds_of_features_add_up(result: Width) -> None:
    whole = result.whole
    assert_close(whole.n_ignored + whole.n_impure + whole.n_pure, torch.full((N,), N))
    assert int(whole.n_pure[-1]) == N
    assert int(whole.n_ignored[0]) > 0


def test_both_grids_agree_where_they_meet(result: Width) -> None:
    assert_close(result.fine.total[::64], result.whole.total, rtol=0, atol=0)
    assert_close(result.fine.loss[::64], result.whole.loss, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("widths", "planned"), [((5, 2, 2), [2, 5]), ((0,), [0]), ((3, 400), [3, 400]), ((), list(range(1, 13)))]
)
def test_widths(widths: tuple[int, ...], planned: list[int]) -> None:
    result = width(WidthConfig(n_features=N, widths=widths, points_between=4))
    assert result.whole.total.tolist() == planned
    assert result.fine.total.tolist()[:: 4 if len(planned) > 1 else 1] == planned
    assert len(result.fine.total) == 4 * (len(planned) - 1) + 1


def test_many_features_are_thinned_out() -> None:
    widths = width(WidthConfig(n_features=1000)).whole.total
    assert len(widths) == 40
    assert widths[0] == 1
    assert widths[-1] == 1000
    assert torch.equal(widths, widths.round())
    assert widths.diff().min() > 0


KURTOSIS_OF_SLAB = {"sign": 1.0, "uniform": 9 / 5, "gaussian": 3.0, "laplace": 6.0}


@pytest.mark.parametrize("slab", list(KURTOSIS_OF_SLAB))
def test_a_probability_stands_for_a_kurtosis(slab: str) -> None:
    by_probability = width(WidthConfig(n_features=6, feature_probability=0.05, slab=slab))
    by_kurtosis = width(WidthConfig(n_features=6, kurtosis=KURTOSIS_OF_SLAB[slab] / 0.05))
    assert_close(by_probability.whole.loss, by_kurtosis.whole.loss, rtol=1e-9, atol=1e-12)
    assert f"kurtosis {KURTOSIS_OF_SLAB[slab] / 0.05:g}" in by_probability.says


def test_twenty_is_the_kurtosis_that_nothing_else_says() -> None:
    assert_close(width(WidthConfig()).whole.loss, width(WidthConfig(kurtosis=20)).whole.loss, rtol=0, atol=0)
    assert width(WidthConfig()).says == "40 features, importances v = 0.9ⁱ, kurtosis 20"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "features.csv"


def test_a_table_with_kurtosis(table: Path) -> None:
    v, kurtosis = [1.0, 0.3, 0.7], [30.0, 8.0, 12.0]
    table.write_text("importance,kurtosis\n" + "".join(f"{w},{k}\n" for w, k in zip(v, kurtosis, strict=True)))
    result = width(WidthConfig(csv=table, n_features=7, decay=0.1))
    expected = [optimal_loss(v, kurtosis, D) for D in (1, 2)]
    assert_close(result.whole.loss, doubles(*expected, 0.0), rtol=1e-9, atol=1e-12)
    assert result.says == f"3 features, importances from {table}, kurtosis 8 to 30"


def test_a_table_with_probabilities(table: Path) -> None:
    table.write_text("feature_probability,importance\n0.1,1\n0.02,0.5\n")
    result = width(WidthConfig(csv=table, slab="gaussian", widths=(1,)))
    assert float(result.whole.loss) == pytest.approx(optimal_loss([1.0, 0.5], [30.0, 150.0], 1))


@pytest.mark.parametrize(
    ("settings", "kurtosis"),
    [({}, 20.0), ({"kurtosis": 6.0}, 6.0), ({"feature_probability": 0.1}, 10.0)],
)
def test_a_table_of_importances_alone(settings: dict[str, float], kurtosis: float, table: Path) -> None:
    table.write_text("importance\n1\n0.5\n0.25\n")
    result = width(WidthConfig(csv=table, widths=(1,), **settings))
    assert float(result.whole.loss) == pytest.approx(optimal_loss([1.0, 0.5, 0.25], [kurtosis] * 3, 1))


@pytest.mark.bad_input
@pytest.mark.parametrize("column", ["kurtosis", "feature_probability"])
@pytest.mark.parametrize("setting", ["kurtosis", "feature_probability"])
def test_what_the_table_says_cannot_be_said_again(column: str, setting: str, table: Path) -> None:
    table.write_text(f"importance,{column}\n1,1\n")
    with pytest.raises(ValueError, match=rf"{column} must be given once: .*features\.csv has a column of that name"):
        width(WidthConfig(csv=table, **{setting: 1}))


@pytest.mark.bad_input
def test_a_bad_table(table: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        width(WidthConfig(csv=table))
