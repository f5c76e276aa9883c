"""The quadratic toy model, one feature at a time: loss, marginal benefit and best norm at a given capacity."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks


def loss(v: object, kurtosis: object, C: object) -> Float[Tensor, "*shape"]:
    """Least loss a feature of the quadratic model can have at a given capacity.

        L_i(C) = 2 (F_i − 1) v_i² (1 − C) / (2 + (F_i − 3) C)

    A feature with F = 1 costs nothing at any capacity.

    Args:
        v: non-negative coefficients of the target `Σ v_i x_i²`, any shape; the loss has the unit of `v²`.
        kurtosis: kurtosis F_i of the inputs, at least 1, any shape that broadcasts with `v`.
        C: capacities in [0, 1], any shape that broadcasts with both.

    Returns:
        Float64 losses in the common shape, one per feature, differentiable in `C`.

    Raises:
        ValueError: `v` negative or not finite, `kurtosis` below 1 or not finite, `C` outside [0, 1], or shapes
            that do not broadcast.
        TypeError: something that is not a number, an array or a tensor.

    Example:
        >>> from polysem.theory import loss
        >>> loss(1.0, 5.0, [0.0, 0.5, 1.0])
        tensor([4.0000, 1.3333, 0.0000], dtype=torch.float64)

    Source: Scherlis et al. 2022, section 2.
    """
    v, kurtosis, C = _arguments(v, kurtosis, C)
    return weighted_loss(v, kurtosis, C)


def marginal_benefit(v: object, kurtosis: object, C: object) -> Float[Tensor, "*shape"]:
    """How much loss the next bit of capacity removes.

        −dL_i/dC = 2 v_i² (F_i − 1)² / (2 + (F_i − 3) C)²  =  2 (a_i(C) / C)²

    It increases with C for F < 3, is constant at F = 3 and diminishes for F > 3.

    Args:
        v: non-negative coefficients of the target, any shape; the benefit has the unit of `v²`.
        kurtosis: kurtosis F_i of the inputs, at least 1, any shape that broadcasts with `v`.
        C: capacities in [0, 1], any shape that broadcasts with both.

    Returns:
        Float64 benefits in the common shape; 0 where F = 1.

    Raises:
        ValueError: as for `loss`.
        TypeError: as for `loss`.

    Example:
        >>> from polysem.theory import marginal_benefit
        >>> marginal_benefit(1.0, [2.0, 3.0, 5.0], [[0.0], [1.0]])
        tensor([[0.5000, 2.0000, 8.0000],
                [2.0000, 2.0000, 2.0000]], dtype=torch.float64)

    Source: Scherlis et al. 2022, section 2; the second form is ours.
    """
    v, kurtosis, C = _arguments(v, kurtosis, C)
    slope = v * _slope(kurtosis, C)
    return 2 * slope * slope


def optimal_norm(v: object, kurtosis: object, C: object) -> Float[Tensor, "*shape"]:
    """Squared embedding norm at which a feature of given capacity has its least loss.

        a_i(C) = (F_i − 1) v_i C / (2 + (F_i − 3) C)

    A feature with F = 1 is worth no norm at all: 0.

    Args:
        v: non-negative coefficients of the target, any shape; the squared norm has the unit of `v`.
        kurtosis: kurtosis F_i of the inputs, at least 1, any shape that broadcasts with `v`.
        C: capacities in [0, 1], any shape that broadcasts with both.

    Returns:
        Float64 squared norms `|W_i|²` in the common shape.

    Raises:
        ValueError: as for `loss`.
        TypeError: as for `loss`.

    Example:
        >>> from polysem.theory import optimal_norm
        >>> optimal_norm(2.0, 5.0, [0.0, 0.5, 1.0])
        tensor([0.0000, 1.3333, 2.0000], dtype=torch.float64)

    Source: ours; the minimum over `a_i` of the quadratic model's loss at fixed capacity.
    """
    v, kurtosis, C = _arguments(v, kurtosis, C)
    return best_norm(v, kurtosis, C)


def weighted_loss(v: Tensor, kurtosis: Tensor, C: Tensor) -> Float[Tensor, "*shape"]:
    """`loss` for arguments that are known to be valid."""
    # v last, twice: a vanishing factor in front keeps v² from overflowing first.
    return _slope(kurtosis, C) * (2 * (1 - C)) * v * v


def best_norm(v: Tensor, kurtosis: Tensor, C: Tensor) -> Float[Tensor, "*shape"]:
    """`optimal_norm` for arguments that are known to be valid."""
    return v * (_slope(kurtosis, C) * C)


def importances(v: object) -> Float[Tensor, "*shape"]:
    """Coefficients as float64, none negative or infinite."""
    result = _checks.as_float64("v", v)
    _checks.require(bool((result.isfinite() & (result >= 0)).all()), "v", v, "non-negative and finite")
    return result


def kurtoses(kurtosis: object) -> Float[Tensor, "*shape"]:
    """Kurtosis as float64, none below 1 (no distribution has less) or infinite."""
    result = _checks.as_float64("kurtosis", kurtosis)
    allowed = "finite and at least 1, as every distribution's is"
    _checks.require(bool((result.isfinite() & (result >= 1)).all()), "kurtosis", kurtosis, allowed)
    return result


def broadcast(**tensors: Tensor) -> list[Tensor]:
    """The tensors in their common shape, else a ValueError that names them and their shapes.

    What lies on the CPU, as plain numbers do, follows the others to their device.
    """
    try:
        shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors.values()))
    except ValueError as error:
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"shapes must broadcast, got {shapes}") from error
    device = max((tensor.device for tensor in tensors.values()), key=lambda device: device.type != "cpu")
    return [tensor.to(device).expand(shape) for tensor in tensors.values()]


def _slope(kurtosis: Tensor, C: Tensor) -> Float[Tensor, "*shape"]:
    """`(F − 1) / (2 + (F − 3) C)`: the squared norm per capacity and unit of v; 0 where F = 1."""
    # Written so, the denominator has no cancellation; it vanishes only at F = C = 1.
    denominator = 2 * (1 - C) + (kurtosis - 1) * C
    worthless = kurtosis == 1
    return torch.where(worthless, 0.0, (kurtosis - 1) / torch.where(worthless, 1.0, denominator))


def _arguments(v: object, kurtosis: object, C: object) -> list[Tensor]:
    capacity = _checks.as_float64("C", C)
    _checks.require(bool(((capacity >= 0) & (capacity <= 1)).all()), "C", C, "in [0, 1]")
    return broadcast(v=importances(v), kurtosis=kurtoses(kurtosis), C=capacity)
