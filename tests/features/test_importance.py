"""Importance curves against their formulas, element by element."""

import math

import pytest
import torch
from torch.testing import assert_close

from polysem.features import explicit, geometric, zipf


@pytest.mark.parametrize(("n", "ratio"), [(1, 0.5), (7, 0.8), (4, 1.0), (5, 2.0)])
def test_geometric_is_a_power_of_its_ratio(n: int, ratio: float) -> None:
    expected = torch.tensor([ratio**i for i in range(n)], dtype=torch.float64)
    assert_close(geometric(n, ratio), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("n", "exponent"), [(1, 1.0), (6, 0.0), (9, 1.5)])
def test_zipf_is_a_power_of_the_rank(n: int, exponent: float) -> None:
    expected = torch.tensor([(i + 1) ** -exponent for i in range(n)], dtype=torch.float64)
    assert_close(zipf(n, exponent), expected, rtol=1e-14, atol=0)
    assert_close(zipf(n), zipf(n, 1.0), rtol=0, atol=0)


def test_explicit_copies_into_float64() -> None:
    given = torch.tensor([[1.0, 0.0], [2.5, 3.0]], dtype=torch.float64)
    result = explicit(given)
    assert_close(result, given)
    given[0, 0] = 7.0
    assert result[0, 0].item() == 1.0
    assert explicit([1, 2]).dtype == torch.float64


@pytest.mark.bad_input
def test_bad_curves_are_refused() -> None:
    for n in (0, 1.5, True):
        with pytest.raises(ValueError, match="n_features must be"):
            geometric(n, 0.5)
        with pytest.raises(ValueError, match="n_features must be"):
            zipf(n)
    for ratio in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="ratio must be"):
            geometric(3, ratio)
    with pytest.raises(ValueError, match="ratio must be so small"):
        geometric(100, 1e10)
    for exponent in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="exponent must be"):
            zipf(3, exponent)
    for values in ([1.0, -1.0], [math.inf], [math.nan], [], 3.0):
        with pytest.raises(ValueError, match="values must be"):
            explicit(values)
    with pytest.raises(TypeError, match="values must be"):
        explicit("many")
