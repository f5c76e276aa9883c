"""Workers in other processes: the same store as without them, whoever dies."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dask
import numpy as np
import pytest

import sweep_tasks
from polysem.sweeps import DaskEngine, Grid, LocalEngine, SweepStatus, run, status
from sweep_stores import TASK, contents


def test_local_workers_that_die_and_bloat(tmp_path: Path) -> None:
    grid = Grid({"x": np.arange(-3.0, 12.0)}, fixed={"folder": str(tmp_path)})
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):  # one death is enough to be under suspicion
        engine = LocalEngine(2, memory_limit="1GiB")
        results = run(grid, sweep_tasks.mortal, tmp_path / "s.zarr", engine=engine).load()
    assert (tmp_path / "died").exists()
    np.testing.assert_array_equal(results.x[results.status != 1], [-1.0])  # the guilty one alone
    assert results.message.sel(x=-1).item().startswith("the worker was lost: KilledWorker")
    np.testing.assert_array_equal(results.square.where(results.x != -1, 1), results.x**2)
    assert f":{os.getpid()}" not in {worker[worker.rfind(":") :] for worker in results.worker.values}


@contextmanager
def child(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One of Dask's commands in a process of its own."""
    command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (cwd / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_scheduler_with_three_workers_one_of_which_is_killed_and_then_the_scheduler(tmp_path: Path) -> None:
    grid = Grid({"scale": np.arange(40.0), "n_features": [1, 2]}, fixed={"seconds": 0.05})
    run(grid, TASK, tmp_path / "alone.zarr")
    with ExitStack() as processes:
        start, file = processes.enter_context, tmp_path / "scheduler.json"
        options = ("--port=0", "--host=127.0.0.1", "--no-dashboard", f"--scheduler-file={file}")
        scheduler = start(child("dask_scheduler", *options, cwd=tmp_path))
        while not (file.exists() and (found := re.search(r"tcp://[\d.:]+", file.read_text()))):
            assert scheduler.poll() is None
            time.sleep(0.02)
        address = found[0]
        options = (address, "--nthreads=1", "--no-nanny", "--no-dashboard")
        workers = [start(child("dask_worker", *options, cwd=tmp_path)) for _ in range(3)]

        def kill_a_worker(now: SweepStatus) -> None:
            if now.n_done == 12:
                workers[1].send_signal(signal.SIGKILL)

        results = run(grid, TASK, tmp_path / "s.zarr", engine=DaskEngine(address), progress=kill_a_worker)
        assert workers[1].wait() == -signal.SIGKILL
        assert (results.status == 1).all()
        assert contents(tmp_path / "s.zarr") == contents(tmp_path / "alone.zarr")
        pids = {int(worker.rsplit(":", 1)[1]) for worker in results.worker.values}
        assert len(pids) > 1
        assert pids <= {worker.pid for worker in workers}

        def kill_the_scheduler(now: SweepStatus) -> None:
            if now.n_done == 5:
                scheduler.send_signal(signal.SIGKILL)

        with pytest.raises(ConnectionError, match=f"the Dask scheduler at {address} is gone"):
            run(grid, TASK, tmp_path / "t.zarr", engine=DaskEngine(address), progress=kill_the_scheduler)
    assert 5 <= status(tmp_path / "t.zarr").n_done < status(tmp_path / "t.zarr").n_stacks
    run(grid, TASK, tmp_path / "t.zarr")
    assert contents(tmp_path / "t.zarr") == contents(tmp_path / "alone.zarr")
