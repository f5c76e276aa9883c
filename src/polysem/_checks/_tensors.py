"""Checks of tensors."""

import torch
from torch import Tensor

from polysem._checks._numbers import require, short


def floating(argument: str, value: object) -> Tensor:
    """Return the tensor unchanged if it is a real floating-point one, else raise a TypeError."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{argument} must be a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{argument} must have a real floating-point dtype, got {value.dtype}")
    return value


def matrix(argument: str, value: object) -> Tensor:
    """Return a `[*batch, rows, columns]` tensor unchanged if it is floating and finite; else name the first bad row."""
    tensor = floating(argument, value)
    if tensor.ndim < 2:
        raise ValueError(
            f"{argument} must have shape [*batch, n_features, d_hidden] (features are rows), "
            f"got shape {tuple(tensor.shape)}"
        )
    finite_rows(argument, tensor)
    return tensor


def finite_rows(argument: str, rows: Tensor, first_row: int = 0) -> None:
    """Raise a ValueError that names the first row with NaN or infinity; `first_row` is the index of `rows[0]`."""
    # A sum is finite unless an entry is not (or it overflows): one cheap pass decides for nearly every input.
    if bool(torch.isfinite(rows.detach().sum(dtype=torch.promote_types(rows.dtype, torch.float32)))):
        return
    bad = (~torch.isfinite(rows.detach()).all(-1)).nonzero()
    if len(bad):
        index = bad[0].tolist()
        index[-1] += first_row
        where = index[0] if len(index) == 1 else tuple(index)
        raise ValueError(f"{argument} must be finite, got NaN or infinity in row {where} ({len(bad)} such rows)")


def as_float64(argument: str, value: object) -> Tensor:
    """Real numbers, sequences, NumPy arrays and tensors as a float64 tensor; NaN is an error."""
    try:
        if "complex" in str(getattr(value, "dtype", "")):  # of torch or NumPy
            raise TypeError("the imaginary part would be lost")
        result = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{argument} must be a number, an array or a tensor, got {short(value)}") from error
    require(not bool(result.isnan().any()), argument, value, "free of NaN")
    return result
