"""The frame operator by panels, and blocks that are made ahead of their use."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.measure import capacity, leverage, report
from polysem.measure._frame import frame_operator
from polysem.measure._rows import ahead


@pytest.mark.parametrize("d", [512, 700, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_panels_give_the_whole_operator(d: int, dtype: torch.dtype) -> None:
    X = torch.randn(90, d, generator=torch.Generator().manual_seed(0)).to(dtype)
    operator = frame_operator(X.split(40))
    assert torch.equal(operator, operator.T)
    assert_close(operator, X.T @ X, rtol=1e-5, atol=1e-4)


def test_wide_matrices_with_a_graph_are_differentiated() -> None:
    W = torch.randn(8, 600, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leaf = W.clone().requires_grad_()
    capacity(leaf).sum().backward()
    G = W @ W.T
    assert_close(capacity(leaf), G.diagonal().square() / G.square().sum(1))
    assert leaf.grad is not None
    assert bool(leaf.grad.abs().max() > 0)


def test_parameters_of_many_blocks_have_the_leverage_of_their_values() -> None:
    """Blocks made ahead are made in another thread, where a graph would be recorded even under `no_grad`."""
    W = torch.randn(4200, 512, generator=torch.Generator().manual_seed(0))
    found = leverage(W.clone().requires_grad_())
    assert float(found.detach().sum()) == pytest.approx(512)
    assert_close(found.detach(), leverage(W), rtol=1e-5, atol=0)


def counted(n: int, made: list[int]) -> Iterator[Tensor]:
    for i in range(n):
        made.append(i)
        yield torch.tensor(float(i))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_blocks_made_ahead_are_the_same(n: int) -> None:
    threads = threading.active_count()
    assert [int(block) for block in ahead(counted(n, []))] == list(range(n))
    assert threading.active_count() == threads


def test_no_more_than_one_block_is_made_ahead() -> None:
    made: list[int] = []
    for i, _ in enumerate(ahead(counted(20, made))):
        assert len(made) <= i + 2
        if i == 10:
            break
    assert 11 <= len(made) <= 12


def test_what_goes_wrong_ahead_is_told_in_its_place() -> None:
    W = torch.ones(9000, 1024)
    W[8500, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinity in row 8500"):
        report(W)
