"""Sweep a phase diagram into a store on disk, and plot it from there, finished or not: python examples/<this file>."""

import numpy as np
import xarray as xr

from polysem.plots import superposition_map
from polysem.sweeps import Grid, run

axes = {"ratio": np.logspace(-1, 1, 32), "feature_probability": np.logspace(0, -2, 32)}
grid = Grid(axes, fixed={"n_features": 2, "restarts": 8, "adam_steps": 50})
run(grid, "polysem.studies:superposition_cells", "superposition.zarr")
data = xr.open_zarr("superposition.zarr")  # while it runs, too: cells that are missing are shown as missing
superposition_map(data).write_html("superposition.html")
print(f"{int((data.phase >= 0).sum())} of {data.phase.size} cells are there")
