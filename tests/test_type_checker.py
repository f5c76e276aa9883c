"""What the test run's own check of shapes and types refuses, and when it does not look."""

from collections.abc import Iterator

import pytest
from jaxtyping import Float
from torch import Tensor, ones

from polysem.measure import capacity
from type_checker import check, jaxtyped

checked = jaxtyped(typechecker=check)


@checked
def joined(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], times: float = 1.0) -> Float[Tensor, "n m"]:
    return times * a @ b.mT if times else a


@checked
def repeated(text: str, times: int) -> str:
    return text * times if times else 0  # type: ignore[return-value]


@checked
def pieces(times: int) -> Iterator[str]:
    yield from "ab"


@checked
def own(text: "str", W: Float[Tensor, "n n"]) -> "int":
    return W if text else len(text)  # type: ignore[return-value]


def test_what_is_as_stated_passes() -> None:
    assert joined(ones(2, 3), ones(4, 3), 2).tolist() == [[6.0] * 4] * 2
    assert repeated("a", times=2) == "aa"
    assert list(pieces(2)) == ["a", "b"]
    assert own("", ones(2, 2)) == 0
    assert capacity(ones(2, 1)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    "call",
    [
        lambda: joined(ones(2, 3), ones(4, 2)),
        lambda: joined(ones(2, 3), ones(3)),
        lambda: joined(ones(2, 3), ones(4, 3).int()),
        lambda: joined(ones(2, 3), ones(4, 3), times="2"),
        lambda: joined(ones(2, 3), ones(4, 3), times=0),  # returns what is not n x m
        lambda: repeated(2, 2),
        lambda: repeated("a", 2.0),
        lambda: repeated("a", 0),
        lambda: list(pieces("2")),
        lambda: own(2, ones(2, 2)),
        lambda: own("", ones(2, 3)),
        lambda: own("a", ones(2, 2)),
        lambda: capacity([1.0]),
    ],
)
def test_what_is_not_as_stated_is_refused(call: object) -> None:
    with pytest.raises(Exception, match=r"Type-check error|violates type hint"):
        call()


@pytest.mark.bad_input
def test_tests_of_bad_input_are_left_alone() -> None:
    assert repeated("a", 0) == 0
    assert joined(ones(2, 3), ones(4, 3), times=0).shape == (2, 3)
