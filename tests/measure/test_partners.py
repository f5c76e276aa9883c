"""Partners of features against a loop over all pairs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import reference
from polysem.measure import Partners, partners, report
from polysem.measure._rows import BLOCK_BYTES


def by_loops(W: Tensor, feature: int, k: int) -> tuple[list[int], list[float], list[float]]:
    """Partners of one feature, their cosines and shares."""
    overlaps = [float(W[feature] @ row) ** 2 for row in W]
    total = sum(overlaps)
    others = sorted((j for j in range(len(W)) if j != feature), key=lambda j: -overlaps[j])[:k]
    cosines = [float(torch.nn.functional.cosine_similarity(W[feature], W[j], dim=0)) for j in others]
    return others, cosines, [overlaps[j] / total for j in others]


def assert_as_by_loops(found: Partners, W: Tensor, k: int) -> None:
    for row, feature in enumerate(found.feature.tolist()):
        index, cosine, share = by_loops(W.double(), feature, k)
        assert found.index[row].tolist() == index
        assert_close(found.cosine[row].tolist(), cosine, rtol=1e-9, atol=1e-12)
        assert_close(found.share[row].tolist(), share, rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(2, 12), d=st.integers(1, 6), k=st.integers(1, 14), seed=st.integers(0, 99))
def test_every_feature(n: int, d: int, k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(n, d, generator=generator, dtype=torch.float64)
    found = partners(W, range(n), k=k)
    assert_as_by_loops(found, W, k)
    assert_close(found.capacity, reference.capacity(W), rtol=1e-9, atol=1e-12)


def test_many_blocks_and_rows_asked_for_twice() -> None:
    d = 2000
    n = BLOCK_BYTES // 8 // d * 3 + 5000
    W = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    assert_as_by_loops(partners(W, [n - 1, 0, n - 1], k=7), W, 7)


def test_the_shares_of_all_partners_and_the_capacity_are_one() -> None:
    W = torch.randn(40, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = partners(W, torch.arange(40), k=39)
    assert_close(found.capacity + found.share.sum(-1), torch.ones(40, dtype=torch.float64), rtol=1e-12, atol=0)
    assert_close(found.capacity, report(W, draws=2).capacity, rtol=1e-9, atol=0)


def test_norm_policy() -> None:
    W = torch.tensor([[1.0, 0.0], [100.0, 100.0], [1.0, 0.1]])
    assert partners(W, [0], k=1).index.tolist() == [[1]]
    assert partners(W, [0], k=1, norm="unit").index.tolist() == [[2]]


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_the_scale_of_all_rows_does_not_matter(scale: float) -> None:
    W = torch.randn(9, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert_close(vars(partners(W * scale, [4], k=3)), vars(partners(W, [4], k=3)), rtol=1e-9, atol=0)


def test_zero_rows_have_no_share() -> None:
    W = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    found = partners(W, [0, 1], k=2)
    assert found.share.tolist() == [[0, 0], [0, 0]]
    assert found.capacity.tolist() == [0, 1]


def test_a_single_row_has_no_partners() -> None:
    found = partners(torch.ones(1, 3), [0])
    assert found.index.shape == (1, 0)
    assert found.capacity.tolist() == [1]


@pytest.mark.bad_input
@pytest.mark.parametrize("features", [[-1], [3], [0.5]])
def test_rows_that_are_not_there(features: list[float]) -> None:
    with pytest.raises(ValueError, match="features must be rows from 0 to 2"):
        partners(torch.eye(3), features)  # type: ignore[arg-type]


@pytest.mark.bad_input
def test_bad_matrices() -> None:
    with pytest.raises(ValueError, match="NaN or infinity in row 1"):
        partners(torch.tensor([[1.0, 0.0], [torch.nan, 0.0]]), [0])
    with pytest.raises(ValueError, match="k must be a whole number of at least 1"):
        partners(torch.eye(3), [0], k=0)
    with pytest.raises(TypeError, match=r"W must be a torch.Tensor or a source of row blocks"):
        partners([[1.0]], [0])  # type: ignore[arg-type]
