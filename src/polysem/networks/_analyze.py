"""Capacity of a matrix in a file."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

from polysem.measure import CapacityReport, Norm, report
from polysem.networks._files import load


@dataclass(frozen=True)
class Analysis:
    """What was measured, and where it lies.

    Attributes:
        path: the file.
        tensor: name of the matrix in it.
        stored_shape: shape as stored.
        features: whether the stored `"rows"` or `"columns"` were read as features.
        report: the measurements.
    """

    path: Path
    tensor: str
    stored_shape: tuple[int, int]
    features: Literal["rows", "columns"]
    report: CapacityReport


def analyze(
    path: str | PathLike[str],
    tensor: str,
    *,
    features: Literal["rows", "columns"] = "rows",
    norm: Norm = "raw",
    draws: int = 8,
    seed: int = 0,
) -> Analysis:
    """Measure the capacity of every feature of a matrix in a weight file, without holding the matrix in memory.

    `C_i = |W_i|⁴ / (W_iᵀ M W_i)` with the null baselines of `polysem.measure.report`; the file is read twice.

    Args:
        path: a `.safetensors`, `.pt`, `.npy` or `.npz` file.
        tensor: name of the matrix.
        features: whether its stored rows or columns are features. It is never inferred: rows are the convention of
            embeddings and of SAE decoders `W_dec[d_sae, d_in]`, columns that of `nn.Linear` decoders.
        norm: `"raw"` takes features as they are, `"unit"` divides each by its norm first.
        draws: random matrices per null.
        seed: seeds them.

    Returns:
        The report, with what it was measured on.

    Raises:
        WeightFileError: the file or the matrix cannot be read.
        ValueError: an argument out of range, or a NaN or infinity (the first bad row is named).

    Example:
        >>> import tempfile, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "W.npy"
        ...     np.save(path, np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 2.0]]))
        ...     found = analyze(path, "W", features="columns")
        >>> [round(c, 6) for c in found.report.capacity.tolist()]
        [0.5, 0.5, 1.0]

    Source: ours; capacity after Scherlis et al. 2022.
    """
    file = load(path)
    matrix = file.matrix(tensor)
    measured = report(matrix.rows_of(features), norm=norm, draws=draws, seed=seed)
    return Analysis(file.path, tensor, matrix.shape, features, measured)
