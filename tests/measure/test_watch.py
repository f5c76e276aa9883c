import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from polysem.measure import CapacityReport, RowBlocks, partners, report
from polysem.networks import load


class EndedError(Exception):
    """What a watcher raises."""


def gaussian(n: int, d: int) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Blocks:
    """Rows in blocks of a given size that count how many readings of them are under way."""

    def __init__(self, W: torch.Tensor, step: int) -> None:
        self.W, self.step, self.reading = W, step, 0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.W.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.W.dtype

    def blocks(self) -> Iterator[torch.Tensor]:
        self.reading += 1
        try:
            yield from self.W.split(self.step)
        finally:
            self.reading -= 1


def faint(n: int, d: int) -> torch.Tensor:
    """Rows of which some need more than float64 products."""
    return torch.block_diag(gaussian(n // 2, d // 2), gaussian(n // 2, d // 2) * 1e-7)


def out_of_range(n: int, d: int) -> torch.Tensor:
    return gaussian(n, d) * 1e200


def wide(n: int, d: int) -> torch.Tensor:
    """Fewer rows than dimensions."""
    return gaussian(n, n + d)


def equal(a: CapacityReport, b: CapacityReport) -> bool:
    """Whether two reports are the same to the last bit."""
    tensors = ("capacity", "leverage", "row_norm", "singular_values", "edges", "histogram")
    nulls = all(
        torch.equal(getattr(x, name), getattr(y, name))
        for x, y in ((a.isotropic, b.isotropic), (a.covariance, b.covariance))
        for name in ("totals", "histogram")
    )
    return nulls and all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors) and str(a) == str(b)


@pytest.mark.parametrize("make", [gaussian, faint, out_of_range, wide])
def test_shares_rise_to_one_and_change_nothing(make: Callable[[int, int], torch.Tensor]) -> None:
    rows, shares = Blocks(make(400, 8), 50), list[float]()
    watched = report(rows, watch=shares.append)
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.1
    assert shares[-1] == 1.0
    assert shares.count(1.0) == 1
    assert equal(watched, report(rows))


def test_a_share_is_that_of_the_passes() -> None:
    """Two passes over the matrix and two over each draw; the decomposition counts like 8 rows for each dimension."""
    shares: list[float] = []
    report(Blocks(gaussian(1000, 5), 100), draws=4, watch=shares.append)
    amounts = [100] * 10 + [8 * 5] + [100] * 10 + [1000] * 8
    assert_close(shares, [sum(amounts[: k + 1]) / 10_040 for k in range(29)], rtol=1e-12, atol=0)


def test_it_is_called_after_every_block() -> None:
    calls: list[float] = []
    report(Blocks(gaussian(20_000, 64), 500), watch=calls.append)
    assert len(calls) == 2 * 40 + 1 + 8 * 2 * 2  # passes over blocks of 500; draws are made in blocks of 16,384
    assert max(b - a for a, b in pairwise(calls)) < 0.05


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
def test_small_and_empty(shape: tuple[int, int]) -> None:
    shares: list[float] = []
    report(torch.ones(shape), watch=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def calls_of(rows: torch.Tensor | RowBlocks) -> int:
    """How often a watcher of two draws is called."""
    shares: list[float] = []
    report(rows, draws=2, watch=shares.append)
    return len(shares)


def ends(rows: torch.Tensor | RowBlocks, at: int) -> None:
    """Measure, raise in the call of that number, and see that no thread is left."""
    calls, error, before = 0, EndedError(f"call {at}"), threading.active_count()

    def watch(share: float) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise error

    with pytest.raises(EndedError) as caught:
        report(rows, draws=2, watch=watch)
    assert caught.value is error
    assert calls == at
    assert threading.active_count() == before  # while the exception, and with it every frame, is still held


@pytest.mark.parametrize("make", [gaussian, faint, out_of_range, wide])
def test_what_is_raised_ends_it_at_any_call(make: Callable[[int, int], torch.Tensor]) -> None:
    rows = Blocks(make(120, 8), 20)
    n = calls_of(rows)
    assert n >= 6 + 1 + 6 + 4
    for at in range(1, n + 1):
        ends(rows, at)
        assert rows.reading == 0


@pytest.mark.parametrize("at", [1, 3, 7, 8, 10, 12, 13, 16, 19])
def test_draws_of_several_blocks_end_too(at: int) -> None:
    """4,100 rows of 512 dimensions are read and drawn in three blocks; calls 8 to 19 are those of the two draws."""
    ends(gaussian(4100, 512).float(), at)


@pytest.mark.parametrize("features", ["rows", "columns"])
def test_rows_of_a_file_end_too(tmp_path: Path, features: Literal["rows", "columns"]) -> None:
    W = gaussian(300, 200)
    np.save(tmp_path / "W.npy", (W if features == "rows" else W.mT).numpy())
    rows = load(tmp_path / "W.npy")["W"].rows_of(features)
    assert equal(report(rows, watch=lambda _: None), report(rows))
    for at in range(1, calls_of(rows) + 1):
        ends(rows, at)
        assert [path.name for path in tmp_path.iterdir()] == ["W.npy"]


def test_partners_are_watched() -> None:
    rows, shares, error = Blocks(gaussian(400, 8), 50), list[float](), EndedError()
    watched, plain = partners(rows, [3, 120], watch=shares.append), partners(rows, [3, 120])
    assert_close(shares, [k / 16 for k in range(1, 17)], rtol=1e-12, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(vars(watched).values(), vars(plain).values(), strict=True))

    def end(share: float) -> None:
        if share > 0.4:
            raise error

    threads = threading.active_count()
    with pytest.raises(EndedError) as caught:
        partners(rows, [3], watch=end)
    assert caught.value is error
    assert (rows.reading, threading.active_count()) == (0, threads)
