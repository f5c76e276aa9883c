"""Block-semi-orthogonal geometry: which features share a subspace, and as which polytope."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from polysem._checks import matrix, require
from polysem.measure._classes import NEGLIGIBLE_SQUARED_NORM
from polysem.measure._frame import polar

MAX_POLYTOPE = 24
"""Larger blocks are not compared with polytopes."""


@dataclass(frozen=True)
class Block:
    """Features that interfere with each other and with nobody else.

    Attributes:
        members: indices of the rows, ascending.
        dim: dimension of the subspace they span.
        scale: `λ = tr M_b / dim`; a tight frame has `M_b = λ I` on its span.
        defect: `‖M_b − λ P_b‖_F / ‖M_b‖_F`; 0 for a tight frame (then capacities are `|W_i|² / λ`).
        polytope: name of the polytope that the rows are the vertices of, where known; None otherwise.
    """

    members: tuple[int, ...]
    dim: int
    scale: float
    defect: float
    polytope: str | None


def blocks(
    W: Float[Tensor, "n_features d_hidden"],
    tol: float = 0.01,
    *,
    negligible: float = NEGLIGIBLE_SQUARED_NORM,
) -> list[Block]:
    """Mutually orthogonal groups of features.

    Blocks are the connected components of the graph that joins i and j where `|cos(W_i, W_j)| > tol`. `Σ_i C_i =
    rank(W)` iff every block is semi-orthogonal up to scale: `M_b = λ_b P_b`. A planted structure is found exactly
    while every row is off by at most `tol / 4` of its own norm and all interfering pairs inside a block are linked
    by cosines above `2 tol`.

    A block is named after a polytope only if its rows have equal norms and the cosines of each row are the
    polytope's (to `tol`): antipodal pair, triangle, regular polygon from the pentagon on, simplex (tetrahedron,
    ...), cube, square antiprism. (Square, octahedron and their like fall into orthogonal antipodal pairs.)
    `O(N² D)` time in the worst case, memory `O(N D)`.

    Args:
        W: embeddings, features as rows.
        tol: cosines up to this size count as orthogonal, eigenvalues up to this fraction of the largest as zero.
        negligible: rows with `|W_i|²` below this fraction of the largest belong to no block.

    Returns:
        Blocks in the order of their first members.

    Raises:
        TypeError: `W` is not a real floating-point tensor.
        ValueError: `W` is not a matrix, has a NaN or infinity, or `tol` is not in (0, 1).

    Example:
        >>> W = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])
        >>> [(block.members, block.dim, block.polytope) for block in blocks(W)]
        [((0, 1), 1, 'antipodal pair'), ((2,), 1, None)]

    Source: Scherlis et al. 2022, section on the geometry of the optimum; polytopes after Elhage et al. 2022.
    """
    require(matrix("W", W).ndim == 2, "W", tuple(W.shape), "a matrix [n_features, d_hidden]")
    require(0 < tol < 1, "tol", tol, "between 0 and 1")
    require(0 <= negligible < 1, "negligible", negligible, "at least 0 and below 1")
    rows = W.detach().to(torch.float64)
    norm, units = polar(rows)
    largest = norm.max() if len(norm) else norm.new_zeros(())
    kept = ((norm > 0) & (norm >= math.sqrt(negligible) * largest)).nonzero()[:, 0]
    labels = _components(units[kept], tol)
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []
    found = [_describe(kept[torch.from_numpy(group)], rows, tol) for group in groups]
    return sorted(found, key=lambda block: block.members)


def _components(units: Tensor, tol: float) -> np.ndarray:
    """Label of the connected component of each row, from strips of the Gram matrix."""
    count = len(units)
    labels: np.ndarray = np.arange(count)
    strip = max(1, 4_000_000 // max(1, count))
    for start in range(0, count, strip):
        linked = (units[start : start + strip] @ units.mT).abs() > tol
        first, second = linked.nonzero().cpu().numpy().T
        edges = coo_array((np.ones(len(first), bool), (labels[first + start], labels[second])), shape=(count, count))
        _, merged = connected_components(edges, directed=False)
        labels = merged[labels]
        if not labels.any():
            break
    return labels


def _describe(members: Tensor, rows: Tensor, tol: float) -> Block:
    block = rows[members]
    eigenvalues = torch.linalg.svdvals(block).square()
    dim = int((eigenvalues > tol * eigenvalues[0]).sum())
    scale = float(eigenvalues.sum()) / dim
    off = eigenvalues.clone()
    off[:dim] -= scale
    defect = float(torch.linalg.vector_norm(off) / torch.linalg.vector_norm(eigenvalues))
    return Block(tuple(members.tolist()), dim, scale, defect, _polytope(block, dim, tol))


def _polytope(block: Tensor, dim: int, tol: float) -> str | None:
    """Name of the polytope with these vertices: equal norms, and every row's cosines those of the polytope."""
    count = len(block)
    norm, units = polar(block)
    if not 2 <= count <= MAX_POLYTOPE or float(norm.max() - norm.min()) > tol * float(norm.max()):
        return None
    cosines = (units @ units.mT).sort(-1).values
    for name, profile in _profiles(count, dim):
        if bool(((cosines - torch.tensor(profile).to(cosines).sort().values).abs() <= tol).all()):
            return name
    return None


def _profiles(count: int, dim: int) -> list[tuple[str, list[float]]]:
    """Cosines from one vertex to all, itself included, of the polytopes with so many vertices in that dimension."""
    known: list[tuple[str, list[float]]] = []
    if count == dim + 1:
        names = {1: "antipodal pair", 2: "triangle", 3: "tetrahedron"}
        known.append((names.get(dim, f"{dim}-simplex"), [1.0] + dim * [-1 / dim]))
    if dim == 2 and count > 4:
        names = {5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}
        angles = [math.cos(2 * math.pi * k / count) for k in range(count)]
        known.append((names.get(count, f"{count}-gon"), angles))
    if (count, dim) == (8, 3):
        known.append(("cube", [1.0, *3 * [1 / 3], *3 * [-1 / 3], -1.0]))
        # Two squares at heights ±1/√3, turned by 45°: the antiprism that is a tight frame.
        near, far = -1 / 3 + math.sqrt(2) / 3, -1 / 3 - math.sqrt(2) / 3
        known.append(("square antiprism", [1.0, 1 / 3, 1 / 3, -1 / 3, near, near, far, far]))
    return known
