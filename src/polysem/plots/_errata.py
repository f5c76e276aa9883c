"""Where the formula of the quadratic model's loss holds, and where it does not."""

import plotly.graph_objects as go
import torch
from torch import Tensor

from polysem.plots._style import FIRST, IGNORED, SECOND, styled
from polysem.studies import Errata

MARGIN = 1.2
"""Factor by which a logarithmic axis reaches beyond the values."""


def errata_figure(result: Errata) -> go.Figure:
    """Loss by the formula against exact loss, for independent and for uncorrelated but dependent inputs."""
    ends = _range(result.formula)
    figure = go.Figure()
    figure.add_scatter(
        x=ends.tolist(),
        y=ends.tolist(),
        mode="lines",
        line={"color": IGNORED, "width": 1.5, "dash": "dash"},
        name="formula = exact",
        hoverinfo="skip",
    )
    for losses, name, colour, symbol in (
        (result.independent, "independent inputs", FIRST, "circle"),
        (result.dependent, "one input active at a time", SECOND, "diamond"),
    ):
        figure.add_scatter(
            x=result.formula.numpy(),
            y=losses.numpy(),
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 8, "opacity": 0.85},
            name=name,
            hovertemplate="by the formula %{x:.4g}<br>exact %{y:.4g}<extra>" + name + "</extra>",
        )
    axis = {"type": "log", "tickvals": [digit * 10.0**power for power in range(-9, 9) for digit in (1, 3)]}
    figure.update_xaxes(axis, range=ends.log10().tolist())
    figure.update_yaxes(axis, range=_range(result.formula, result.independent, result.dependent).log10().tolist())
    return styled(
        figure,
        caption=f"The losses of {len(result.W)} random embeddings: on the dashed line where inputs are independent, "
        "off it where they are only uncorrelated.",
        x="loss by the formula",
        y="exact loss by enumeration",
        height=440,
    )


def _range(*values: Tensor) -> Tensor:
    """Ends of an axis that shows all values."""
    low, high = torch.cat(values).aminmax()
    return torch.stack([low / MARGIN, high * MARGIN])
