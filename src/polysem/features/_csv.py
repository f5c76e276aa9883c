"""Importances and sparsities of features from a table."""

import csv
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

COLUMNS = ("importance", "kurtosis", "feature_probability")


@dataclass(frozen=True)
class FeatureTable:
    """Columns of a table of features; `None` where the table has no such column.

    Attributes:
        importance: `[n_features]`, non-negative.
        kurtosis: `[n_features]`, or None.
        feature_probability: `[n_features]`, or None.
    """

    importance: Tensor
    kurtosis: Tensor | None
    feature_probability: Tensor | None


def read_csv(path: str | PathLike[str]) -> FeatureTable:
    r"""Read features from a CSV file with a header: a column `importance`, and `kurtosis` or `feature_probability`.

    Other columns are passed over. One row is one feature.

    Args:
        path: the file, UTF-8.

    Returns:
        The columns, float64.

    Raises:
        ValueError: the file cannot be read, has no such header or no rows, or a cell is no number (its line is
            named).

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "features.csv"
        ...     _ = path.write_text("name,importance,kurtosis\na,1.0,20\nb,0.5,10\n")
        ...     table = read_csv(path)
        >>> table.importance.tolist(), table.kurtosis.tolist(), table.feature_probability
        ([1.0, 0.5], [20.0, 10.0], None)

    Source: ours.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a CSV file (not UTF-8 text)") from error
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    header = [name.strip() for name in reader.fieldnames or ()]
    if "importance" not in header:
        raise ValueError(f"{path}: the header must have a column 'importance', got {header}")
    if {"kurtosis", "feature_probability"} <= set(header):
        raise ValueError(f"{path}: give 'kurtosis' or 'feature_probability', not both")
    reader.fieldnames = header
    columns: dict[str, list[float]] = {name: [] for name in COLUMNS if name in header}
    for row in reader:
        for name, values in columns.items():
            cell = row[name]
            try:
                values.append(float(cell))
            except (TypeError, ValueError):
                raise ValueError(f"{path}, line {reader.line_num}: {name} must be a number, got {cell!r}") from None
    if not columns["importance"]:
        raise ValueError(f"{path}: no rows below the header")
    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()}
    return FeatureTable(tensors["importance"], tensors.get("kurtosis"), tensors.get("feature_probability"))
