"""The phase diagrams of superposition: what a ReLU autoencoder does with one feature more than it has dimensions."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from torch import Tensor

from polysem.plots._style import FIRST, IGNORED, PURE, SECOND, array, styled
from polysem.studies import Superposition

if TYPE_CHECKING:
    import xarray as xr

PHASES = (
    ("not represented", IGNORED),
    ("a dimension of its own", PURE),
    ("antipodal pair", FIRST),
    ("triangle with both others", SECOND),
)
"""Name and colour of each phase, by its code."""

SUBSCRIPTS = "₀₁₂₃"


def superposition_figures(result: Superposition) -> list[tuple[str, go.Figure]]:
    """The last feature's phase, trained and by comparing configurations built by hand."""
    n = result.capacity.shape[-1]
    if n == 2:
        says = "dense features are represented or dropped by importance, sparse ones share the dimension as an "
        says += "antipodal pair."
        built = "three configurations built by hand (feature 1 alone, feature 2 alone, the best antipodal pair)"
    else:
        says = "a sparse feature 3 of less importance shares a dimension with one other, of more importance it has its "
        says += "own; all three share both dimensions only where dense and about equally important."
        built = "five configurations built by hand (feature 3 or another one dropped, the best pair with or without "
        built += "feature 3, the best isosceles triangle)"
    n_tied = int(result.tied.sum())
    tied = f" In {n_tied} cells configurations of two phases cost the same; they are not counted." if n_tied else ""
    return [
        ("trained", _figure(result, result.trained, "Trained", f"Training on the exact loss: {says}")),
        (
            "built",
            _figure(
                result,
                result.built,
                "Built by hand",
                f"The best of {built}: the same phase as trained in {result.agreement:.2%} of the cells.{tied}",
            ),
        ),
    ]


def superposition_map(dataset: "xr.Dataset") -> go.Figure:
    """The phase diagram in the store of a sweep of `studies.superposition_cells`, finished or not.

    Args:
        dataset: what `sweeps.run` returns, or `xarray.open_zarr` of its store, with the axes `ratio` and
            `feature_probability`; cells that are missing or have failed are left empty.

    Returns:
        The figure; its caption says how many cells there are.
    """
    data = dataset.transpose("ratio", "feature_probability", ...)
    phases = data["phase"].values.astype(float)
    there = phases >= 0
    phases[~there] = np.nan
    return _map(
        data["feature_probability"].values,
        data["ratio"].values,
        phases,
        data["capacity"].values,
        "Phases of the last feature",
        f"{there.sum():,} of {there.size:,} cells, each the best of several starts on the exact loss; cells that are "
        "missing are left empty.",
    )


def _figure(result: Superposition, phases: Tensor, title: str, caption: str) -> go.Figure:
    grid = array(result.probability), array(result.ratio), array(phases), array(result.capacity)
    return _map(*grid, title, caption)


def _map(
    probability: npt.NDArray[Any],
    ratio: npt.NDArray[Any],
    phases: npt.NDArray[Any],
    capacity: npt.NDArray[Any],
    title: str,
    caption: str,
) -> go.Figure:
    n = capacity.shape[-1]
    shown = PHASES[: n + 1]
    steps = [[edge / len(shown), colour] for k, (_, colour) in enumerate(shown) for edge in (k, k + 1)]
    capacities = ", ".join(f"C{SUBSCRIPTS[i + 1]} %{{customdata[{i}]:.3f}}" for i in range(n))
    label = f"I{SUBSCRIPTS[n]}/I₁"
    figure = go.Figure()
    figure.add_heatmap(
        x=probability,
        y=ratio,
        z=phases,
        zmin=-0.5,
        zmax=len(shown) - 0.5,
        colorscale=steps,
        showscale=False,
        customdata=capacity,
        hovertemplate=f"p %{{x:.3f}}<br>{label} %{{y:.3f}}<br>{capacities}<extra></extra>",
    )
    for name, colour in shown:
        marker = {"symbol": "square", "size": 11, "color": colour}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=f"feature {n}: {name}")
    ends = [math.log10(float(end)) for end in probability[[0, -1]]]
    figure.update_xaxes(type="log", range=ends, dtick="D2", tickformat="~g")
    ends = [math.log10(float(end)) for end in ratio[[0, -1]]]
    figure.update_yaxes(type="log", range=ends, dtick="D2", tickformat="~g")
    figure.update_layout(margin={"t": 90})
    return styled(
        figure, title=title, caption=caption, x="feature probability p", y=f"relative importance {label}", height=460
    )
