"""The figures of superposition: one colour a phase, whichever the number of features, and ties in words."""

from dataclasses import replace

import plotly.graph_objects as go
import pytest
import torch

from drawn import numbers
from polysem.plots import superposition_figures
from polysem.studies import Superposition, SuperpositionPhase


def drawn(n: int) -> Superposition:
    """Every phase of n features once or more."""
    codes = torch.arange(4).view(2, 2).clamp(max=n)
    losses, tied = torch.ones(2, 2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.bool)
    return Superposition(
        probability=torch.tensor([1.0, 0.1]),
        ratio=torch.tensor([0.5, 2.0]),
        trained=codes,
        built=codes.flip(0),
        tied=tied,
        capacity=torch.full((2, 2, n), 0.5),
        loss=losses,
        built_loss=losses,
        converged=1.0,
    )


def colour(figure: go.Figure, code: int) -> str:
    """Of a code on the scale of the heatmap."""
    (heatmap,) = (trace for trace in figure.data if trace.type == "heatmap")
    place = (code - heatmap.zmin) / (heatmap.zmax - heatmap.zmin)
    below = [shade for edge, shade in heatmap.colorscale if edge <= place]
    return below[-1]


@pytest.mark.parametrize("n", [2, 3])
def test_colours_are_those_that_the_legend_names(n: int) -> None:
    result = drawn(n)
    for (_, figure), codes in zip(superposition_figures(result), (result.trained, result.built), strict=True):
        assert numbers(figure.data[0].z).tolist() == codes.tolist()
        named = {trace.name: trace.marker.color for trace in figure.data if trace.type == "scatter"}
        expected = ["not represented", "a dimension of its own", "antipodal pair", "triangle with both others"]
        assert list(named) == [f"feature {n}: {name}" for name in expected[: n + 1]]
        assert list(named.values()) == [colour(figure, code) for code in list(SuperpositionPhase)[: n + 1]]
    two, three = (superposition_figures(drawn(k))[0][1] for k in (2, 3))
    assert [colour(two, code) for code in range(3)] == [colour(three, code) for code in range(3)]


def test_ties_are_told() -> None:
    result = drawn(2)
    (_, silent), (_, built) = superposition_figures(result)[1], superposition_figures(result)[1]
    assert "cost the same" not in silent.layout.meta["caption"]
    tied = replace(result, tied=torch.tensor([[True, False], [True, False]]))
    _, (_, built) = superposition_figures(tied)
    assert "In 2 cells configurations of two phases cost the same" in built.layout.meta["caption"]
