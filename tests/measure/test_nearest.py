"""Nearest rows and responses of two matrices, block by block, against loops over all pairs."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import reference
from polysem import response_capacity
from polysem.measure import ChosenRows, nearest, row_cosines, streamed_response_capacity


@dataclass(frozen=True)
class InBlocks:
    """A tensor in blocks of a given size."""

    tensor: Tensor
    size: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    def blocks(self) -> Iterator[Tensor]:
        yield from self.tensor.split(self.size)


def gaussian(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(W: Tensor, others: Tensor | None) -> tuple[list[int], list[float]]:
    """Index and cosine of the nearest row of each."""
    index, cosine = [], []
    for i, row in enumerate(W):
        best = (-1, 0.0)
        for j, other in enumerate(W if others is None else others):
            if not row.any() or not other.any() or (others is None and i == j):
                continue
            here = float(row @ other / (row.norm() * other.norm()))
            if best[0] < 0 or abs(here) > abs(best[1]):
                best = (j, here)
        index.append(best[0])
        cosine.append(best[1])
    return index, cosine


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(0, 9),
    m=st.integers(0, 9),
    d=st.integers(1, 5),
    first=st.integers(1, 10),
    second=st.integers(1, 10),
    held=st.integers(1, 10),
    seed=st.integers(0, 99),
    zero=st.booleans(),
)
def test_nearest(n: int, m: int, d: int, first: int, second: int, held: int, seed: int, zero: bool) -> None:
    W, others = gaussian(n, d, seed), gaussian(m, d, seed + 1)
    if zero:
        W[1:2] = 0
        others[:1] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polysem.measure._nearest._HELD_BYTES", held * d * 8)
        for targets in (others, None):
            index, cosine = by_loops(W, targets)
            found = nearest(InBlocks(W, first), None if targets is None else InBlocks(targets, second))
            assert found.index.tolist() == index
            assert_close(found.cosine.tolist(), cosine, rtol=1e-12, atol=1e-12)


def test_only_some_and_in_single_precision() -> None:
    W = gaussian(50, 7, 0)
    index, cosine = by_loops(W, None)
    found = nearest(W.float(), features=[31, 4, 4])
    assert found.feature.tolist() == [4, 31]
    assert found.index.tolist() == [index[4], index[31]]
    assert_close(found.cosine.tolist(), [cosine[4], cosine[31]], rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(0, 9),
    d=st.integers(1, 5),
    first=st.integers(1, 10),
    second=st.integers(1, 10),
    seed=st.integers(0, 99),
)
def test_two_matrices_side_by_side(n: int, d: int, first: int, second: int, seed: int) -> None:
    W, V = gaussian(n, d, seed), gaussian(n, d, seed + 1)
    V[:1] = 0
    W[1:2] = 0
    found = streamed_response_capacity(InBlocks(W, first), InBlocks(V, second))
    assert_close(found, reference.response_capacity(W, V), rtol=1e-10, atol=1e-12)
    expected = torch.nn.functional.cosine_similarity(W, V, dim=1)
    assert_close(row_cosines(InBlocks(W, first), InBlocks(V, second)), expected, rtol=1e-10, atol=1e-12)


def test_response_with_norm_policy_and_scale() -> None:
    W, V, scale = gaussian(20, 6, 0), gaussian(20, 6, 1), torch.linspace(0.1, 3, 20, dtype=torch.float64)
    unit = torch.nn.functional.normalize(W, dim=1)
    expected = response_capacity(unit * scale[:, None], V)
    assert_close(streamed_response_capacity(W, V, norm="unit", scale=scale), expected)
    assert_close(streamed_response_capacity(W, V), response_capacity(W, V))


def test_response_of_faint_features() -> None:
    """Features six orders fainter than others: products of float64 are not enough, the triangular factor is."""
    turn = reference.random_rotation(6, torch.Generator().manual_seed(4))
    W = (torch.block_diag(gaussian(6, 3, 0), 1e-6 * gaussian(6, 3, 1)) @ turn).float()
    V = (torch.block_diag(gaussian(6, 3, 2), gaussian(6, 3, 3)) @ turn).float()
    assert_close(streamed_response_capacity(W, V), reference.response_capacity(W, V), rtol=1e-6, atol=0)


def test_chosen_rows() -> None:
    W, keep = gaussian(10, 3, 0), torch.arange(10) % 3 == 1
    chosen = ChosenRows(InBlocks(W, 2), keep)
    assert chosen.shape == (3, 3)
    assert_close(torch.cat(list(chosen.blocks())), W[keep], rtol=0, atol=0)
    assert not list(ChosenRows(InBlocks(W, 2), torch.zeros(10, dtype=torch.bool)).blocks())


@pytest.mark.bad_input
def test_bad_arguments() -> None:
    W = gaussian(4, 3, 0)
    with pytest.raises(ValueError, match="others must be with rows of length 3"):
        nearest(W, gaussian(4, 2, 0))
    with pytest.raises(ValueError, match="features must be rows from 0 to 3"):
        nearest(W, features=[4])
    with pytest.raises(TypeError, match="source of row blocks"):
        nearest([[1.0]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="readout must be of the embedding's shape"):
        streamed_response_capacity(W, W[:3])
    with pytest.raises(ValueError, match="second must be of the first's shape"):
        row_cosines(W, W[:3])
    with pytest.raises(ValueError, match="NaN or infinity in row 2"):
        nearest(torch.tensor([[1.0], [1.0], [torch.nan]]))
