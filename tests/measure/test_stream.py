import pickle
from functools import reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import polysem as ps
import reference
from polysem.measure import CapacityStream


def stream_of(shards: list[torch.Tensor], d: int, **options: object) -> CapacityStream:
    stream = CapacityStream(d, **options)
    for shard in shards:
        stream.update(shard)
    return stream


@given(st.integers(0, 2**31), st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 6))
@settings(deadline=None)
def test_streamed_equals_whole_whatever_the_sharding(seed: int, sizes: list[int], d: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(sum(sizes), d, generator=generator) * 10 ** torch.rand(sum(sizes), 1, generator=generator)
    shards = list(W.split(sizes))
    whole = ps.capacity(W.double())
    stream = stream_of(shards, d)
    assert stream.n_features == len(W)
    assert_close(torch.cat([stream.capacity(shard) for shard in shards]).double(), whole, rtol=1e-6, atol=1e-12)
    merged = reduce(CapacityStream.merge, [stream_of([shard], d) for shard in shards], CapacityStream(d))
    backwards = reduce(CapacityStream.merge, [stream_of([shard], d) for shard in shards[::-1]], CapacityStream(d))
    for other in (merged, backwards):
        assert_close(other.frame_operator, stream.frame_operator, rtol=1e-13, atol=1e-12)
        assert other.n_features == stream.n_features


def test_survives_pickling_and_state_dict() -> None:
    W = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    stream = stream_of([W[:10], W[10:]], 4, norm="unit")
    loaded = CapacityStream(4, norm="unit")
    loaded.load_state_dict(stream.state_dict())
    for copy in (pickle.loads(pickle.dumps(stream)), loaded):
        assert_close(copy.capacity(W), stream.capacity(W), rtol=0, atol=0)
        assert copy.accumulation_error == stream.accumulation_error
    loaded.update(W)  # the copy stands alone
    assert loaded.n_features == 60
    assert stream.n_features == 30


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_accumulation_error_is_a_bound(dtype: torch.dtype) -> None:
    W = torch.randn(20_000, 6, generator=torch.Generator().manual_seed(1)).double() + 1.0
    W = W.float().double()
    stream = stream_of(list(W.to(dtype).split(777)), 6, dtype=dtype)
    exact = reference_operator(W)
    off = (stream.frame_operator.double() - exact).abs() / (W.abs().T @ W.abs())
    assert 0 < off.max() <= stream.accumulation_error


def reference_operator(W: torch.Tensor) -> torch.Tensor:
    """`M` in extended precision, entry by entry."""
    import numpy as np

    rows = W.numpy().astype(np.longdouble)
    return torch.from_numpy(np.array(rows.T @ rows, dtype=np.float64))


def test_norms_and_scales() -> None:
    W = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    scale = torch.linspace(0.1, 3, 12, dtype=torch.float64)
    stream = CapacityStream(5, norm="unit")
    stream.update(W[:5], scale=scale[:5])
    stream.update(W[5:], scale=scale[5:])
    assert_close(stream.capacity(W, scale=scale), ps.capacity(W, norm="unit", scale=scale), rtol=1e-12, atol=0)


def test_condition_bounds_kappa() -> None:
    W = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    stream = stream_of([W], 6)
    kappa, bound = reference.condition(W), stream.condition(W)
    assert (bound >= kappa * (1 - 1e-12)).all()
    assert (bound <= kappa * 6 ** (1 / 8) * (1 + 1e-12)).all()
    assert stream.condition(torch.zeros(1, 6))[0] == torch.inf


def test_faint_rows_are_counted() -> None:
    W = torch.tensor([[1.0, 0.0], [0.0, 1e-6], [0.0, 0.0]], dtype=torch.float64)
    with pytest.warns(RuntimeWarning, match="1 of 3 rows"):
        stream_of([W], 2).capacity(W)
    with pytest.warns(RuntimeWarning, match="1 of 3 rows"):
        stream_of([W], 2, dtype=torch.float32).capacity(W * torch.tensor([[1.0], [1e4], [1.0]]))


@pytest.mark.bad_input
class TestBadInput:
    def test_width(self) -> None:
        with pytest.raises(ValueError, match=r"rows must be of shape \[n_rows, 3\], got \(2, 4\)"):
            CapacityStream(3).update(torch.ones(2, 4))

    def test_bad_row(self) -> None:
        with pytest.raises(ValueError, match="NaN or infinity in row 1"):
            CapacityStream(1).update(torch.tensor([[1.0], [torch.nan]]))

    def test_arguments(self) -> None:
        with pytest.raises(ValueError, match="d_hidden must be a whole number of at least 0, got -1"):
            CapacityStream(-1)
        with pytest.raises(ValueError, match="dtype must be torch.float64 or torch.float32"):
            CapacityStream(1, dtype=torch.float16)
        with pytest.raises(ValueError, match="norm must be 'raw' or 'unit'"):
            CapacityStream(1, norm="max")  # type: ignore[arg-type]

    def test_merge_of_different_streams(self) -> None:
        with pytest.raises(ValueError, match="other.norm must be equal to this stream's 'raw', got 'unit'"):
            CapacityStream(1).merge(CapacityStream(1, norm="unit"))
        with pytest.raises(ValueError, match="other.d_hidden"):
            CapacityStream(1).merge(CapacityStream(2))

    def test_overflow(self) -> None:
        with pytest.raises(ValueError, match="M overflowed"):
            CapacityStream(1).update(torch.tensor([[1e200]], dtype=torch.float64))
