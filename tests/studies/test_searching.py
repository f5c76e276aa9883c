"""The study of searches: shares and intervals, and what theory says of its cells."""

from typing import Any

import pytest
import torch
from scipy import stats

from polysem.interventions import MIXTURE
from polysem.studies import Searched, Searching, SearchingConfig, searching, wilson


@pytest.fixture(scope="module")
def found() -> Searching:
    config = SearchingConfig(("quadratic",), (0.05,), (3,), n_features=6, seeds=6, n_samples=2000, restarts=6, steps=30)
    return searching(config)


def test_with_equal_kurtosis_diminishing_returns_find_features(found: Searching) -> None:
    even = found.cells[0]
    assert not even.opposed
    torch.testing.assert_close(even.kurtosis, torch.full((6,), 1.8 / 0.05, dtype=torch.float64))
    assert even.by("diminishing").share[0] == 1.0
    assert even.by("diminishing").recovered.double().mean() > 5.5
    assert even.by("capacity").share[0] == 0.0
    assert not even.by("diminishing").beyond.any()


def test_with_kurtosis_against_importance_winners_score_beyond_features(found: Searching) -> None:
    opposed = found.cells[1]
    assert opposed.opposed
    assert (opposed.kurtosis.diff() > 0).all()
    assert opposed.by("diminishing").relative.median() > 1.5
    assert found.pooled_beyond("diminishing", (opposed,))[0] > 0


def test_a_study_repeats_from_its_seed() -> None:
    config = SearchingConfig(
        ("tied relu",), (0.1,), (1,), n_features=2, seeds=2, adam_steps=20, few_samples=50, steps=5
    )
    first, again = (searching(config).cells[0] for _ in range(2))
    for one, other in zip(first.searched, again.searched, strict=True):
        assert torch.equal(one.score, other.score)
        assert torch.equal(one.cosine, other.cosine)


def test_shares_count_winners() -> None:
    feature = torch.tensor([[0, MIXTURE], [MIXTURE, 1], [MIXTURE, 1], [MIXTURE, 1]])
    score = torch.tensor([1.0, 1.2, 1.005, 5.0], dtype=torch.float64)
    best = torch.tensor([1.0, 1.0, 1.0, -torch.inf], dtype=torch.float64)
    one = Searched("diminishing", feature, feature.double(), torch.ones(4, dtype=torch.int64), score, best)
    assert one.true.tolist() == [True, False, False, False]
    assert one.beyond.tolist() == [False, True, False, False]
    assert one.relative[:3].tolist() == score[:3].tolist()
    assert one.relative[3].isnan()
    assert one.share[0] == 0.25


@pytest.mark.parametrize(("k", "n"), [(0, 20), (7, 20), (20, 20), (1, 1)])
def test_wilson_is_scipys(k: int, n: int) -> None:
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    low, high = wilson(torch.tensor(k), n)
    assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"seeds": 0}, "seeds must be a whole number"),
        ({"n_samples": 1}, "n_samples must be a whole number of at least 2"),
        ({"d_hidden": (8,)}, "d_hidden must be below n_features = 8"),
        ({"architectures": ()}, "architectures must be not empty"),
        ({"opposed": (0.5, 0.0)}, r"probability must be in \(0, 1\]"),
        ({"decay": 1.5}, r"decay must be in \(0, 1\]"),
    ],
)
@pytest.mark.bad_input
def test_bad_settings(setting: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SearchingConfig(**setting)
