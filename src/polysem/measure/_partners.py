"""Whom a feature shares its dimensions with: its strongest partners, found block by block."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from polysem._checks import require, whole
from polysem.measure._capacity import Norm
from polysem.measure._frame import polar
from polysem.measure._prepared import PreparedRows
from polysem.measure._rows import RowBlocks, ahead
from polysem.measure._work import Work


@dataclass(frozen=True)
class Partners:
    """The features that interfere most with each of some features.

    Attributes:
        feature: row of each feature that was asked for `[n]`.
        capacity: its capacity, the share that it has itself in the sum of which the partners have the rest.
        index: rows of its partners, the strongest first `[n, k]`.
        cosine: between the feature and each partner.
        share: of `Σ_j (W_i·W_j)²` that each partner takes.
    """

    feature: Int[Tensor, " n"]
    capacity: Float[Tensor, " n"]
    index: Int[Tensor, "n k"]
    cosine: Float[Tensor, "n k"]
    share: Float[Tensor, "n k"]


def partners(
    W: Float[Tensor, "n_features d_hidden"] | RowBlocks,
    features: Sequence[int] | Int[Tensor, " n"],
    *,
    k: int = 10,
    norm: Norm = "raw",
    watch: Callable[[float], None] | None = None,
) -> Partners:
    """Find the features with which some features share their dimensions.

        share_ij = (W_i·W_j)² / Σ_j (W_i·W_j)²          C_i = share_ii,  1 - C_i = Σ_{j≠i} share_ij

    Two passes over the rows; memory `O(n (k + d_hidden))` beyond a block, never `n_features²`. Rows that are alike
    count each: a feature that occurs twice has a partner with its own share.

    Args:
        W: embeddings, features as rows; a tensor or a source of row blocks (a matrix in a file, say).
        features: the rows to find partners of.
        k: how many for each; fewer where the matrix has fewer other rows.
        norm: `"raw"` takes rows as they are, `"unit"` divides each by its norm first.
        watch: called after every block of rows with the share of the work that is done, which ends at 1. What it raises
            ends the search.

    Returns:
        Rows, cosines and shares of the partners, float64. A zero row has no share, nor has anybody in it.

    Raises:
        TypeError: `W` is neither.
        ValueError: rows that the matrix does not have, no partners asked for, or a NaN or infinity.

    Example:
        An antipodal pair, and a third feature that leans on its second member:

        >>> W = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-1.0, 1.0]])
        >>> found = partners(W, [2], k=2)
        >>> found.index.tolist(), [round(c, 4) for c in found.cosine[0].tolist()]
        ([[0, 1]], [-0.7071, 0.7071])
        >>> found.capacity, found.share
        (tensor([0.6667], dtype=torch.float64), tensor([[0.1667, 0.1667]], dtype=torch.float64))

    Source: ours; capacity after Scherlis et al. 2022.
    """
    rows = PreparedRows.of(W, norm)
    n_features, d_hidden = rows.shape
    wanted = torch.as_tensor(features).reshape(-1)
    known = not wanted.is_floating_point() and bool(((wanted >= 0) & (wanted < n_features)).all())
    require(known, "features", features, f"rows from 0 to {n_features - 1}")
    n, k = len(wanted), min(whole("k", k), max(n_features - 1, 0))
    work = Work(watch)
    work.expect(2 * n_features)

    own = torch.zeros(n, d_hidden, dtype=torch.float64)
    largest, start = torch.zeros((), dtype=torch.float64), 0
    for block in work.over(ahead(rows.blocks())):
        row_norm, units = polar(block)
        here = (wanted >= start) & (wanted < start + len(block))
        own = own.to(units)
        own[here] = units[wanted[here] - start]
        largest = torch.maximum(largest.to(row_norm), row_norm.amax())
        start += len(block)

    spent, own_share = own.new_zeros(n), own.new_zeros(n)
    index = torch.full((n, k), n_features, device=own.device)
    overlap, cosine, start = own.new_full((n, k), -1.0), own.new_zeros(n, k), 0
    for block in work.over(ahead(rows.blocks())):
        row_norm, units = polar(block)
        cosines = own @ units.mT
        squared = (cosines * (row_norm / torch.where(largest > 0, largest, 1.0))).square()
        spent += squared.sum(-1)
        here = ((wanted >= start) & (wanted < start + len(block))).nonzero()[:, 0]
        own_share[here] = squared[here, wanted[here] - start]
        squared[here, wanted[here] - start] = -1.0  # nobody is a partner of its own
        order = torch.arange(start, start + len(block), device=own.device).expand(n, -1)
        overlap = torch.cat((overlap, squared), -1)
        overlap, best = overlap.topk(k, -1)
        cosine = torch.cat((cosine, cosines), -1).gather(-1, best)
        index = torch.cat((index, order), -1).gather(-1, best)
        start += len(block)
    sees = spent > 0
    spent = torch.where(sees, spent, 1.0)
    work.end()
    return Partners(wanted, own_share / spent, index, cosine.clamp(-1, 1), overlap.clamp(min=0) / spent[:, None])
