"""What a sweep has found: one output over one or two of its dimensions."""

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from polysem._checks import require
from polysem.plots._style import FIRST, IMPURE_SCALE, escaped, log_axis, styled

if TYPE_CHECKING:
    import xarray as xr

_COMPUTED = 1
"""What `status` says of a cell that was computed."""

_BAND = "rgba(47, 134, 201, 0.2)"
_WIDE = 30.0
"""Positive values of an axis that span more than this factor stand on a logarithmic one."""


def sweep_figure(dataset: "xr.Dataset", output: str, across: str, down: str = "") -> go.Figure:
    """Means of an output over the computed cells: a map if two dimensions are given, else with their range.

    Args:
        dataset: the store of a sweep, as `sweeps.run` returns it or `xarray.open_zarr` opens it.
        output: its name.
        across: dimension of the horizontal axis.
        down: dimension of the vertical one, if any.

    Returns:
        The figure; cells that are missing or have failed count in no mean.

    Raises:
        ValueError: there is no such output, or it has no such dimension.

    Source: ours.
    """
    outputs = sweep_outputs(dataset)
    require(output in outputs, "output", output, f"one of {', '.join(outputs)}")
    for name, dim in (("across", across), ("down", down)):
        allowed = f"one of {', '.join(outputs[output])}"
        require(dim in outputs[output] or (name == "down" and dim == ""), name, dim, allowed)
    require(across != down, "down", down, "another dimension than across")
    data = dataset[output].astype("float64").where(dataset["status"] == _COMPUTED)
    rest = [str(dim) for dim in data.dims if dim not in (across, down)]
    figure = go.Figure()
    over = f", mean over {' and '.join(rest)}" if rest else ""
    x, y = _values(dataset, across), _values(dataset, down) if down else None
    numeric = np.issubdtype(x.dtype, np.number)
    if y is not None:
        mean = data.mean(rest).transpose(down, across).to_numpy()
        figure.add_heatmap(
            x=_texts(x),
            y=_texts(y),
            z=mean,
            colorscale=IMPURE_SCALE,
            colorbar={"thickness": 12, "title": {"text": escaped(output)}},
            hovertemplate=f"{escaped(across)} %{{x}}<br>{escaped(down)} %{{y}}<br>%{{z:.4g}}<extra></extra>",
        )
        figure.update_xaxes(type="category")
        figure.update_yaxes(type="category")
    else:
        low, high = data.min(rest).to_numpy(), data.max(rest).to_numpy()
        places: Any = x if numeric else _texts(x)
        mean = data.mean(rest).to_numpy()
        plain = {"mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
        if numeric:
            figure.add_scatter(x=places, y=low, **plain)
            figure.add_scatter(x=places, y=high, fill="tonexty", fillcolor=_BAND, **plain)
        figure.add_scatter(
            x=places,
            y=mean,
            mode="lines+markers" if numeric else "markers",
            line={"color": FIRST},
            marker={"color": FIRST, "size": 6 if numeric else 10},
            error_y={"array": high - mean, "arrayminus": mean - low, "visible": bool(rest) and not numeric},
            name="mean",
            hovertemplate=f"{escaped(across)} %{{x}}<br>%{{y:.4g}}<extra></extra>",
            showlegend=False,
        )
        if numeric and len(x) > 1 and x.min() > 0 and x.max() > _WIDE * x.min():
            figure.update_xaxes(log_axis(float(x.min()), float(x.max())))
        elif not numeric:
            figure.update_xaxes(type="category")
    spread = f" The {'band' if numeric else 'bar'} reaches from the least to the largest." if rest and y is None else ""
    return styled(
        figure,
        title=f"{output} of the sweep",
        caption=f"What the computed cells of the sweep say of {output}{over}.{spread}",
        x=escaped(across),
        y=escaped(down or output),
        height=460,
    )


def sweep_outputs(dataset: "xr.Dataset") -> dict[str, tuple[str, ...]]:
    """Each numeric output of a sweep with its dimensions, by name: arrays of a store are listed in no order.

    Args:
        dataset: the store of a sweep.

    Returns:
        Outputs that can be drawn; what the store says of cells and stacks is none of them.

    Raises:
        ValueError: the dataset is not that of a sweep.

    Source: ours.
    """
    require("status" in dataset and "stack" in dataset.sizes, "dataset", list(dataset), "the store of a sweep")
    return {
        str(name): tuple(str(dim) for dim in array.dims)
        for name, array in sorted(dataset.data_vars.items(), key=lambda one: str(one[0]))
        if name != "status" and np.issubdtype(array.dtype, np.number) and array.dims and "stack" not in array.dims
    }


def _values(dataset: "xr.Dataset", dim: str) -> Any:
    """Where the cells lie along a dimension: its own values, those of the first axis along it, or their numbers."""
    along = [name for name, coordinate in dataset.coords.items() if coordinate.dims == (dim,)]
    chosen = dim if dim in along else (along[0] if along else None)
    return np.arange(dataset.sizes[dim]) if chosen is None else dataset[chosen].to_numpy()


def _texts(values: Any) -> list[str]:
    """A text for each value, all of them different: on an axis of categories equal ones would share a place."""
    texts: list[str] = []
    for digits in (4, 8, 17):
        texts = [
            f"{value:.{digits}g}" if isinstance(value, float | np.floating) else escaped(str(value)) for value in values
        ]
        if len(set(texts)) == len(texts):
            return texts
    return [f"{text} ({place})" for place, text in enumerate(texts)]
