"""Waves in the embedding of a network that adds."""

import plotly.graph_objects as go

from polysem.measure import FeatureClass, classify
from polysem.plots._style import FIRST, IGNORED, PURE, array, styled
from polysem.studies import Addition


def addition_figure(result: Addition) -> go.Figure:
    """Capacity of the numbers and of the waves in the token embedding, each sorted by falling capacity."""
    figure = go.Figure()
    norm = result.waves.embedding.norm(dim=-1)
    there = classify(result.waves.capacity, norm) != FeatureClass.IGNORED
    for found, kept, name, colour in (
        (result.tokens, there.new_ones(len(result.tokens.names)), "numbers", FIRST),
        (result.waves, there, "waves, not ignored", PURE),
        (result.waves, ~there, "waves, ignored", IGNORED),
    ):
        places = kept.nonzero()[:, 0]
        order = places[found.capacity[places].argsort(descending=True)]
        figure.add_scatter(
            x=list(range(1, len(order) + 1)),
            y=array(found.capacity[order]),
            mode="markers",
            marker={"color": colour, "size": 7},
            name=name,
            text=[found.names[k] for k in order.tolist()],
            hovertemplate="%{text}<br>C %{y:.3f}<extra></extra>",
        )
    frequencies = result.represented
    share = float(result.variance[frequencies - 1].sum())
    figure.update_yaxes(range=[-0.03, 1.05])
    n, d = result.tokens.embedding.shape
    return styled(
        figure,
        title="A network that adds: numbers or waves?",
        caption=f"{n} numbers lie in about {result.effective_dimension:.1f} of {d} dimensions and share them: "
        f"{result.tokens.total:.1f} in all. Waves do not: those of {len(frequencies)} frequencies "
        f"({', '.join(map(str, frequencies.tolist()))}), {share:.0%} of the variance, are pure. In bases drawn at "
        f"random no feature has more than {float(result.other_bases.max()):.2f}.",
        x="feature, by falling capacity",
        y="capacity C",
    )
