"""Stores that tests compare, and drivers that they kill."""

import hashlib
import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import zarr.storage._local
from zarr.core.buffer import Buffer

import sweep_tasks
from polysem.sweeps import Grid, Task, run
from polysem.sweeps._store import Store

GRID = Grid({"scale": [0.5, 1.0, 2.0, 4.0, 8.0], "n_features": [2, 3], "name": ["", "abc"]}, fixed={"seed": 3})
TASK: Task = sweep_tasks.draws


def seed_of(*seed_and_place: int) -> int:
    """The seed of a cell."""
    digest = hashlib.blake2b(",".join(str(number) for number in seed_and_place).encode(), digest_size=8).hexdigest()
    return int(digest, 16) // 2


def contents(store: Path) -> dict[str, bytes]:
    """Every byte of a store but for the times, the hosts and the lock."""
    return {
        str(file.relative_to(store)): file.read_bytes()
        for file in store.rglob("*")
        if file.is_file() and file.name != ".lock" and file.relative_to(store).parts[:2] not in VARY
    }


VARY = (("seconds", "c"), ("worker", "c"))


def drive(store: Path, prepare: Callable[..., None], *arguments: Any) -> int:
    """Run the sweep in a process of its own, prepared for what is to befall it; returns how it ended."""
    process = start(store, prepare, *arguments)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def start(store: Path, prepare: Callable[..., None], *arguments: Any) -> BaseProcess:
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["sweep_stores", "polysem.sweeps._run", "xarray.backends.zarr"])
    process = context.Process(target=_driver, args=(store, os.environ.get("SWEEP_LOG"), prepare, arguments))
    process.start()
    return process


def unharmed() -> None:
    pass


def killed_after(seconds: float) -> None:
    """Be killed, wherever it is by then, by a signal that cannot be handled."""
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()


def killed_in_write(number: int) -> None:
    """Be killed half-way through the n-th write of a file from now."""
    put = zarr.storage._local._put
    count = 0

    def dying(path: Path, value: Buffer, exclusive: bool = False) -> int:
        nonlocal count
        count += 1
        if count == number:
            half = value.as_buffer_like()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".0.partial").write_bytes(bytes(half)[: len(half) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return put(path, value, exclusive)

    zarr.storage._local._put = dying


def killed_in_first_stack(number: int) -> None:
    """Be killed in the write of that array of the first stack."""
    write = Store.write

    def dying(self: Store, *arguments: object) -> None:
        killed_in_write(number + 1)
        write(self, *arguments)

    Store.write = dying


def paused_in_third_stack(flag: str) -> None:
    """Wait before the third stack is written, until a file says to go on."""
    write = Store.write

    def waiting(self: Store, i: int, outcome: object) -> None:
        if i == 2:
            Path(f"{flag}.reached").touch()
            while not Path(flag).exists():
                time.sleep(0.01)
        write(self, i, outcome)

    Store.write = waiting


def wait_for(file: Path, driver: BaseProcess) -> None:
    """Until a file is there, as long as the driver lives."""
    while not file.exists():
        assert driver.is_alive()
        time.sleep(0.01)


def _driver(store: Path, log: str | None, prepare: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.pop("SWEEP_LOG", None)
    if log is not None:
        os.environ["SWEEP_LOG"] = log
    prepare(*arguments)
    run(GRID, TASK, store)
