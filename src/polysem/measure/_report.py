"""One matrix measured: capacities beside their nulls, and what the comparison says."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem._checks import require, whole
from polysem.measure._capacity import Norm
from polysem.measure._classes import (
    IGNORED_BELOW,
    NEGLIGIBLE_SQUARED_NORM,
    PURE_ABOVE,
    FeatureClass,
    classify,
)
from polysem.measure._frame import LIMIT_DOUBLE, LIMIT_FACTOR, Spectrum, polar, spectrum
from polysem.measure._null import Null, count_per_bin, draw_nulls, relative
from polysem.measure._prepared import PreparedRows
from polysem.measure._rows import RowBlocks, ahead
from polysem.measure._verdict import FEW, as_html, as_text, verdict
from polysem.measure._work import Work

N_BINS = 60


@dataclass(frozen=True, repr=False)
class CapacityReport:
    """Capacity of every feature of one matrix, beside two nulls.

    Attributes:
        n_features, d_hidden: shape of the matrix, features as rows.
        norm: the norm policy used (`"raw"` or `"unit"`), `scaled`: whether a scale was given too.
        capacity, leverage, row_norm: per feature `[n_features]`, float64.
        singular_values: of the matrix, largest first `[d_hidden]`; their squares are the eigenvalues of `M`.
        rank: number of directions beyond rounding.
        isotropic: null of random directions with the observed norms.
        covariance: null of Gaussian rows with the observed second moments.
        edges, histogram: logarithmic bins of capacity and the number of features in each.
        n_zero: zero rows (they own 0); n_beyond_precision: rows whose capacity rounding hides.
    """

    n_features: int
    d_hidden: int
    norm: Norm
    scaled: bool
    capacity: Tensor
    leverage: Tensor
    row_norm: Tensor
    singular_values: Tensor
    rank: int
    isotropic: Null
    covariance: Null
    edges: Tensor
    histogram: Tensor
    n_zero: int
    n_beyond_precision: int

    @property
    def total(self) -> float:
        """`Σ_i C_i`."""
        return float(self.capacity.sum())

    @property
    def efficiency(self) -> float:
        """`Σ_i C_i / rank(W)`; 1 iff the rows fall into orthogonal blocks, each a tight frame. NaN at rank 0."""
        return self.total / self.rank if self.rank else float("nan")

    @property
    def effective_dimension(self) -> float:
        """Participation ratio `(tr M)² / tr M²`: how many directions the rows use, if they used each alike.

        Where all rows have one norm and one capacity, it is the total. 0 for a zero matrix.
        """
        share = relative(self.singular_values).square()
        return float(share.sum().square() / share.square().sum()) if bool(share.any()) else 0.0

    @property
    def in_few_directions(self) -> bool:
        """Whether rows use less than a quarter of the directions that they could span: then capacity counts these."""
        return self.effective_dimension < FEW * self._available

    @property
    def _available(self) -> int:
        """How many directions the rows that are not zero could span."""
        return min(self.n_features - self.n_zero, self.d_hidden)

    @property
    def null(self) -> float:
        """Mean total of the isotropic null."""
        return self.isotropic.mean

    @property
    def interval(self) -> tuple[float, float]:
        """Prediction interval of the isotropic null."""
        return self.isotropic.interval

    @property
    def classes(self) -> Tensor:
        """Code of `FeatureClass` for each feature."""
        return classify(self.capacity, self.row_norm)

    @property
    def counts(self) -> dict[FeatureClass, int]:
        """How many features are ignored, impure and pure."""
        classes = self.classes
        return {kind: int((classes == kind).sum()) for kind in FeatureClass}

    @property
    def verdict(self) -> str:
        """What observed total and both nulls say together, in words."""
        used = (self.effective_dimension, self._available) if self.in_few_directions else None
        return verdict(self.total, self.isotropic, self.covariance, used)

    def table(self) -> list[tuple[str, str]]:
        """The report as labelled lines."""
        d = max(self.d_hidden, 1)

        def null(which: Null) -> str:
            low, high = which.interval
            return (
                f"{which.mean / d:.4f}  ({which.confidence:.0%} interval {low / d:.4f} to {high / d:.4f}, "
                f"{len(which.totals)} draws; analytic {which.analytic / d:.4f})"
            )

        counts = self.counts
        return [
            ("features × dimensions", f"{self.n_features:,} × {self.d_hidden:,}"),
            ("norm policy", self.norm + (", scaled" if self.scaled else "")),
            ("total capacity", f"{self.total:.4f}"),
            ("total / D", f"{self.total / d:.4f}"),
            ("null, random directions", null(self.isotropic)),
            ("null, same second moments", null(self.covariance)),
            ("rank", f"{self.rank:,}"),
            ("efficiency (total / rank)", f"{self.efficiency:.4f}"),
            ("effective dimension", f"{self.effective_dimension:.2f}"),
            (
                "ignored / impure / pure",
                f"{counts[FeatureClass.IGNORED]:,} / {counts[FeatureClass.IMPURE]:,} / {counts[FeatureClass.PURE]:,}"
                f"  (C < {IGNORED_BELOW} or |W|² < {NEGLIGIBLE_SQUARED_NORM} of the largest; C > {PURE_ABOVE})",
            ),
            ("zero rows", f"{self.n_zero:,}"),
            ("rows beyond precision", f"{self.n_beyond_precision:,}"),
        ]

    def __str__(self) -> str:
        return as_text(self.table(), self.verdict)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self.table(), self.verdict)

    def to_dict(self) -> dict[str, object]:
        """The numbers that `table` shows, unrounded, for JSON; per-feature tensors are left out."""
        nulls = {
            null.kind: {"mean": null.mean, "interval": list(null.interval), "analytic": null.analytic}
            for null in (self.isotropic, self.covariance)
        }
        return {
            "n_features": self.n_features,
            "d_hidden": self.d_hidden,
            "norm": self.norm,
            "scaled": self.scaled,
            "total": self.total,
            "total_per_dimension": self.total / max(self.d_hidden, 1),
            "null": nulls,
            "confidence": self.isotropic.confidence,
            "draws": len(self.isotropic.totals),
            "rank": self.rank,
            "efficiency": self.efficiency,
            "effective_dimension": self.effective_dimension,
            **{f"n_{kind.name.lower()}": count for kind, count in self.counts.items()},
            "n_zero": self.n_zero,
            "n_beyond_precision": self.n_beyond_precision,
            "verdict": self.verdict,
        }


def report(
    W: Float[Tensor, "n_features d_hidden"] | RowBlocks,
    *,
    norm: Norm = "raw",
    scale: Tensor | None = None,
    draws: int = 8,
    seed: int = 0,
    confidence: float = 0.95,
    watch: Callable[[float], None] | None = None,
) -> CapacityReport:
    """Measure every feature of a matrix and compare the total with two nulls.

    Everything is read off the spectrum of `M = Wᵀ W = V Σ² Vᵀ`: with `y_i = W_i V`,
    `C_i = |y_i|⁴ / Σ_k σ_k² y_ik²` and `ℓ_i = Σ_k y_ik² / σ_k²`. Two passes over the rows (two more where a row needs
    more than float64 products, see `capacity`), and two products of the matrix's size for each draw of each null.
    Memory beyond the results is `O(D min(N, D))`: rows are read block by block, and held where they are fewer than
    dimensions.

    Args:
        W: embeddings, features as rows; a tensor or a source of row blocks (a matrix in a file, say).
        norm: `"raw"` takes rows as they are, `"unit"` divides each by its norm first.
        scale: activation scale of each feature `[n_features]`, multiplied to the rows after `norm`.
        draws: random matrices per null, at least 2.
        seed: seeds the draws; equal seeds give equal reports.
        confidence: level of the nulls' prediction intervals.
        watch: called after every block of rows (of at most 32 MiB where `W` is a tensor) and after what is not done in
            blocks, the decomposition of `M`, with the share of the work that is done, which ends at 1. What it raises
            ends the measurement.

    Returns:
        A report that prints as a table in a terminal and in a notebook.

    Raises:
        TypeError: `W` is neither.
        ValueError: an argument out of range, or a NaN or infinity (the first bad row is named).

    Example:
        >>> W = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])
        >>> result = report(W)
        >>> round(result.total, 12), result.rank, round(result.efficiency, 12)
        (2.0, 2, 1.0)

    Source: ours; capacity after Scherlis et al. 2022.
    """
    rows = PreparedRows.of(W, norm, scale)
    n_features, d_hidden = rows.shape
    draws, seed = whole("draws", draws, 2), whole("seed", seed, 0)
    require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
    if scale is not None:
        require(tuple(scale.shape) == (n_features,), "scale", tuple(scale.shape), f"of shape ({n_features},)")

    work = Work(watch)
    work.expect((1 + 2 * draws) * n_features)  # and what the spectrum adds
    frame = spectrum(rows, work=work)
    capacity, leverage, row_norm, condition = _measure(rows, frame, work, exact=False)
    zero = row_norm == 0
    beyond = ~(condition <= LIMIT_DOUBLE) & ~zero
    if bool(beyond.any()):
        work.expect(n_features)
        exact, _, _, condition = _measure(rows, spectrum(rows, exact=True, work=work), work, exact=True)
        capacity = torch.where(beyond, exact, capacity)
        beyond &= ~(condition <= LIMIT_FACTOR)
    edges = _edges(capacity)
    singular_values = torch.nn.functional.pad(frame.singular_values, (0, d_hidden - len(frame.singular_values)))
    isotropic, covariance = draw_nulls(
        row_norm, singular_values, edges, draws=draws, seed=seed, confidence=confidence, work=work
    )
    result = CapacityReport(
        n_features=n_features,
        d_hidden=d_hidden,
        norm=norm,
        scaled=scale is not None,
        capacity=capacity,
        leverage=leverage,
        row_norm=row_norm,
        singular_values=singular_values,
        rank=int(frame.rank),
        isotropic=isotropic,
        covariance=covariance,
        edges=edges,
        histogram=count_per_bin(capacity, edges),
        n_zero=int(zero.sum()),
        n_beyond_precision=int(beyond.sum()),
    )
    work.end()
    return result


def _measure(rows: RowBlocks, frame: Spectrum, work: Work, *, exact: bool) -> Tensor:
    """Capacity, leverage, norm and condition of each row `[4, n_features]`; faster where squares serve, unless `exact`.

    One tensor takes all: small ones that stay, made between large ones that go, would keep the heap from shrinking.
    """
    measured = torch.zeros(4, rows.shape[0], dtype=torch.float64, device=frame.directions.device)
    start = 0
    for block in work.over(ahead(rows.blocks())):
        capacity, leverage, row_norm, condition = measured[:, start : start + len(block)]
        norm = torch.linalg.vector_norm(block, dim=-1)
        if not exact and _squares_serve(block, norm):
            response, whitened = frame.forms(block)
            condition[:] = norm.square() / response
            capacity[:] = torch.where(response > 0, (norm / frame.top).square() * condition, 0.0).clamp(max=1.0)
            leverage[:] = (whitened / frame.top.square()).clamp(max=1.0)
        else:
            norm, units = polar(block)
            coordinates = frame.coordinates(units)
            condition[:] = frame.condition(coordinates)
            capacity[:] = frame.capacity(norm, coordinates)
            leverage[:] = frame.leverage(norm, coordinates)
        row_norm[:] = norm
        start += len(block)
    return measured


def _squares_serve(block: Tensor, norm: Tensor) -> bool:
    """Whether squares of rows with these norms keep their digits in float64."""
    inside = (norm > 1e-140) & (norm < 1e140)
    return bool(inside.all()) or not bool(block[~inside].any())


def _edges(capacity: Tensor) -> Tensor:
    """Logarithmic bins from the decade of the smallest positive capacity (at least 1e-8) to 1."""
    positive = capacity[capacity > 0]
    smallest = float(positive.min()) if len(positive) else 0.1
    lowest = min(max(torch.tensor(smallest).log10().floor().item(), -8.0), -1.0)
    return torch.logspace(lowest, 0, N_BINS + 1, dtype=torch.float64, device=capacity.device)
