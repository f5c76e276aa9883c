"""Tasks: what computes one stack of cells, and what it says of itself."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from polysem._checks import require, whole
from polysem.sweeps._grid import Value

Results = Mapping[str, Any]
"""Output → array or tensor `[n_cells, *dims]`."""


@dataclass(frozen=True)
class Stack:
    """Cells of a grid that a task computes together.

    Attributes:
        values: axis → `[n_cells]` array of its value in each cell, for settings that may vary inside a stack (fixed
            ones among them too); → the one value, for the other axes.
        fixed: the other settings that are the same in every cell of the grid.
        seeds: `[n_cells]`, one seed for each cell, from the grid's `seed` and the cell's place alone.

    Source: ours.
    """

    values: Mapping[str, np.ndarray | Value]
    fixed: Mapping[str, Any]
    seeds: Int64[np.ndarray, " n_cells"]

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.seeds)

    def __getitem__(self, setting: str) -> Any:
        """A setting, whether an axis or fixed."""
        return self.values[setting] if setting in self.values else self.fixed[setting]

    def get(self, setting: str, default: Any = None) -> Any:
        """A setting, whether an axis or fixed; `default` if it is neither."""
        return self.values.get(setting, self.fixed.get(setting, default))

    def cell(self, k: int) -> "Stack":
        """The k-th cell as a stack of its own."""
        values = {n: v[k : k + 1] if isinstance(v, np.ndarray) else v for n, v in self.values.items()}
        return replace(self, values=values, seeds=self.seeds[k : k + 1])


@dataclass(frozen=True)
class Output:
    """What a task returns under one name, besides the dimension of cells that everything has.

    Args:
        dims: further dimensions, name → size: a whole number, or the name of a setting that gives it; where that
            differs between cells, the largest counts and smaller results are padded.
        dtype: integers are padded with -1, floating-point numbers with NaN, and so are cells without a result.

    Raises:
        ValueError: a size or dtype that is not allowed.

    Example:
        >>> Output({"feature": "n_features", "vertex": 3}).dtype
        'float64'

    Source: ours.
    """

    dims: Mapping[str, int | str] = field(default_factory=dict)
    dtype: Literal["float64", "float32", "int64"] = "float64"

    def __post_init__(self) -> None:
        """Check the sizes and the dtype."""
        require(self.dtype in ("float64", "float32", "int64"), "dtype", self.dtype, "'float64', 'float32' or 'int64'")
        for name, size in self.dims.items():
            if not isinstance(size, str):
                whole(f"dims[{name!r}]", size)


@dataclass(frozen=True)
class Task:
    """A function of a stack with what it says of itself; made by the decorator `task`."""

    function: Callable[[Stack], Results]
    stacked: tuple[str, ...]
    shared: tuple[str, ...]
    outputs: Mapping[str, Output]
    max_cells: int

    def __call__(self, stack: Stack) -> Results:
        """Compute a stack."""
        return self.function(stack)

    @property
    def name(self) -> str:
        """`module:qualname`, by which a worker finds it."""
        return f"{self.function.__module__}:{self.function.__qualname__}"


def task(
    *,
    outputs: Mapping[str, Output],
    stacked: tuple[str, ...] = (),
    shared: tuple[str, ...] = (),
    max_cells: int = 256,
) -> Callable[[Callable[[Stack], Results]], Task]:
    """Declare that a function computes a stack of cells: `Stack` → {output: array `[n_cells, *dims]`}.

    A task must depend on nothing but its stack, so that computing a stack again gives the same again.

    Args:
        outputs: what it returns.
        stacked: settings that may differ between the cells of a stack; the task gets them as `[n_cells]` arrays.
            `seed` always is one.
        shared: further settings it reads, one value for all cells of a stack. A grid with any other setting is
            refused.
        max_cells: largest number of cells in a stack.

    Returns:
        The decorator; the function itself can still be called.

    Raises:
        ValueError: no outputs, or a size of stacks below 1.

    Example:
        >>> @task(outputs={"area": Output()}, stacked=("width", "height"))
        ... def rectangle(stack: Stack) -> dict[str, np.ndarray]:
        ...     return {"area": stack["width"] * stack["height"]}
        >>> rectangle.outputs["area"].dtype
        'float64'

    Source: ours.
    """
    require(len(outputs) > 0, "outputs", outputs, "at least one")
    whole("max_cells", max_cells)

    def declare(function: Callable[[Stack], Results]) -> Task:
        return Task(function, tuple(stacked), tuple(shared), dict(outputs), max_cells)

    return declare


def load_task(given: Task | str) -> Task:
    """The task of that name; a task itself must be the one that its name leads to, as a worker will go by the name.

    Raises:
        ValueError: the name leads nowhere, or to something else.
    """
    name = given.name if isinstance(given, Task) else given
    importable = "the name module:function of a task in a module that can be imported (no lambda, no function inside "
    importable += "a function or in a script that is being run)"
    require(isinstance(name, str) and name.count(":") == 1, "task", given, importable)
    module, qualname = name.split(":")
    require(module != "__main__" and "<" not in qualname, "task", name, importable)
    try:
        found: object = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"task must be {importable}, got {name!r} ({error})") from error
    require(isinstance(found, Task), "task", name, "declared with polysem.sweeps.task")
    assert isinstance(found, Task)
    if isinstance(given, Task):
        require(found is given, "task", name, "what that name leads to, but another task stands there")
    return found
