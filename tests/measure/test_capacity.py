import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import polysem as ps
import reference
from polysem.measure import report

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def random_matrix(seed: int, n: int, d: int, decades: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, d, dtype=torch.float64, generator=generator)
    exponents = (torch.rand(n, 1, dtype=torch.float64, generator=generator) - 0.5) * decades
    return rows * 10**exponents


matrices = st.builds(random_matrix, st.integers(0, 2**31), st.integers(1, 24), st.integers(1, 12), st.floats(0, 4))


@given(matrices)
@settings(deadline=None)
def test_agrees_with_the_loop(W: Tensor) -> None:
    assert_close(ps.capacity(W), reference.capacity(W), rtol=1e-9, atol=1e-12)


@given(matrices)
@settings(deadline=None)
def test_bounds(W: Tensor) -> None:
    capacity, leverage = ps.capacity(W), ps.leverage(W)
    assert (capacity >= 0).all()
    assert (capacity <= leverage + 1e-9).all()
    assert (leverage <= 1).all()
    rank = int(torch.linalg.matrix_rank(W))
    assert capacity.sum() <= rank + 1e-9
    assert float(leverage.sum()) == pytest.approx(rank, rel=1e-7)


@given(matrices, st.integers(0, 2**31), st.floats(-200, 200).filter(lambda e: abs(e) > 1e-3))
@settings(deadline=None)
def test_invariances(W: Tensor, seed: int, exponent: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    expected = ps.capacity(W)
    rotation = reference.random_rotation(W.shape[1], generator)
    order = torch.randperm(len(W), generator=generator)
    assert_close(ps.capacity(W @ rotation), expected, rtol=1e-8, atol=1e-10)
    assert_close(ps.capacity(W[order]), expected[order], rtol=1e-9, atol=1e-12)
    assert_close(ps.capacity(W * 2.0 ** int(exponent)), expected, rtol=1e-9, atol=1e-12)


@given(matrices)
@settings(deadline=None)
def test_optimal_readout_has_the_leverage(W: Tensor) -> None:
    readout = torch.linalg.pinv(W).T  # = W M⁺
    leverage = ps.leverage(W)
    assert_close(ps.response_capacity(W, readout), leverage, rtol=1e-6, atol=1e-7)
    assert_close(leverage, reference.leverage(W), rtol=1e-6, atol=1e-7)


@given(matrices, st.integers(0, 2**31))
@settings(deadline=None)
def test_response_capacity_agrees_with_the_loop(W: Tensor, seed: int) -> None:
    V = torch.randn(W.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    assert_close(ps.response_capacity(W, V), reference.response_capacity(W, V), rtol=1e-8, atol=1e-10)
    assert_close(ps.response_capacity(W, W), ps.capacity(W))
    assert ps.response_capacity(W, V).sum() <= min(W.shape) + 1e-9


def test_features_are_rows() -> None:
    W = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    assert ps.capacity(W).shape == (7,)
    assert_close(ps.capacity(W), reference.capacity(W).float())


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: torch.dtype) -> None:
    W = torch.randn(40, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    result = ps.capacity(W)
    assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_close(result.double(), reference.capacity(W), rtol=1e-5, atol=0)
    assert ps.leverage(W).dtype == result.dtype
    assert ps.response_capacity(W, W).dtype == result.dtype


def test_half_precision_does_not_overflow() -> None:
    W = torch.tensor([[60000.0, 0.0], [60000.0, 60000.0]], dtype=torch.float16)
    assert_close(ps.capacity(W).double(), reference.capacity(W), rtol=1e-5, atol=0)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", [(60, 12), (12, 12), (8, 20)])
def test_rows_of_wildly_different_scale(seed: int, shape: tuple[int, int]) -> None:
    """Within 1e-5 of pairwise float64 arithmetic wherever κ ≤ 1e8, over 60 decades in one float32 matrix."""
    generator = torch.Generator().manual_seed(seed)
    exponents = torch.rand(shape[0], 1, generator=generator) * 60 - 30
    W = torch.randn(shape, generator=generator) * 10**exponents
    if seed % 2:  # axis-aligned rows: the faint ones keep their capacity
        W = torch.eye(shape[1])[torch.randint(shape[1], (shape[0],), generator=generator)] * 10 ** (exponents / 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of rows beyond precision; counted in another test
        result = ps.capacity(W)
    assert result.isfinite().all()
    assert ((result >= 0) & (result <= 1)).all()
    told = reference.condition(W) <= 1e8
    expected = reference.capacity(W)
    assert_close(result.double()[told], expected[told], rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("ratio", [1e-2, 1e-3, 1e-4, 1e-6, 1e-7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_orthogonal_blocks_of_different_norm(ratio: float, dtype: torch.dtype) -> None:
    """The faint block keeps the capacity it has alone, however loud the other is (κ up to 1e14)."""
    generator = torch.Generator().manual_seed(0)
    rotation = reference.random_rotation(8, generator)
    faint = torch.randn(6, 4, dtype=torch.float64, generator=generator) @ rotation[:4]
    loud = torch.randn(9, 4, dtype=torch.float64, generator=generator) @ rotation[4:]
    W = torch.cat([faint * ratio, loud])
    if dtype == torch.float32:  # rotation to float32 would mix the blocks
        W = torch.block_diag(faint @ rotation[:4].T * ratio, loud @ rotation[4:].T).float()
    # In exact arithmetic the blocks do not meet; rounding W itself mixes them by (ε / ratio)².
    expected = torch.cat([reference.capacity(faint), reference.capacity(loud)])
    assert_close(ps.capacity(W).double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("exponent", [-290, -150, 150, 290])
def test_extreme_scale_of_faint_blocks(exponent: int) -> None:
    W = torch.block_diag(random_matrix(0, 5, 3), random_matrix(1, 4, 2) * 1e-6)
    assert_close(ps.capacity(W * 10.0**exponent), ps.capacity(W), rtol=1e-9, atol=0)


def test_rows_beyond_precision_are_counted() -> None:
    """Orthogonal rows with norm ratio 1e-12: κ = 1e24, where rounding of a dot product decides."""
    W = torch.tensor([[1.0, 1.0, 1.0], [1e-12, -1e-12, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    with pytest.warns(RuntimeWarning, match="1 of 3 rows"):
        ps.capacity(W)
    assert report(W).n_beyond_precision == 1
    assert report(W * torch.tensor([[1e-6], [1.0], [1.0]])).n_beyond_precision == 0


def test_zero_rows_own_nothing_and_have_no_gradient() -> None:
    W = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    W[2] = 0
    W.requires_grad_()
    result = ps.capacity(W)
    result.square().sum().backward()
    assert result[2] == 0
    assert W.grad is not None
    assert W.grad.isfinite().all()
    assert (W.grad[2] == 0).all()
    assert ps.leverage(W)[2] == 0


@pytest.mark.parametrize("shape", [(2, 6, 3), (2, 3, 5)])
def test_gradients(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(3)
    W = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
    V = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(ps.capacity, W)
    assert torch.autograd.gradgradcheck(ps.capacity, W)
    assert torch.autograd.gradcheck(ps.response_capacity, (W, V))
    assert torch.autograd.gradcheck(ps.leverage, W)
    assert torch.autograd.gradcheck(lambda x: ps.capacity(x, norm="unit"), W)


def test_memory_is_that_of_the_rows_where_they_are_few() -> None:
    """`M` of 300,000 dimensions would take 360 GB."""
    W = torch.cat([torch.eye(2, 300_000), -torch.eye(1, 300_000)])
    assert_close(ps.capacity(W), torch.tensor([0.5, 1.0, 0.5]))
    assert_close(ps.leverage(W), torch.tensor([0.5, 1.0, 0.5]))
    assert_close(ps.response_capacity(W, W.flip(-1) + W), torch.tensor([0.5, 1.0, 0.5]))


def test_batches_equal_single_matrices() -> None:
    W = torch.randn(2, 3, 7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    W[1, 2] *= 1e-9
    for function in (ps.capacity, ps.leverage):
        single = torch.stack([torch.stack([function(matrix) for matrix in row]) for row in W])
        assert_close(function(W), single)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 1), (1, 5), (5, 1), (2, 0, 3)])
def test_small_and_empty(shape: tuple[int, ...]) -> None:
    W = torch.ones(shape)
    for function in (ps.capacity, ps.leverage):
        result = function(W)
        assert result.shape == shape[:-1]
        expected = 1 / shape[-2] if W.numel() else 0.0
        assert_close(result, torch.full(shape[:-1], expected))


def test_duplicates_halve() -> None:
    W = torch.eye(4, dtype=torch.float64)
    expected = torch.tensor([0.5, 1, 1, 1, 0.5], dtype=torch.float64)
    assert_close(ps.capacity(torch.cat([W, W[:1]])), expected)
    assert_close(ps.leverage(torch.cat([W, W[:1]])), expected)


def test_norm_policies() -> None:
    W = torch.randn(9, 4, generator=torch.Generator().manual_seed(5)) * torch.logspace(-20, 20, 9)[:, None]
    unit = W.double() / torch.linalg.vector_norm(W.double(), dim=1, keepdim=True)
    assert_close(ps.capacity(W, norm="unit").double(), reference.capacity(unit), rtol=1e-5, atol=0)
    scale = torch.linspace(0, 2, 9)
    expected = reference.capacity(unit * scale[:, None])
    assert_close(ps.capacity(W, norm="unit", scale=scale).double(), expected, rtol=1e-5, atol=0)


def test_autocast_does_not_lower_precision() -> None:
    W = torch.randn(50, 8, generator=torch.Generator().manual_seed(6))
    expected = ps.capacity(W)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_close(ps.capacity(W), expected, rtol=0, atol=0)


def test_low_matmul_precision_is_not_trusted() -> None:
    W = torch.randn(500, 64, generator=torch.Generator().manual_seed(7))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert_close(ps.capacity(W).double(), reference.capacity(W), rtol=1e-5, atol=0)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(("n", "d"), [(3000, 40), (70, 300)])
def test_blockwise_equals_whole(n: int, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    W = torch.randn(n, d, generator=torch.Generator().manual_seed(8))
    whole = ps.capacity(W)
    monkeypatch.setattr("polysem.measure._rows.BLOCK_BYTES", 1)
    assert_close(ps.capacity(W), whole, rtol=1e-5, atol=0)


@pytest.mark.bad_input
class TestBadInput:
    def test_not_a_tensor(self) -> None:
        with pytest.raises(TypeError, match=r"W must be a torch.Tensor, got list"):
            ps.capacity([[1.0]])  # type: ignore[arg-type]

    def test_integers(self) -> None:
        with pytest.raises(TypeError, match=r"W must have a real floating-point dtype, got torch.int64"):
            ps.capacity(torch.ones(2, 2, dtype=torch.int64))

    def test_vector(self) -> None:
        with pytest.raises(ValueError, match=r"W must have shape .* got shape \(3,\)"):
            ps.capacity(torch.ones(3))

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_first_bad_row_is_named(self, value: float) -> None:
        W = torch.ones(5, 2)
        W[3, 1] = W[4, 0] = value
        for function in (ps.capacity, ps.leverage, report):
            with pytest.raises(ValueError, match=r"NaN or infinity in row 3 \(2 such rows\)"):
                function(W)

    def test_unknown_norm(self) -> None:
        with pytest.raises(ValueError, match="norm must be 'raw' or 'unit', got 'l2'"):
            ps.capacity(torch.ones(2, 2), norm="l2")  # type: ignore[arg-type]

    @pytest.mark.parametrize("scale", [torch.ones(3), torch.tensor([1.0, -1.0]), torch.tensor([1.0, torch.nan])])
    def test_bad_scale(self, scale: Tensor) -> None:
        with pytest.raises(ValueError, match="scale must be"):
            ps.capacity(torch.ones(2, 2), scale=scale)

    def test_shapes_differ(self) -> None:
        with pytest.raises(ValueError, match=r"readout must be of the embedding's shape \(2, 3\), got \(3, 2\)"):
            ps.response_capacity(torch.ones(2, 3), torch.ones(3, 2))
