"""Figures of dictionaries held against each other: best matches beside chance, and their capacities."""

import plotly.graph_objects as go
import torch

from polysem.networks import DictionaryComparison, OneWay, SeedComparison
from polysem.plots._cloud import add_cloud, count_between
from polysem.plots._style import FIRST, IMPURE_SCALE, NULL, SECOND, TEMPLATE, array, log_axis, styled

_BINS = 60


def dictionary_pair_figures(comparison: DictionaryComparison) -> list[tuple[str, go.Figure]]:
    """Best cosines of both ways beside their nulls, and capacity against best cosine."""
    above = comparison.shared_above
    return [
        ("forward", _best(comparison.forward, above, "Latents of the first, in the second")),
        ("backward", _best(comparison.backward, above, "Latents of the second, in the first")),
        ("capacity", _capacity(comparison.forward, above)),
    ]


def dictionary_seeds_figures(seeds: SeedComparison) -> list[tuple[str, go.Figure]]:
    """Mean best cosines of every pair beside chance, and the capacities of each dictionary."""
    return [("pairs", _pairs(seeds)), ("capacities", _capacities(seeds))]


def _best(way: OneWay, above: float, title: str) -> go.Figure:
    edges = torch.linspace(0, 1, _BINS + 1, dtype=torch.float64)
    middle = array((edges[1:] + edges[:-1]) / 2)
    n = len(way.cosine)
    figure = go.Figure()
    figure.add_bar(
        x=middle,
        y=array(count_between(way.cosine.abs(), edges)),
        width=array(edges.diff()),
        name="latents",
        marker={"color": FIRST, "line": {"width": 0}},
        opacity=0.8,
    )
    for null, name, colour in (
        (way.isotropic, "random directions", NULL),
        (way.covariance, "same second moments", SECOND),
    ):
        figure.add_scatter(
            x=middle,
            y=array(count_between(null.cosines, edges) * n / max(1, len(null.cosines))),
            mode="lines",
            line={"color": colour, "width": 2.5, "shape": "hvh"},
            name=f"null: {name}",
        )
    figure.add_vline(x=above, line={"color": NULL, "dash": "dot", "width": 1})
    figure.update_layout(bargap=0, barmode="overlay")
    figure.update_xaxes(range=[0, 1.02])
    figure.update_yaxes(rangemode="tozero")
    return styled(
        figure,
        title=title,
        caption="Best |cosine| of each latent with a latent of the other, beside random directions in its place; from "
        f"{above:g} on (dotted) it counts as shared.",
        x="best |cosine| in the other dictionary",
        y="latents per bin",
        height=420,
    )


def _capacity(way: OneWay, above: float) -> go.Figure:
    shown = way.capacity > 0
    cosine, capacity = way.cosine.abs()[shown], way.capacity[shown]
    figure = go.Figure()
    names = [f"latent {latent}" for latent in way.latents[shown].tolist()]
    add_cloud(figure, cosine, capacity, names, ("best |cosine|", "capacity"), logarithmic=False)
    figure.add_vline(x=above, line={"color": NULL, "dash": "dot", "width": 1})
    figure.update_xaxes(range=[0, 1.02])
    figure.update_yaxes(rangemode="tozero")
    return styled(
        figure,
        title="Do latents with more capacity come again?",
        caption="Capacity of each latent of the first dictionary against its best match in the second.",
        x="best |cosine| in the other dictionary",
        y="capacity C",
        height=420,
    )


def _pairs(seeds: SeedComparison) -> go.Figure:
    k = len(seeds.dictionaries)
    names = [f"{index + 1}" for index in range(k)]
    off = ~torch.eye(k, dtype=torch.bool)
    chance = f"{float(seeds.chance[off].min()):.3f} to {float(seeds.chance[off].max()):.3f}"
    figure = go.Figure()
    figure.add_heatmap(
        x=names,
        y=names,
        z=array(torch.where(off, seeds.best, torch.nan)),
        text=[["" if i == j else f"{seeds.best[i, j]:.2f}" for j in range(k)] for i in range(k)],
        customdata=array(torch.where(off, seeds.chance, 0.0)),
        texttemplate="%{text}",
        colorscale=IMPURE_SCALE,
        zmin=0,
        zmax=1,
        colorbar={"title": {"text": "MMCS"}, "thickness": 14},
        hovertemplate="%{y} in %{x}: %{z:.4f}<br>by chance %{customdata:.4f}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category")
    return styled(
        figure,
        title="What is found of each in each",
        caption="Mean best |cosine| of the row's latents in the column's dictionary (MMCS). Gaussian directions with "
        f"the row's second moments reach {chance}. Dictionaries are numbered in the order given.",
        x="in dictionary",
        y="latents of dictionary",
        height=460,
    )


def _capacities(seeds: SeedComparison) -> go.Figure:
    figure = go.Figure()
    ways = seeds.ways
    for index, colour in enumerate(_colours(len(seeds.dictionaries))):
        capacity = ways[index, 1 if index == 0 else 0].capacity.sort(descending=True).values
        capacity = capacity[capacity > 0]
        figure.add_scatter(
            x=array(torch.arange(1, len(capacity) + 1)),
            y=array(capacity),
            mode="lines",
            line={"color": colour, "width": 2},
            name=f"{index + 1}",
        )
    every = torch.cat([way.capacity[way.capacity > 0] for way in ways.values()])
    if len(every):
        figure.update_yaxes(log_axis(float(every.min()), float(every.max())))
    return styled(
        figure,
        title="Do capacities come again?",
        caption="Capacities of each dictionary, largest first: curves that coincide have the same distribution, "
        "whichever latents carry it.",
        x="latent, by falling capacity",
        y="capacity C",
        height=420,
    )


def _colours(count: int) -> list[str]:
    known = list(TEMPLATE.layout.colorway)
    return [known[index % len(known)] for index in range(count)]
