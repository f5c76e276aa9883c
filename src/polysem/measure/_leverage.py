"""Leverage: the largest capacity a feature could have, given the directions that all features span."""

import torch
from jaxtyping import Float
from torch import Tensor

from polysem._checks import matrix
from polysem.measure._frame import polar, spectrum
from polysem.measure._rows import TensorRows


def leverage(W: Float[Tensor, "*batch n_features d_hidden"]) -> Float[Tensor, "*batch n_features"]:
    """Leverage score of each feature, the upper bound on its capacity.

    `ℓ_i = W_iᵀ M⁺ W_i`, `C_i ≤ ℓ_i ≤ 1`, `Σ_i ℓ_i = rank(W)`; equality `C_i = ℓ_i` iff `W_i` is an eigenvector of
    `M`. It is also the response capacity of feature i under the optimal linear readout `V = W M⁺` of independent
    unit-variance features.

    Directions with singular value at most `ε (√n_features + √d_hidden) σ_1` (ε of the input's dtype) are rounding
    and count as absent. Differentiable while the rank does not change.

    Args:
        W: embeddings, features as rows, each at its activation scale.

    Returns:
        Leverages in [0, 1], dtype at least float32, computed in float64.

    Raises:
        TypeError: `W` is not a real floating-point tensor.
        ValueError: `W` has fewer than two axes or a NaN or infinity (the first bad row is named).

    Example:
        >>> leverage(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])).tolist()
        [0.20000000298023224, 0.800000011920929, 1.0]

    Source: ours, by Cauchy-Schwarz in the metric of `M`.
    """
    W = matrix("W", W)
    result_dtype = torch.promote_types(W.dtype, torch.float32)
    if not W.numel():
        return W.new_zeros(W.shape[:-1], dtype=result_dtype)
    with torch.no_grad():
        frame = spectrum(TensorRows(W))
        norm, units = polar(W.to(torch.float64))
        result = frame.leverage(norm, frame.coordinates(units))
    if torch.is_grad_enabled() and W.requires_grad:
        # P = M⁺ held fixed: 2 WᵀPW − WᵀP M PW has the value WᵀPW, because PMP = P, and its derivative too.
        rows = W.to(torch.float64)
        projected = rows @ frame.pseudo_inverse
        first_order = 2 * (projected * rows).sum(-1) - ((projected @ (rows.mT @ rows)) * projected).sum(-1)
        result = result + first_order - first_order.detach()
    return result.to(result_dtype)
