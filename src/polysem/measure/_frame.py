"""The frame operator `M = Wᵀ W` and its spectrum: all that capacity needs to know of the other features."""

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.measure._rows import RowBlocks, TensorRows, ahead
from polysem.measure._work import Work

# The relative error of a capacity is at most a few ε κ_i when it is read off M, and a few ε √κ_i when it is
# read off the triangular factor of W (`κ_i = λ_max |W_i|² / (W_iᵀ M W_i)`). The limits below keep both under 1e-5.
LIMIT_SINGLE = 32.0
LIMIT_DOUBLE = 1e8
LIMIT_FACTOR = 1e16


DECOMPOSITION_ROWS = 8
"""The work of decomposing a square matrix, in multiples of multiplying as many rows by it."""

_PANEL = 256
"""Columns of `M` that are multiplied at once where half of it is enough."""


class FrameSum:
    """The sum of `Xᵀ X` over blocks of rows.

    Of a large single matrix on the CPU only the panels on and above the diagonal are multiplied (5/8 of the work at
    `d_hidden` = 1,024), and mirrored at the end.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None

    def add(self, block: Tensor) -> None:
        """Add `XᵀX` of a block `[*batch, n_rows, d_hidden]`."""
        d = block.shape[-1]
        self._mirrored = block.ndim != 2 or d < 2 * _PANEL or block.requires_grad or block.device.type != "cpu"
        if self._mirrored:
            product = block.mT @ block
            self._sum = product if self._sum is None else self._sum.add_(product)
            return
        if self._sum is None:
            self._sum = block.new_zeros(d, d)
        for start in range(0, d, _PANEL):
            panel = slice(start, start + _PANEL)
            self._sum[panel, start:] += block[:, panel].mT @ block[:, start:]

    def total(self) -> Tensor:
        """The sum over at least one block, `[*batch, d_hidden, d_hidden]`."""
        assert self._sum is not None
        return self._sum if self._mirrored else self._sum.triu_() + self._sum.triu(1).mT


def frame_operator(blocks: Iterable[Tensor]) -> Tensor:
    """Sum `Xᵀ X` over at least one block of rows, in its dtype: `M = Wᵀ W`, `[*batch, d_hidden, d_hidden]`."""
    result = FrameSum()
    for block in blocks:
        result.add(block)
    return result.total()


def largest_eigenvalue_bound(operator: Tensor) -> Tensor:
    """An upper bound on `λ_max(M)`, at most `rank^(1/8)` times it: `tr M · ‖(M / tr M)⁴‖_F^(1/4)`."""
    operator = operator.detach()
    trace = operator.diagonal(dim1=-2, dim2=-1).sum(-1)
    power = operator / torch.where(trace > 0, trace, 1.0)[..., None, None]
    for _ in range(2):
        power = power @ power
    norm: Tensor = torch.linalg.matrix_norm(power)
    return trace * norm.pow(0.25)


def ratio(own: Tensor, spent: Tensor) -> Tensor:
    """`own² / spent` without squaring a small number; 0 where nothing is spent. Clamps rounding above 1."""
    positive = spent > 0
    return torch.where(positive, own * (own / torch.where(positive, spent, 1.0)), 0.0).clamp(max=1.0)


@dataclass(frozen=True)
class Spectrum:
    """Right singular vectors of `W` and its singular values, largest first.

    Attributes:
        singular_values: `σ_k`, the roots of the eigenvalues of `M`, `[*batch, k]` for the `k = min(n_features,
            d_hidden)` that can differ from 0, float64.
        directions: orthonormal columns `[*batch, d_hidden, k]`, float64.
        tolerance: directions with `σ_k ≤ tolerance · σ_1` count as absent.
    """

    singular_values: Tensor
    directions: Tensor
    tolerance: float

    @property
    def present(self) -> Tensor:
        """Which directions count as present, bool `[*batch, k]`."""
        return self.singular_values > self.tolerance * self.top

    @property
    def rank(self) -> Tensor:
        """Number of present directions, int64 `[*batch]`."""
        return self.present.sum(-1)

    def coordinates(self, units: Tensor) -> Tensor:
        """Unit rows in the basis of the singular directions."""
        return units @ self.directions

    @property
    def top(self) -> Tensor:
        """`σ_1`, or 1 where all singular values are 0, `[*batch, 1]`."""
        largest = torch.nn.functional.pad(self.singular_values, (0, 1)).amax(-1, keepdim=True)
        return torch.where(largest > 0, largest, 1.0)

    @property
    def _relative(self) -> Tensor:
        """`σ_k / σ_1`."""
        return self.singular_values / self.top

    @property
    def _inverse(self) -> Tensor:
        """`σ_1 / σ_k` of present directions, 0 of absent ones."""
        return torch.where(self.present, 1 / torch.where(self.present, self._relative, 1.0), 0.0)

    @property
    def pseudo_inverse(self) -> Tensor:
        """`M⁺`, `[*batch, d_hidden, d_hidden]`."""
        whitening = self.directions * (self._inverse / self.top)[..., None, :]
        return whitening @ whitening.mT

    def forms(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """`W_iᵀ M W_i / σ_1²` and `σ_1² W_iᵀ M⁺ W_i` of rows whose squares float64 can hold."""
        weights = torch.stack((self._relative, self._inverse), -1).square()
        response, whitened = (self.coordinates(rows).square_() @ weights).unbind(-1)
        return response, whitened

    def _response(self, coordinates: Tensor) -> Tensor:
        """`√(u_iᵀ M u_i) / σ_1`."""
        response: Tensor = torch.linalg.vector_norm(coordinates * self._relative[..., None, :], dim=-1)
        return response

    def condition(self, coordinates: Tensor) -> Tensor:
        """`κ_i = σ_1² |W_i|² / (W_iᵀ M W_i)`, infinite for zero rows."""
        return self._response(coordinates).pow(-2)

    def capacity(self, own: Tensor, coordinates: Tensor) -> Tensor:
        """`own² / (u_iᵀ M u_i)`; `own = |W_i|` for a feature's capacity."""
        response = self._response(coordinates)
        return (own / self.top / torch.where(response > 0, response, 1.0)).square().clamp(max=1.0)

    def leverage(self, norm: Tensor, coordinates: Tensor) -> Tensor:
        """`ℓ_i = W_iᵀ M⁺ W_i` in [0, 1] of rows with these norms and coordinates."""
        whitened: Tensor = torch.linalg.vector_norm(coordinates * self._inverse[..., None, :], dim=-1)
        return (norm / self.top * whitened).square().clamp(max=1.0)


def polar(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Norms and unit rows, free of overflow and underflow; zero rows stay zero."""
    if not rows.shape[-1]:
        return rows.new_zeros(rows.shape[:-1]), rows
    largest = rows.detach().abs().amax(-1, keepdim=True)
    positive = largest > 0
    scaled = rows / torch.where(positive, largest, 1.0)
    norm = torch.linalg.vector_norm(torch.where(positive, scaled, 1.0), dim=-1, keepdim=True)
    return (largest * torch.where(positive, norm, 0.0))[..., 0], scaled / norm


def rank_tolerance(n_features: int, d_hidden: int, dtype: torch.dtype) -> float:
    """Relative size of singular values that rounding of a `[n_features, d_hidden]` matrix in `dtype` produces.

    `ε (√n_features + √d_hidden)`: independent rounding errors of relative size ε form a noise matrix of about
    this norm, where the `max(n, d) ε` of common practice would drop real directions of a long dictionary.
    """
    return float(torch.finfo(dtype).eps) * (math.sqrt(n_features) + math.sqrt(d_hidden))


def spectrum(rows: RowBlocks, *, exact: bool = False, work: Work | None = None) -> Spectrum:
    """The spectrum of `M` from one pass over the rows.

    Eigenvalues of `M` are known to `ε λ_max`, so a singular value below `1e-4 σ_1` has fewer than eight digits and
    one below `1e-8 σ_1` none. Where rows are stored more precisely than that and a direction is that faint, where
    squares would leave float64's range, or where `exact` is asked for, the singular values come from the triangular
    factor of `W` instead (a second pass, at Householder cost).

    Fewer rows than dimensions are first written in a basis of their span, as a square matrix: then memory is that of
    the rows, and not of `M`.

    Args:
        rows: the matrix, read block by block in float64.
        exact: always use the triangular factor.
        work: where work is expected and counted.

    Returns:
        Singular values and directions, float64.
    """
    *batch, n_features, d_hidden = rows.shape
    if not n_features * d_hidden:
        nothing = torch.zeros(*batch, d_hidden, 0, dtype=torch.float64)
        return Spectrum(nothing.new_zeros(*batch, 0), nothing, 0.0)
    work = work or Work()
    tolerance = rank_tolerance(n_features, d_hidden, rows.dtype)
    wide = n_features < d_hidden
    work.expect((1 + wide) * (n_features + DECOMPOSITION_ROWS * min(n_features, d_hidden)))
    if not wide:
        return _tall_spectrum(rows, tolerance, exact, work)
    basis, factor = torch.linalg.qr(torch.cat(list(work.over(_float64(rows))), -2).mT)
    work.did(DECOMPOSITION_ROWS * n_features)
    within = _tall_spectrum(TensorRows(factor.mT), tolerance, exact, work)
    return replace(within, directions=basis @ within.directions)


def _tall_spectrum(rows: RowBlocks, tolerance: float, exact: bool, work: Work) -> Spectrum:
    """The spectrum where there are at least as many rows as dimensions; a pass and a decomposition are expected."""
    n_features, d_hidden = rows.shape[-2:]
    if not exact:
        operator = frame_operator(work.over(ahead(_float64(rows))))
        diagonal = operator.diagonal(dim1=-2, dim2=-1).amax(-1)
        if bool(((diagonal > 1e-250) & (diagonal < 1e250)).all()):
            result = operator_spectrum(operator, tolerance)
            work.did(DECOMPOSITION_ROWS * d_hidden)
            faint = result.singular_values < 1e-4 * result.singular_values[..., :1]
            if tolerance >= 1e-7 or not bool(faint.any()):
                return result
        work.expect(n_features + DECOMPOSITION_ROWS * d_hidden)
    _, singular_values, directions = torch.linalg.svd(triangular_factor(work.over(_float64(rows))))
    work.did(DECOMPOSITION_ROWS * d_hidden)
    return Spectrum(singular_values, directions.mT, tolerance)


def _float64(rows: RowBlocks) -> Generator[Tensor, None, None]:
    return (block.detach().to(torch.float64) for block in rows.blocks())


def operator_spectrum(operator: Float[Tensor, "*batch d d"], tolerance: float) -> Spectrum:
    """The spectrum read off `M` itself; singular values below `1e-7 σ_1` are beyond its precision."""
    eigenvalues, directions = torch.linalg.eigh(operator.to(torch.float64))
    singular_values = eigenvalues.clamp(min=0).sqrt().flip(-1)
    return Spectrum(singular_values, directions.flip(-1), max(tolerance, 1e-7))


def triangular_factor(blocks: Iterable[Tensor]) -> Tensor:
    """The factor `R` of `W = Q R` (`Rᵀ R = M`) from blocks of rows, without squaring the condition of `W`."""
    factors = reduce(lambda factor, block: _triangle(torch.cat([factor, block], dim=-2)), blocks)
    return _triangle(factors)


def _triangle(rows: Tensor) -> Tensor:
    factor: Tensor = torch.linalg.qr(rows, mode="r").R
    return factor
