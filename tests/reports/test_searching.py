"""What the report says of searches follows from what they found."""

import pytest
import torch
from torch import Tensor

from polysem.reports import _discussion_searching as searching
from polysem.reports import _discussion_treating as treating
from polysem.studies import OBJECTIVES, Searched, SearchedCell, Searching, TreatedWay, Treating, TreatingConfig

SEEDS = 20


def cell(true: float, *, opposed: bool, beyond: bool = True, objectives: tuple[str, ...] = OBJECTIVES) -> SearchedCell:
    """A cell where a share of the winners are features, the others mixtures beyond all features or not."""
    n = round(true * SEEDS)
    feature = torch.tensor([[0]] * n + [[-1]] * (SEEDS - n))
    score = torch.full((SEEDS,), 2.0 if beyond else 0.5, dtype=torch.float64)
    one, ones = torch.ones(SEEDS, dtype=torch.int64), torch.ones(SEEDS, dtype=torch.float64)
    searched = (Searched(name, feature, feature.double(), one, score, ones) for name in objectives)
    return SearchedCell("quadratic", 0.1, 2, opposed, torch.tensor([3.5, 2.0, 3.0, 3.0]), tuple(searched))


def verdict(even: SearchedCell, opposed: SearchedCell) -> str:
    return searching._verdict(Searching((even, opposed), 4), (even,), (opposed,))


@pytest.mark.parametrize(
    ("share", "says"), [(1.0, "finds features"), (0.5, "sometimes finds features"), (0.0, "does not find features")]
)
def test_the_verdict_says_whether_features_are_found(share: float, says: str) -> None:
    assert f"diminishing returns {says}" in verdict(cell(share, opposed=False), cell(0.5, opposed=True))


@pytest.mark.parametrize(
    ("true", "beyond", "says"), [(0.0, True, "is right"), (0.0, False, "is wrong"), (0.5, True, "is not decided")]
)
def test_the_verdict_says_whether_the_doubt_is_right(true: float, beyond: bool, says: str) -> None:
    assert f"the doubt {says}" in verdict(cell(1.0, opposed=False), cell(true, opposed=True, beyond=beyond))


def test_the_verdict_counts_cells_of_independent_components_where_there_are_any() -> None:
    says = verdict(cell(1.0, opposed=False), cell(0.5, opposed=True))
    assert "in 1 of 2 cells; in the others the kurtosis of features is within 1 of a Gaussian's" in says
    assert "in the others" not in verdict(cell(1.0, opposed=False), cell(1.0, opposed=True))
    without = (cell(1.0, opposed=False, objectives=OBJECTIVES[:3]), cell(0.5, opposed=True, objectives=OBJECTIVES[:3]))
    assert "independent components" not in verdict(*without)


def way(name: str, loss: float, n_impure: int) -> TreatedWay:
    count: Tensor = torch.full((SEEDS,), n_impure)
    return TreatedWay(name, torch.full((SEEDS,), loss, dtype=torch.float64), count, count, count)


@pytest.mark.parametrize(("n_impure", "says"), [(0, "the procedure works without"), (2, "the procedure does not work")])
def test_the_verdict_says_whether_the_procedure_works(n_impure: int, says: str) -> None:
    names = ("search, flatten", "search, mask", "least importance, mask")
    ways = (*(way(name, 11.0, n_impure) for name in names), way("known, flatten", 10.0, 0), way("known, mask", 11.0, 0))
    says_all = treating._verdict(Treating(ways, 10.0, None))
    assert says in says_all
    assert "by +10.0% in flattening and by +0.0% in masking" in says_all
    assert ("does lead" in says_all) == (n_impure == 0)


def test_pixels_that_are_missing_are_said_to_be() -> None:
    assert "scikit-learn, which has the images, is not installed" in treating._digits(TreatingConfig(), None)
