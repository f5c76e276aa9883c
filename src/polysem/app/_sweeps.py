"""Sweeps that lie among the files: what was computed, and any of it over one or two of its dimensions."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from polysem._checks import require
from polysem.app._models import LONGEST_NAME, name_in_code, shelf_of
from polysem.app._shown import Shown
from polysem.app._walk import walk
from polysem.app._work import Emit, stream
from polysem.plots import sweep_figure, sweep_outputs
from polysem.sweeps import status

if TYPE_CHECKING:
    import xarray as xr

router = APIRouter(prefix="/api/sweeps")

MOST_VALUES = 20_000_000
MOST_STACKS = 100_000
MOST_DIMENSIONS = 64
LARGEST_METADATA = 2**24
FIRST_SHOWN = "loss"
CODE = """\
import polysem as ps
import xarray as xr

dataset = xr.open_zarr({store!r}, chunks=None)
print(dataset)
figure = ps.plots.sweep_figure(dataset, {output!r}, {across!r}, {down!r})
values = figure.data[-1]
print(values.z if values.type == "heatmap" else values.y)
"""


class Asked(BaseModel):
    """A store, and what is looked at; what is left out is chosen."""

    model_config = ConfigDict(extra="forbid")
    file: str = Query(max_length=LONGEST_NAME)
    output: str = Query("", max_length=LONGEST_NAME)
    across: str = Query("", max_length=LONGEST_NAME)
    down: str = Query("", max_length=LONGEST_NAME)


@router.get("")
def show(asked: Annotated[Asked, Query()], request: Request) -> Response:
    """An output of the sweep, and how far the sweep has come."""
    shelf = shelf_of(request)

    def work(emit: Emit) -> None:
        path = shelf.find(asked.file)
        _require_plain(path, asked.file)
        how_far = status(path)
        emit({"progress": 0.5})
        dataset = _dataset(path)
        outputs = sweep_outputs(dataset)
        require(bool(outputs), "file", asked.file, "a sweep with numbers to show")
        output = asked.output or (FIRST_SHOWN if FIRST_SHOWN in outputs else next(iter(outputs)))
        dims = outputs.get(output, ())
        require(output in outputs, "output", output, f"one of {', '.join(outputs)}")
        varying = sorted(dims, key=lambda dim: dataset.sizes[dim] == 1)  # those first that vary
        across = asked.across or next((dim for dim in varying if dim != asked.down), dims[0])
        figure = sweep_figure(dataset, output, across, asked.down)
        facts = (
            ("task", str(dataset.attrs["task"])),
            ("computed", how_far.line),
            ("dimensions", ", ".join(f"{dim} ({dataset.sizes[dim]:,})" for dim in dims)),
        )
        numbers: dict[str, object] = {
            "outputs": list(outputs),
            "dimensions": list(dims),
            "chosen": {"output": output, "across": across, "down": asked.down},
        }
        code = CODE.format(store=name_in_code(asked.file, shelf), output=output, across=across, down=asked.down)
        emit(Shown({"sweep": figure}, facts, code, numbers).content)

    return stream(request, work)


def _dataset(path: Path) -> "xr.Dataset":
    import xarray as xr

    dataset: xr.Dataset = xr.open_zarr(path, chunks=None, consolidated=False)  # as `status` has checked it
    return dataset


def _require_plain(path: Path, name: str) -> None:
    """A store is a folder of many files, none of which lies elsewhere, and its arrays fit into memory."""
    for here, _, others in walk(path):
        plain = all(entry.is_file(follow_symlinks=False) for entry in others)
        require(plain, "file", name, "a sweep with nothing but files in its store, without links")
        if any(entry.name == "zarr.json" for entry in others):
            n, most = _n_values(here / "zarr.json"), MOST_STACKS if here.name == "done" else MOST_VALUES
            require(n <= most, f"values of {here.name}", n, f"at most {most:,} here")


def _n_values(metadata: Path) -> int:
    """How many values an array has that is described by metadata, if it is an array."""
    require(metadata.stat().st_size <= LARGEST_METADATA, "metadata", metadata.name, "smaller")
    try:
        shape = json.loads(metadata.read_bytes()).get("shape", ())
    except (ValueError, AttributeError, RecursionError):
        return 0  # which is no store
    sizes = isinstance(shape, list | tuple) and len(shape) <= MOST_DIMENSIONS
    good = sizes and all(isinstance(size, int) and abs(size) < 2**63 for size in shape)
    if not good:
        raise ValueError(f"the shape of {metadata.parent.name} must be at most {MOST_DIMENSIONS} whole numbers")
    return math.prod(shape)
