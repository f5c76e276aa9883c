"""The few numbers that sum up one matrix, cheap enough to be taken while it is trained."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polysem._checks import finite_rows
from polysem.measure import FeatureClass, Norm, capacity, classify, isotropic_total


@dataclass(frozen=True)
class Summary:
    """What one measurement keeps of a matrix of `n_features` rows.

    Attributes:
        capacity: of each feature, `[n_features]`, float64, on the CPU.
        d_hidden: length of a row.
        null: plug-in total of random directions with the same norms.
        effective_rank: `(tr M)² / tr M²`, how many directions the rows use as if evenly; 0 without a nonzero row.
        n_ignored, n_impure, n_pure: how many features are what.
    """

    capacity: Tensor
    d_hidden: int
    null: float
    effective_rank: float
    n_ignored: int
    n_impure: int
    n_pure: int

    @property
    def total(self) -> float:
        """`Σ_i C_i`."""
        return float(self.capacity.sum())

    def numbers(self) -> dict[str, float]:
        """All of it that is one number, by name."""
        return {
            "total": self.total,
            "total_per_dimension": self.total / max(self.d_hidden, 1),
            "null_per_dimension": self.null / max(self.d_hidden, 1),
            "effective_rank": self.effective_rank,
            "n_ignored": self.n_ignored,
            "n_impure": self.n_impure,
            "n_pure": self.n_pure,
        }


def work(n_features: int, d_hidden: int) -> int:
    """Multiply-adds that `summarise` takes, about."""
    if 2 * n_features <= d_hidden:
        return n_features**2 * d_hidden + 4 * n_features**3
    return 2 * n_features * d_hidden**2 + 2 * d_hidden**3


@torch.no_grad()
def summarise(rows: Float[Tensor, "n_features d_hidden"], norm: Norm = "raw") -> Summary:
    """Measure rows on their device, without a graph; nothing but capacities and norms leaves it.

    `tr M² = Σ_i a_i² / C_i` with `a_i = |W_i|²`, so the effective rank needs no product beyond those of capacity.
    """
    finite_rows("W", rows)
    C = capacity(_turned(rows), norm=norm).cpu().double()
    row_norm = torch.linalg.vector_norm(rows, dim=-1, dtype=torch.promote_types(rows.dtype, torch.float32))
    row_norm = row_norm.cpu().double()
    if norm == "unit":
        row_norm = (row_norm > 0).double()
    kinds = classify(C, row_norm)
    n_ignored, n_impure, n_pure = (int((kinds == kind).sum()) for kind in FeatureClass)
    null = isotropic_total(row_norm, rows.shape[-1])
    return Summary(C, rows.shape[-1], null, _effective_rank(C, row_norm), n_ignored, n_impure, n_pure)


def _turned(rows: Tensor) -> Tensor:
    """Few rows in many dimensions: the same inner products in as many dimensions as there are rows."""
    n_features, d_hidden = rows.shape
    return rows if 2 * n_features > d_hidden else torch.linalg.qr(rows.double().mT, mode="r").R.mT


def _effective_rank(C: Tensor, row_norm: Tensor) -> float:
    there = C > 0
    squared = (row_norm[there] / row_norm.max()).square() if bool(there.any()) else row_norm[there]
    return float(squared.sum().square() / (squared.square() / C[there]).sum()) if len(squared) else 0.0
