"""Small tasks that tests sweep; a worker imports them from here."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from polysem.measure import CapacityStream
from polysem.sweeps import Output, Stack, task


@task(outputs={"area": Output()}, stacked=("width", "height"), max_cells=4)
def rectangle(stack: Stack) -> dict[str, np.ndarray]:
    return {"area": stack["width"] * stack["height"]}


@task(
    outputs={
        "draw": Output(),
        "rows": Output({"feature": "n_features", "dim": 2}, "float32"),
        "code": Output(dtype="int64"),
        "threads": Output(dtype="int64"),
    },
    stacked=("scale",),
    shared=("n_features", "name", "seconds"),
    max_cells=3,
)
def draws(stack: Stack) -> dict[str, np.ndarray | Tensor]:
    """Seeded numbers of several shapes and kinds, and a note of each cell in the file that SWEEP_LOG names."""
    if log := os.environ.get("SWEEP_LOG"):
        with Path(log).open("a") as file:
            file.write("".join(f"{seed}\n" for seed in stack.seeds))
    time.sleep(stack.get("seconds", 0.0))
    rows = [
        torch.randn(stack["n_features"], 2, generator=torch.Generator().manual_seed(int(seed))) for seed in stack.seeds
    ]
    first = torch.stack(rows)
    return {
        "draw": first[:, 0, 0].double() * torch.as_tensor(np.asarray(stack["scale"], dtype=np.float64)),
        "rows": first,
        "code": np.full(stack.n_cells, len(stack.get("name", ""))),
        "threads": np.full(stack.n_cells, torch.get_num_threads()),
    }


@task(outputs={"root": Output()}, stacked=("x",), shared=("folder",), max_cells=4)
def fragile(stack: Stack) -> dict[str, np.ndarray]:
    """Roots, but not of negative numbers; at 100 only from the second try on, at 200 only once a file is there."""
    x = stack["x"]
    if (x < 0).any():
        raise ArithmeticError(f"no root of {x.min()}")
    for value in x[x >= 100]:
        flag = Path(stack["folder"]) / str(value)
        there = flag.exists()
        if value == 100:
            flag.touch()
        if not there:
            raise OSError("not yet")
    return {"root": np.sqrt(x)}


@task(outputs={"a": Output(), "b": Output({"k": 2})}, shared=("kind",))
def wrong(stack: Stack) -> object:
    """Results that are not what was declared."""
    n = stack.n_cells
    good = {"a": np.zeros(n), "b": np.zeros((n, 2))}
    if stack["kind"] == "exit":
        sys.exit(3)
    if stack["kind"] == "interrupt":
        raise KeyboardInterrupt
    if stack["kind"] == "unicode":
        raise ValueError("\ud800" + 5000 * "x")
    return {
        "good": good,
        "list": [1.0],
        "name": {"a": np.zeros(n)},
        "cells": good | {"a": np.zeros(n + 1)},
        "size": good | {"b": np.zeros((n, 3))},
        "dtype": good | {"a": np.zeros(n, complex)},
    }[stack["kind"]]


@task(outputs={"square": Output()}, stacked=("x",), shared=("folder",), max_cells=1)
def mortal(stack: Stack) -> dict[str, np.ndarray]:
    """Squares; whoever meets -1 dies of it, -2 if nobody did before, and -3 takes seven eighths of a GiB a while."""
    x, died = stack["x"][0], Path(stack["folder"]) / "died"
    if x == -1 or (x == -2 and not died.exists()):
        if x == -2:
            died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if x == -3:
        held = []
        while psutil.Process().memory_info().rss < 0.875 * 2**30:
            held.append(np.ones(2**20))
        time.sleep(0.5)
    return {"square": stack["x"] ** 2}


SHARD = ("file", "start", "shard_rows", "n_rows", "total", "d_hidden")


def shard(stack: Stack) -> Tensor:
    rows = np.load(stack["file"], mmap_mode="r")[stack["start"] :][: stack["shard_rows"]]
    return torch.from_numpy(rows.copy())


@task(outputs={"M": Output({"a": "d_hidden", "b": "d_hidden"})}, shared=SHARD, max_cells=1)
def frame(stack: Stack) -> dict[str, Tensor]:
    stream = CapacityStream(stack["d_hidden"])
    stream.update(shard(stack))
    return {"M": stream.frame_operator[None]}


@task(outputs={"capacity": Output({"row": "shard_rows"})}, shared=SHARD, max_cells=1)
def capacities(stack: Stack) -> dict[str, Tensor]:
    stream = CapacityStream(stack["d_hidden"])
    total = torch.from_numpy(np.load(stack["total"])["M"])
    stream.load_state_dict(stream.state_dict() | {"frame_operator": total, "n_features": stack["n_rows"]})
    return {"capacity": stream.capacity(shard(stack))[None]}
