"""Every error names the argument, the value and what is allowed, on one line."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from polysem import _checks


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whole_numbers(value: object) -> None:
    result = _checks.whole("n", value, 3)
    assert type(result) is int
    assert result == 3


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2, "2"),
        (-4, "-4"),
        (np.int64(0), "0"),
        (4.0, "4.0"),
        (True, "True"),
        (np.True_, "True"),
        ("4", "'4'"),
        (None, "None"),
        (torch.tensor(4.5), "4.5"),
        (torch.tensor([4, 5]), "[4, 5]"),
        (torch.tensor(2), "2"),
    ],
)
def test_what_is_no_such_whole_number(value: object, shown: str) -> None:
    with pytest.raises(ValueError) as caught:
        _checks.whole("n_grid", value, 3)
    assert str(caught.value) == f"n_grid must be a whole number of at least 3, got {shown}"


def test_require() -> None:
    _checks.require(True, "C", 2, "in [0, 1]")
    with pytest.raises(ValueError) as caught:
        _checks.require(False, "C", 2, "in [0, 1]")
    assert str(caught.value) == "C must be in [0, 1], got 2"


class Lines:
    def __repr__(self) -> str:
        return "first\n  second\nthird"


def test_values_are_shown_on_one_short_line() -> None:
    assert _checks.short(Lines()) == "first second third"
    assert _checks.short("a\nb") == r"'a\nb'"
    assert _checks.short(torch.tensor([1.0, 2.5])) == "[1.0, 2.5]"
    assert _checks.short(np.eye(2)) == "[[1.0, 0.0], [0.0, 1.0]]"
    assert _checks.short("x" * 198) == repr("x" * 198)
    long = _checks.short(list(range(1000)))
    assert len(long) == 200
    assert repr(list(range(1000))).startswith(long.removesuffix("..."))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1.0], "W must be a torch.Tensor, got list"),
        (np.ones(2), "W must be a torch.Tensor, got ndarray"),
        (torch.ones(2, dtype=torch.int32), "W must have a real floating-point dtype, got torch.int32"),
        (torch.ones(2, dtype=torch.complex64), "W must have a real floating-point dtype, got torch.complex64"),
        (torch.ones(2, dtype=torch.bool), "W must have a real floating-point dtype, got torch.bool"),
    ],
)
def test_what_is_no_floating_tensor(value: object, said: str) -> None:
    for check in (_checks.floating, _checks.matrix):
        with pytest.raises(TypeError) as caught:
            check("W", value)
        assert str(caught.value) == said


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sound_tensors_pass_unchanged(dtype: torch.dtype) -> None:
    for tensor in (torch.ones(3, 2, dtype=dtype), torch.ones(4, 3, 2, dtype=dtype), torch.ones(0, 2, dtype=dtype)):
        assert _checks.floating("W", tensor) is tensor
        assert _checks.matrix("W", tensor) is tensor


def test_finite_numbers_whose_sum_overflows_pass() -> None:
    largest = torch.full((4, 2), torch.finfo(torch.float32).max)
    assert _checks.matrix("W", largest) is largest
    opposite = largest * torch.tensor([1.0, -1.0])
    assert _checks.matrix("W", opposite) is opposite


@pytest.mark.bad_input
def test_a_vector_is_no_matrix() -> None:
    for shape in ((), (7,)):
        with pytest.raises(ValueError, match=r"W must have shape \[\*batch, n_features, d_hidden\] .*got shape \("):
            _checks.matrix("W", torch.ones(shape))


@pytest.mark.bad_input
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_bad_row_is_named(bad: float) -> None:
    W = torch.ones(9, 3, requires_grad=True).clone()
    with torch.no_grad():
        W[4, 1] = W[7, 2] = W[7, 0] = bad
    with pytest.raises(ValueError) as caught:
        _checks.matrix("W", W)
    assert str(caught.value) == "W must be finite, got NaN or infinity in row 4 (2 such rows)"
    with pytest.raises(ValueError, match="in row 104"):
        _checks.finite_rows("W", W, 100)
    batch = torch.ones(2, 9, 3)
    batch[1, 5] = bad
    with pytest.raises(ValueError, match=r"in row \(1, 5\) \(1 such rows\)"):
        _checks.matrix("W", batch)


def test_infinities_of_both_signs_do_not_hide_each_other() -> None:
    with pytest.raises(ValueError, match="in row 0"):
        _checks.finite_rows("W", torch.tensor([[float("inf"), -float("inf")]]))


@pytest.mark.parametrize(
    "value",
    [
        0.1,
        np.float64(0.1),
        [0.1, 2],
        np.array([[0.1], [2.0]]),
        torch.tensor([0.1], dtype=torch.float64),
        [torch.tensor(0.1, dtype=torch.float64)],
        2**70,
        True,
    ],
)
def test_numbers_as_float64(value: object) -> None:
    result = _checks.as_float64("v", value)
    assert result.dtype == torch.float64
    assert_close(result, torch.from_numpy(np.asarray(value, dtype=np.float64)), rtol=0, atol=0)


def test_gradients_pass_through() -> None:
    C = torch.tensor([0.5], requires_grad=True)
    _checks.as_float64("C", C).square().sum().backward()
    assert_close(C.grad, torch.ones(1))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "value",
    ["0.1", None, {}, [1, [2]], 1 + 2j, np.array([1 + 2j]), np.complex64(1j), torch.tensor([1 + 2j])],
)
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(TypeError) as caught:
        _checks.as_float64("v", value)
    assert str(caught.value) == f"v must be a number, an array or a tensor, got {_checks.short(value)}"


@pytest.mark.bad_input
def test_nan_is_no_number() -> None:
    with pytest.raises(ValueError, match=r"^v must be free of NaN, got \[1.0, nan\]$"):
        _checks.as_float64("v", [1.0, float("nan")])
    assert _checks.as_float64("v", float("inf")) == float("inf")
