"""Importances and sparsities of features from a table."""

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

_COLUMNS: dict[str, tuple[Callable[[float], bool], str]] = {
    "importance": (lambda value: 0 <= value < math.inf, "non-negative and finite"),
    "kurtosis": (lambda value: 1 <= value < math.inf, "at least 1 and finite"),
    "feature_probability": (lambda value: 0 < value <= 1, "in (0, 1]"),
}
"""The columns that are read, and which of their numbers are allowed."""


@dataclass(frozen=True)
class FeatureTable:
    """Columns of a table of features; `None` where the table has no such column.

    Attributes:
        importance: `[n_features]`, non-negative.
        kurtosis: `[n_features]`, at least 1, or None.
        feature_probability: `[n_features]`, in (0, 1], or None.
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
        ValueError: the file cannot be read, has no such header or no rows, or a cell is no number or out of range
            (its line is named).

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
    return parse_csv(text, str(path))


def parse_csv(text: str, name: str = "the table") -> FeatureTable:
    r"""Read features from the text of a CSV table, as `read_csv` does from a file.

    Args:
        text: a header and one row for each feature.
        name: what errors call the table.

    Returns:
        The columns, float64.

    Raises:
        ValueError: as `read_csv`.

    Example:
        >>> parse_csv("importance,kurtosis\n1.0,20\n0.5,10").importance.tolist()
        [1.0, 0.5]

    Source: ours.
    """
    try:
        return _table(name, csv.DictReader(io.StringIO(text), skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(f"{name}: not a CSV file ({error})") from error


def _table(path: str, reader: "csv.DictReader[str]") -> FeatureTable:
    header = [name.strip() for name in reader.fieldnames or ()]
    if "importance" not in header:
        raise ValueError(f"{path}: the header must have a column 'importance', got {header}")
    if {"kurtosis", "feature_probability"} <= set(header):
        raise ValueError(f"{path}: give 'kurtosis' or 'feature_probability', not both")
    columns: dict[str, list[float]] = {name: [] for name in _COLUMNS if name in header}
    for name in columns:
        if header.count(name) > 1:
            raise ValueError(f"{path}: the header must have one column {name!r}, got {header}")
    reader.fieldnames = header
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row:  # under this key a row keeps what goes beyond the header
            raise ValueError(f"{where}: more cells than the header has columns")
        for name, values in columns.items():
            values.append(_number(f"{where}: {name}", row[name], *_COLUMNS[name]))
    if not columns["importance"]:
        raise ValueError(f"{path}: no rows below the header")
    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()}
    return FeatureTable(tensors["importance"], tensors.get("kurtosis"), tensors.get("feature_probability"))


def _number(what: str, cell: str | None, valid: Callable[[float], bool], allowed: str) -> float:
    try:
        value = float(cell or "")
    except ValueError:
        raise ValueError(f"{what} must be a number, got {cell!r}") from None
    if not valid(value):
        raise ValueError(f"{what} must be {allowed}, got {cell}")
    return value
