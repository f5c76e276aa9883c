"""Running a sweep: what is missing from the store is computed and put there, stack by stack."""

import errno
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from polysem._checks import require, whole
from polysem.sweeps._attempt import Order, attempt, lost
from polysem.sweeps._engine import Engine, InProcess
from polysem.sweeps._grid import Grid
from polysem.sweeps._layout import check, stack, tiling
from polysem.sweeps._status import SweepStatus, Tally
from polysem.sweeps._store import Checked, Store, versions
from polysem.sweeps._task import Task, load_task

if TYPE_CHECKING:
    import xarray as xr

EXPLAINED = {
    errno.ENOSPC: "there is no space left",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "there is no permission to write",
    errno.EPERM: "there is no permission to write",
}
GO_ON = "the same call goes on from there"


def run(
    grid: Grid,
    task: Task | str,
    store: str | PathLike[str],
    *,
    engine: Engine | None = None,
    resume: bool = True,
    retries: int = 1,
    retry_failed: bool = False,
    progress: Callable[[SweepStatus], None] | None = None,
) -> "xr.Dataset":
    """Compute a task on every cell of a grid, into a store on disk that survives whatever interrupts it.

    Cells are computed in stacks, cut from the grid alone; a finished stack is in the store for good. The same call
    again computes what is missing, and only that; a finished store it only opens. `xarray.open_zarr(store)` reads a
    store, finished or not; its `status` is 0 for missing cells, 1 for computed and 2 for failed ones, whose `message`
    says why. A stack that fails is tried again, then cell by cell; failed cells never end a sweep.

    Args:
        grid: the cells.
        task: what is computed, or its name `module:function`.
        store: directory of the store, to be made or gone on with; nothing else is ever written to or deleted.
        engine: where stacks are computed; by default one after the other in this process.
        resume: whether a store that exists may be gone on with.
        retries: how often a failing stack is tried again as a whole.
        retry_failed: compute stacks with failed cells again.
        progress: called with the status before the first stack and after each.

    Returns:
        The results by axis, with their units of work (`stack`, `seconds`, `worker`) beside them.

    Raises:
        ValueError: the grid does not suit the task; the store holds another sweep, was written by a later version, or
            is not one.
        BlockingIOError: another process is computing this store.
        OSError: the store cannot be written to; what is finished is kept.

    Example, with a task of one's own in `shapes.py`:

        grid = Grid({"width": [1.0, 2.0], "height": [1.0, 3.0]})
        areas = run(grid, "shapes:rectangle", "areas.zarr").area  # dims width and height

    Source: ours.
    """
    task, path = load_task(task), Path(store)
    check(grid, task)
    tries = 1 + whole("retries", retries, 0)
    with _explained(path):
        opened, checked = _open(path, grid, task, resume=resume)
        if checked.axes or _todo(opened, checked, retry_failed=retry_failed):
            with opened.lock():
                opened.write_axes(checked.axes)
                _compute(opened, grid, task, engine or InProcess(), tries, retry_failed, progress)
        elif progress is not None:
            progress(Tally(opened, checked).status())
    return opened.dataset()


def _open(path: Path, grid: Grid, task: Task, *, resume: bool) -> tuple[Store, Checked]:
    """The store, made if there is nothing yet."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        Store.create(path, grid, task, tiling(grid, task))
    else:
        require(resume, "store", path, "a path where nothing is yet, unless resume is on")
    opened = Store.open(path)
    opened.require_same(grid, task)
    return opened, opened.check()


def _todo(store: Store, checked: Checked, *, retry_failed: bool) -> list[int]:
    again = checked.failed if retry_failed else {}
    return [i for i in range(len(store.tiles)) if i not in checked.done or i in again]


def _compute(
    store: Store,
    grid: Grid,
    task: Task,
    engine: Engine,
    tries: int,
    retry_failed: bool,
    progress: Callable[[SweepStatus], None] | None,
) -> None:
    checked = store.check()  # under the lock: another driver may have finished since
    todo = _todo(store, checked, retry_failed=retry_failed)
    if checked.corrupted:
        stacks = ", ".join(str(i) for i in checked.corrupted)
        _warn(f"store {store.path}: stacks {stacks} are not what was written (checksum) and are computed again")
    other = [
        f"{name} {store.versions.get(name)} (now {now})"
        for name, now in versions().items()
        if store.versions.get(name) != now
    ]
    if todo and other:
        _warn(
            f"store {store.path} was begun with {', '.join(other)}: what is computed now may differ in the last digits"
        )
    sizes = store.sizes(task)

    def order(i: int) -> Order:
        return Order(task.name, stack(grid, task, store.tiles, i), sizes, tries)

    tally = Tally(store, checked.without(todo))
    report = progress or (lambda _: None)
    report(tally.status())
    try:
        with closing(engine.run(attempt, ((i, order(i)) for i in todo))) as finished:
            for i, result in finished:
                outcome = lost(order(i), result) if isinstance(result, Exception) else result
                store.write(i, outcome)
                tally.add(i, outcome)
                report(tally.status())
    except KeyboardInterrupt:
        now = tally.status()
        kept = f"{now.n_done} of {now.n_stacks} stacks are finished and kept in {store.path}"
        raise KeyboardInterrupt(f"{kept}; {GO_ON}") from None


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)  # as of the caller of `run`


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say of an error in writing what it means for the store."""
    try:
        yield
    except OSError as error:
        if error.errno not in EXPLAINED:
            raise
        reason = EXPLAINED[error.errno]
        raise OSError(error.errno, f"store {path}: {reason}; finished stacks are kept: {GO_ON}") from error
