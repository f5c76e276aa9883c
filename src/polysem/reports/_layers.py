"""The chapter on large networks, layer by layer: does capacity inside them have one price?"""

from collections.abc import Iterator

import plotly.graph_objects as go

from polysem import plots, studies
from polysem.measure import FeatureClass
from polysem.reports._page import Chapter, Part, Table
from polysem.reports._settings import ReproduceConfig, Sweeping
from polysem.returns import Verdict


def layers_chapter(title: str, config: ReproduceConfig, _: Sweeping) -> Part:
    """Two networks with many features: where these lie, and whether their capacity has one price."""
    result = studies.layers(config.layers)
    return _chapter(title, config.layers, result), tuple(_summary(result))


def _chapter(title: str, c: studies.LayersConfig, result: studies.Layers) -> Chapter:
    """Text, figures and tables of both networks."""
    figures = dict(plots.layer_figures(result))
    first = result.reconstruct
    spread = float(result.importance[0] / result.importance[-1])
    return Chapter(
        name="layers",
        title=title,
        text=(
            f"Residual networks of {c.n_layers} blocks: {c.n_features:,} features in a stream of {c.d_hidden} "
            f"dimensions, each active with probability {c.feature_probability:g}, with importances from 1 to "
            f"1/{spread:,.0f}. In every state of the stream a feature's embedding is the slope of the state on it, and "
            "its readout a ridge regression, fitted on other samples than it is measured on; “outputs” is the last "
            "state as the network's own outputs read it.",
            "The price of a feature's capacity is what its own loss would gain from less interference in its readout, "
            "with the state along its embedding and all others undisturbed. The whole loss has less to gain: to lower "
            "the interference of one feature at the cost of others is to move the embedding, and at its minimum that "
            f"gains nothing. At the outputs of the network that {first.task}s, benefits to the whole loss are "
            f"{_share(first.states[-1])} of those to features' own losses, and {_share(first.start)} before training.",
        ),
        parts=tuple(_part(network, spread, figures) for network in result.networks),
    )


def _summary(result: studies.Layers) -> Iterator[tuple[str, str, str]]:
    """What was measured, and what the theory expects."""
    first, second = result.networks
    test, start = first.states[-1].test, first.start.test
    yield (
        f"{len(result.importance):,} features: dispersion of prices at the outputs, of {int(test.n_impure):,} impure "
        "features, and before training",
        f"{float(test.prices.value):.0%} ({float(test.prices.low):.0%} to {float(test.prices.high):.0%}), "
        f"{float(start.prices.value):.0%}",
        "0 after training",
    )
    yield (
        f"{len(result.importance):,} features and linear outputs: impure of those represented",
        f"{int(second.states[-1].test.n_impure)} of {_represented(second.states[-1])}",
        "none: returns are constant",
    )


def _part(network: studies.Deep, spread: float, figures: dict[str, go.Figure]) -> Chapter:
    last = network.states[-1].test
    where = (
        f"Trained to {network.relative_loss:.1%} of the loss of ignoring every feature; a dimension for each of the "
        f"most important features and none for the others would leave {network.monosemantic:.1%}."
    )
    if network.task == "reconstruct":
        task = "The target is the input, and the outputs end in a ReLU, which silences interference."
        ratio = network.states[-1].price_ratio
        together = f"lie within a factor of {ratio:.2g}" if ratio < float("inf") else "have both signs"
        says = (
            f"{_verdict(network)} At the outputs, means over features of like importance {together}, while importances "
            f"differ {spread:,.0f}-fold. Were importances dealt out to other features, prices would scatter by "
            f"{float(network.null.median()):.0%} (median of {len(network.null)} deals)."
        )
    else:
        task = (
            "The target is the absolute value, which no linear map shows; outputs are linear. Linear readouts have "
            "constant returns: the theory expects features to be pure or ignored, the most important first."
        )
        kinds = [int((last.feature_class == one).sum()) for one in FeatureClass]
        says = (
            f"At the outputs {kinds[0]:,} features are ignored, {kinds[2]} pure and {kinds[1]} impure. "
            f"{_verdict(network)}"
        )
    return Chapter(
        name=f"layers_{network.task}",
        title={"reconstruct": "A network that reconstructs", "compute": "A network that computes"}[network.task],
        text=(f"{task} {where}", says),
        figures=tuple((name, figures[f"{network.task}-{name}"]) for name in ("capacity", "benefit")),
        tables=(_table(network),),
    )


def _verdict(network: studies.Deep) -> str:
    """Whether the theory's prediction holds, state by state."""
    states = network.of(network.target)
    tolerance = states[-1].test.tolerance
    groups = {one: [state.name for state in states if int(state.test.verdict) == one] for one in Verdict}
    says = {
        Verdict.EQUAL: f"prices are equal, to {tolerance:.0%}",
        Verdict.UNEQUAL: f"they are not equal to {tolerance:.0%}",
        Verdict.UNDECIDED: f"these samples cannot tell whether they are equal to {tolerance:.0%}",
    }
    parts = [f"{says[one]}: {', '.join(names)}" for one, names in groups.items() if names]
    sizes = [float(state.test.prices.value) for state in states]
    return (
        f"Prices of impure features scatter by {min(sizes):.0%} to {max(sizes):.0%}, state by state "
        f"({float(network.start.test.prices.value):.0%} before training); {'; '.join(parts)}."
    )


def _table(network: studies.Deep) -> Table:
    return Table(
        (
            "state",
            "features",
            "total capacity",
            "ignored / impure / pure",
            "dispersion of prices",
            "95 % interval",
            "returns",
            "whole loss / own",
            "slopes against Jacobians, cosine",
        ),
        tuple(
            (name, *_row(state, priced=state.signal == network.target))
            for name, state in (
                *((state.name, state) for state in network.states),
                ("outputs, untrained", network.start),
            )
        ),
    )


def _row(state: studies.State, *, priced: bool) -> tuple[str, ...]:
    """What the table says of a state; the loss puts a price on its target alone."""
    test = state.test
    prices = (
        f"{float(test.prices.value):.1%}",
        f"{float(test.prices.low):.1%} to {float(test.prices.high):.1%}",
        Verdict(int(test.verdict)).name.lower(),
        _share(state),
    )
    return (
        state.signal,
        f"{float(state.capacity.sum()):.1f}",
        " / ".join(str(int((test.feature_class == one).sum())) for one in FeatureClass),
        *(prices if priced else ["–"] * len(prices)),
        "–" if state.jacobian is None else f"{state.jacobian:.3f}",
    )


def _share(state: studies.State) -> str:
    return f"{state.whole_share:.0%}"


def _represented(state: studies.State) -> int:
    return int((state.test.feature_class != FeatureClass.IGNORED).sum())
