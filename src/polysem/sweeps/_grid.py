"""Grids: named axes, how they combine, and what is the same in every cell. No torch, no files."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polysem._checks import require, short

Value = int | float | str
"""What an axis takes."""

KEYS = ("axes", "zipped", "fixed")


@dataclass(frozen=True, init=False)
class Grid:
    """Named axes and their values: every combination is a cell, except for axes that are zipped.

    The cells form an array with one dimension for each axis, in the order given, and one for each group of zipped
    axes: they run together, so that the group's k-th cell has the k-th value of each. Such a dimension is called by
    the names of its axes joined by `+`.

    Args:
        axes: name → values: finite numbers or strings, at least one, none twice. A name is a Python identifier.
        zipped: groups of names of axes of equal length.
        fixed: settings that are the same in every cell, anything that JSON can hold.

    Raises:
        ValueError: a name or value that is not allowed; the message names it.

    Example:
        >>> grid = Grid({"ratio": [0.5, 1.0, 2.0], "n_features": [2, 5], "d_hidden": [1, 2], "seed": range(4)},
        ...             zipped=[("n_features", "d_hidden")], fixed={"activation": "relu"})
        >>> grid.dims, grid.shape, grid.n_cells
        (('ratio', 'n_features+d_hidden', 'seed'), (3, 2, 4), 24)
        >>> Grid.from_json(grid.to_json()) == grid
        True

    Source: ours.
    """

    axes: dict[str, tuple[Value, ...]]
    zipped: tuple[tuple[str, ...], ...]
    fixed: dict[str, Any]

    def __init__(
        self,
        axes: Mapping[str, Iterable[Any]],
        *,
        zipped: Iterable[Iterable[str]] = (),
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        require(isinstance(axes, Mapping) and len(axes) > 0, "axes", axes, "a mapping of at least one name to values")
        require(fixed is None or isinstance(fixed, Mapping), "fixed", fixed, "a mapping of names to settings")
        for name in (*axes, *(fixed or {})):
            identifier = isinstance(name, str) and name.isidentifier()
            require(identifier, "the name of an axis or setting", name, "a Python identifier")
        for name in fixed or {}:
            require(name not in axes, "fixed", name, "free of the names of axes")
        object.__setattr__(self, "axes", {name: _values(name, values) for name, values in axes.items()})
        object.__setattr__(self, "zipped", tuple(tuple(group) for group in zipped))
        object.__setattr__(self, "fixed", _json("fixed", dict(fixed or {})))
        self._check_zipped()
        for axis, values in self.axes.items():
            if all(axis not in group for group in self.zipped):
                _distinct(f"axes[{axis!r}]", list(values))

    def _check_zipped(self) -> None:
        names = [name for group in self.zipped for name in group]
        for name in names:
            require(name in self.axes, "zipped", name, f"a name of an axis, one of {', '.join(self.axes)}")
        _distinct("zipped", names)
        for group in self.zipped:
            require(len(group) > 1, "zipped", group, "groups of at least two axes")
            lengths = {name: len(self.axes[name]) for name in group}
            require(len(set(lengths.values())) == 1, "zipped", lengths, "groups of axes of equal length")
            together = [*zip(*(self.axes[name] for name in group), strict=True)]
            _distinct(f"the values of the zipped axes {', '.join(group)}", together)

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Dimension → the axes that run along it."""
        result: dict[str, tuple[str, ...]] = {}
        for axis in self.axes:
            group = next((group for group in self.zipped if axis in group), (axis,))
            result.setdefault("+".join(group), group)
        return result

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions."""
        return tuple(self.groups)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each dimension."""
        return tuple(len(self.axes[group[0]]) for group in self.groups.values())

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    def coordinate(self, axis: str) -> NDArray[Any]:
        """The values of an axis as an array: int64, float64 or objects that are strings."""
        values = self.axes[axis]
        return np.array(values, dtype=object if isinstance(values[0], str) else None)

    def to_json(self) -> str:
        """The grid as JSON, from which `from_json` makes it again."""
        return json.dumps({name: getattr(self, name) for name in KEYS}, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Grid":
        """Read what `to_json` wrote: an object with axes and optionally zipped and fixed, and nothing else."""
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"a grid must be JSON, got {short(text)} ({error})") from error
        require(isinstance(content, dict) and "axes" in content, "a grid", content, "an object with axes")
        unknown = sorted(content.keys() - set(KEYS))
        require(not unknown, "a grid", unknown, f"an object with {', '.join(KEYS)} only")
        return cls(content["axes"], zipped=content.get("zipped", ()), fixed=content.get("fixed"))

    @property
    def hash(self) -> str:
        """SHA-256 of the axes in their order, the zipped groups and the fixed settings."""
        # A list of pairs, because the order of the axes counts and the order of fixed settings does not.
        content = json.dumps([[*self.axes.items()], self.zipped, self.fixed], sort_keys=True, allow_nan=False)
        return hashlib.sha256(content.encode()).hexdigest()


def _values(axis: str, given: Iterable[Any]) -> tuple[Value, ...]:
    """Plain numbers or strings; all floats if one is."""
    argument = f"axes[{axis!r}]"
    require(not isinstance(given, str | bytes) and isinstance(given, Iterable), argument, given, "a list of values")
    values: list[Any] = [value.item() if isinstance(value, np.generic) else value for value in given]
    require(len(values) > 0, argument, values, "at least one value")
    if all(isinstance(value, str) for value in values):
        return tuple(values)
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        require(number, argument, value, "finite numbers only, or strings only")
    if any(isinstance(value, float) for value in values):
        return tuple(float(value) for value in values)
    for value in values:
        require(abs(value) < 2**63, argument, value, "whole numbers that 64 bits can hold")
    return tuple(values)


def _distinct(argument: str, values: list[Any]) -> None:
    seen = set()
    for value in values:
        require(value not in seen, argument, value, "free of duplicates")
        seen.add(value)


def _json(argument: str, content: Any) -> Any:
    try:
        return json.loads(json.dumps(content, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument} must be what JSON can hold, got {short(content)} ({error})") from error
