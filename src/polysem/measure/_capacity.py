"""Capacity of features and of readouts, in `O(N D min(N, D))` time and `O(D min(N, D))` extra memory."""

import warnings
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from polysem._checks import as_float64, finite_rows, matrix, require
from polysem.measure._frame import (
    LIMIT_DOUBLE,
    LIMIT_FACTOR,
    LIMIT_SINGLE,
    frame_operator,
    largest_eigenvalue_bound,
    polar,
    ratio,
    spectrum,
)
from polysem.measure._rows import TensorRows

Norm = Literal["raw", "unit"]


def capacity(
    W: Float[Tensor, "*batch n_features d_hidden"],
    *,
    norm: Norm = "raw",
    scale: Tensor | None = None,
) -> Float[Tensor, "*batch n_features"]:
    """How much of a dimension each feature owns.

    `C_i = (W_i·W_i)² / Σ_j (W_i·W_j)² = |W_i|⁴ / (W_iᵀ M W_i)` with `M = Wᵀ W`: 0 for an ignored feature, 1 for one
    that is orthogonal to all others, between for a polysemantic one; `Σ_i C_i ≤ rank(W) ≤ d_hidden`.

    Capacity is invariant under rotations of the embedding space and under one global scale, but not under scales of
    single rows: rows must carry their feature's activation scale, hence `norm` and `scale`.

    The second form is evaluated in the working precision; where `κ_i = λ_max(M) |W_i|² / (W_iᵀ M W_i)` says that
    this is not enough it is evaluated again in float64, and where `κ_i > 1e8` from the triangular factor of `W`.
    The result is then within 1e-5 (relative) of exact arithmetic for `κ_i ≤ 1e16`; a RuntimeWarning counts rows
    beyond. Differentiable (in float64 where the value needs it, so to about `2e-16 κ_i`); the gradient at a zero row is
    zero.

    Args:
        W: embeddings, **features as rows** (pass `W.mT` for the other layout). float16 and bfloat16 are computed in
            float32.
        norm: `"raw"` takes rows as they are, `"unit"` divides each by its norm first.
        scale: activation scale of each feature, `[*batch, n_features]`, multiplied to the rows (after `norm`).

    Returns:
        Capacities in [0, 1], dtype at least float32; 0 for zero rows.

    Raises:
        TypeError: `W` is not a real floating-point tensor.
        ValueError: `W` has fewer than two axes or a NaN or infinity (the first bad row is named), `norm` is unknown,
            or `scale` is negative, not finite or of another shape.

    Example:
        Two features share a dimension as an antipodal pair, a third has one of its own:

        >>> W = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])
        >>> capacity(W).tolist()
        [0.5, 0.5, 1.0]

    Source: Scherlis et al. 2022, section 2; the second form and its precision are ours.
    """
    rows = prepare(matrix("W", W), norm, scale)
    result, beyond = _evaluate(rows, rows)
    warn_beyond(beyond, LIMIT_FACTOR)
    return result


def response_capacity(
    embedding: Float[Tensor, "*batch n_features d_hidden"],
    readout: Float[Tensor, "*batch n_features d_hidden"],
) -> Float[Tensor, "*batch n_features"]:
    """Capacity of features that are embedded by one matrix and read by another.

    `C_i = R_ii² / Σ_j R_ij²` with `R = V Wᵀ`, never formed: `Σ_j R_ij² = V_iᵀ M V_i`. `R_ij` is how much readout i
    moves per unit of feature j. `Σ_i C_i ≤ rank(R) ≤ d_hidden`. With `V = W` it is `capacity(W)`, with the optimal
    linear readout `V = W M⁺` of unit-variance features it is `leverage(W)`. Precision as in `capacity`.

    Args:
        embedding: `W`, features as rows, each at its activation scale.
        readout: `V`, readouts as rows; their scales do not matter.

    Returns:
        Capacities in [0, 1], dtype at least float32; 0 for zero readouts.

    Raises:
        TypeError: an argument is not a real floating-point tensor.
        ValueError: shapes differ, or a NaN or infinity (the first bad row is named).

    Example:
        >>> W = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> V = torch.tensor([[1.0, -1.0], [0.0, 1.0]])  # reads each feature without interference
        >>> response_capacity(W, V).tolist()
        [1.0, 1.0]

    Source: ours; it carries capacity over to encoder/decoder pairs, probes and deep networks.
    """
    W, V = matrix("embedding", embedding), matrix("readout", readout)
    require(V.shape == W.shape, "readout", tuple(V.shape), f"of the embedding's shape {tuple(W.shape)}")
    result, beyond = _evaluate(V, W)
    warn_beyond(beyond, LIMIT_FACTOR)
    return result


def prepare(rows: Tensor, norm: Norm, scale: Tensor | None) -> Tensor:
    """Apply the norm policy to rows."""
    require(norm in get_args(Norm), "norm", norm, " or ".join(repr(name) for name in get_args(Norm)))
    if norm == "unit":
        _, rows = polar(rows if rows.dtype == torch.float64 else rows.to(torch.float32))
    if scale is not None:
        factor = scale if isinstance(scale, Tensor) else as_float64("scale", scale)
        require(
            factor.shape == rows.shape[:-1],
            "scale",
            tuple(factor.shape),
            f"of shape {tuple(rows.shape[:-1])}",
        )
        finite_rows("scale", factor[..., None])
        require(bool((factor >= 0).all()), "scale", factor, "non-negative")
        rows = rows * factor.to(rows)[..., None]
    return rows


def _evaluate(readout: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
    """Capacity of each readout, and which of them are beyond what float64 can tell."""
    result_dtype = torch.promote_types(torch.promote_types(readout.dtype, embedding.dtype), torch.float32)
    if not readout.numel():
        empty = readout.new_zeros(readout.shape[:-1], dtype=result_dtype)
        return empty, torch.zeros_like(empty, dtype=torch.bool)
    with torch.autocast(readout.device.type, enabled=False):
        if result_dtype == torch.float32 and _single_precision_serves(readout, embedding):
            result, hard = _operator_form(readout, embedding, torch.float32)
            if not bool(hard.any()):
                return result, hard
        result, hard = _operator_form(readout, embedding, torch.float64)
        if bool(hard.any()):
            exact, beyond = _factor_form(readout, embedding)
            result = torch.where(hard, result + (exact - result).detach(), result)
            hard = hard & beyond
        return result.to(result_dtype), hard


def _operator_form(readout: Tensor, embedding: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`(V_i·W_i)² / Σ_j (V_i·W_j)²`, and which rows need more precision than `dtype` gives."""
    limit, tiny = (LIMIT_SINGLE, 1e-30) if dtype == torch.float32 else (LIMIT_DOUBLE, 1e-280)
    same = readout is embedding
    V_scale, W_scale = (_global_scale(tensor, dtype) for tensor in (readout, embedding))
    # One block where a graph is recorded (it keeps all rows anyway), else blocks of bounded size.
    grad = torch.is_grad_enabled() and (readout.requires_grad or embedding.requires_grad)

    def blocks(tensor: Tensor, scale: Tensor | None) -> Iterator[Tensor]:
        for block in [tensor] if grad else TensorRows(tensor).blocks():
            cast = block.to(dtype)
            yield cast if scale is None else cast * scale

    if embedding.shape[-2] < embedding.shape[-1]:  # then M is larger than W, and W Wᵀ has its eigenvalues
        columns = torch.cat(list(blocks(embedding, W_scale)), -2).mT
        operator = columns.mT @ columns

        def spent_of(V: Tensor) -> Tensor:
            return (V @ columns).square().sum(-1)
    else:
        operator = frame_operator(blocks(embedding, W_scale))

        def spent_of(V: Tensor) -> Tensor:
            return torch.linalg.vecdot(V @ operator, V) if grad else (V @ operator).mul_(V).sum(-1)

    top = largest_eigenvalue_bound(operator)[..., None]
    results, hards = [], []
    for W, V in zip(blocks(embedding, W_scale), blocks(readout, V_scale), strict=True):
        squared_norm = torch.linalg.vecdot(V, V) if grad else torch.linalg.vector_norm(V, dim=-1).square()
        own = squared_norm if same else torch.linalg.vecdot(V, W)
        spent = spent_of(V)
        results.append(ratio(own, spent))
        # Written so that a NaN counts as hard, and a row lost to underflow too; only true zero rows do not.
        hard = ~((top * squared_norm <= limit * spent) & (squared_norm >= tiny))
        hards.append(hard & (V != 0).any(-1) if bool(hard.any()) else hard)
    return torch.cat(results, -1), torch.cat(hards, -1)


def _factor_form(readout: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
    """The same ratio from the triangular factor of `W`, where the error grows with `√κ` instead of `κ`."""
    with torch.no_grad():
        frame = spectrum(TensorRows(embedding), exact=True)
        results, beyond = [], []
        for W, V in zip(TensorRows(embedding).blocks(), TensorRows(readout).blocks(), strict=True):
            _, units = polar(V.to(torch.float64))
            coordinates = frame.coordinates(units)
            own = torch.linalg.vecdot(units, W.to(torch.float64))
            results.append(frame.capacity(own, coordinates))
            beyond.append(~(frame.condition(coordinates) <= LIMIT_FACTOR))
        return torch.cat(results, -1), torch.cat(beyond, -1)


def _global_scale(tensor: Tensor, dtype: torch.dtype) -> Tensor | None:
    """A power of two per matrix that keeps fourth powers in float64's range; float32 takes matrices as they are."""
    if dtype == torch.float32:
        return None
    _, exponent = torch.frexp(_largest(tensor).to(torch.float64))
    return torch.ldexp(torch.ones_like(exponent, dtype=torch.float64), -exponent.clamp(-1000, 1000))[..., None, None]


def _largest(tensor: Tensor) -> Tensor:
    """The largest absolute entry of each matrix."""
    tensor = tensor.detach()
    low, high = tensor.aminmax() if tensor.ndim == 2 else (tensor.amin((-2, -1)), tensor.amax((-2, -1)))
    return torch.maximum(high, -low)


def _single_precision_serves(*matrices: Tensor) -> bool:
    """Whether fourth powers stay in float32's range and products are not rounded to TF32 or bfloat16."""
    try:
        full = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set per backend: not known to be full precision
        full = False
    return full and all(
        bool(((largest > 1e-6) & (largest < 1e6)).all()) for largest in (_largest(m).float() for m in matrices)
    )


def warn_beyond(beyond: Tensor, limit: float) -> None:
    """Warn with the number of rows whose condition is beyond the limit."""
    count = int(beyond.sum())
    if count:
        warnings.warn(
            f"{count} of {beyond.numel()} rows are so faint beside the others (κ > {limit:.0e}) that rounding "
            "hides their capacity",
            RuntimeWarning,
            stacklevel=3,
        )
