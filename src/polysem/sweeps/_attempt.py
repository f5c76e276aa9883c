"""Computing one stack, wherever that is: with retries, and cell by cell where the stack as a whole will not do."""

import os
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polysem._checks import require
from polysem.sweeps._layout import FAILED, FILLS, OK
from polysem.sweeps._task import Stack, Task, load_task

LONGEST_MESSAGE = 2000


@dataclass(frozen=True)
class Order:
    """What a worker is asked: this stack of this task, the sizes its outputs are padded to, tries before giving up."""

    task: str
    stack: Stack
    sizes: Mapping[str, tuple[int, ...]]
    tries: int


@dataclass(frozen=True)
class Outcome:
    """What came of a stack.

    Attributes:
        results: output → `[n_cells, *sizes]`, padded; failed cells hold nothing but padding.
        status: `[n_cells]`, OK or FAILED.
        messages: of each cell, empty if all went well.
        seconds: wall time.
        worker: host and process.
    """

    results: dict[str, NDArray[Any]]
    status: NDArray[np.int8]
    messages: list[str]
    seconds: float
    worker: str


def attempt(order: Order) -> Outcome:
    """Compute a stack on one thread; if it fails every try, each of its cells on its own."""
    start, n_cells = time.perf_counter(), order.stack.n_cells
    status, messages = np.full(n_cells, OK, np.int8), [""] * n_cells
    with _one_thread():
        task = load_task(order.task)
        results: dict[str, NDArray[Any]] | str = ""
        for _ in range(order.tries):
            results = _compute(task, order.stack, order.sizes)
            if not isinstance(results, str):
                break
        if isinstance(results, str):
            cells = [_compute(task, order.stack.cell(k), order.sizes) for k in range(n_cells)]
            nothing = empty(task, order.sizes, 1)
            for k, cell in enumerate(cells):
                if isinstance(cell, str):
                    status[k], messages[k] = FAILED, cell
            computed = [nothing if isinstance(cell, str) else cell for cell in cells]
            results = {name: np.concatenate([cell[name] for cell in computed]) for name in task.outputs}
    return Outcome(results, status, messages, time.perf_counter() - start, f"{socket.gethostname()}:{os.getpid()}")


def lost(order: Order, error: Exception) -> Outcome:
    """The outcome of a stack whose worker came to grief (killed, say), as often as it was tried."""
    n_cells = order.stack.n_cells
    message = _clean(f"the worker was lost: {type(error).__name__}: {error}")
    results = empty(load_task(order.task), order.sizes, n_cells)
    return Outcome(results, np.full(n_cells, FAILED, np.int8), [message] * n_cells, float("nan"), "")


def empty(task: Task, sizes: Mapping[str, tuple[int, ...]], n_cells: int) -> dict[str, NDArray[Any]]:
    """Outputs that hold nothing but padding."""
    return {name: np.full((n_cells, *sizes[name]), FILLS[out.dtype], out.dtype) for name, out in task.outputs.items()}


def _compute(task: Task, stack: Stack, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]] | str:
    """Padded results of a stack, or in words what went wrong."""
    try:
        given = task(stack)
        names = sorted(given) if isinstance(given, Mapping) else type(given).__name__
        require(names == sorted(task.outputs), f"what {task.name} returns", names, f"{sorted(task.outputs)}")
        padded = empty(task, sizes, stack.n_cells)
        for name, into in padded.items():
            value = given[name]
            array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
            fits = array.ndim == into.ndim and len(array) == stack.n_cells
            fits = fits and all(size <= room for size, room in zip(array.shape, into.shape, strict=True))
            require(fits, f"the shape of {name}", array.shape, f"{into.shape}, or less but for the cells")
            kind = np.can_cast(array.dtype, into.dtype, "same_kind")
            require(kind, f"the dtype of {name}", array.dtype, f"like {into.dtype}")
            into[tuple(slice(size) for size in array.shape)] = array
    except (Exception, SystemExit) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return _clean(f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})")  # noqa: PTH119
    return padded


def _clean(message: str) -> str:
    """Text that can be stored: valid Unicode, and not too long."""
    return message.encode("utf-8", "replace").decode()[:LONGEST_MESSAGE]


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: small models are slower on more, and sums must not depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
