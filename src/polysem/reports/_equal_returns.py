"""The chapter on the equal-returns test: how good it is, and where geometry decides instead of returns."""

from collections.abc import Iterator

import torch
from torch import Tensor

from polysem import plots, studies
from polysem.measure import FeatureClass
from polysem.reports._page import Chapter, Table
from polysem.returns import EqualReturns, Verdict

RELU = "tied relu"
LOOKED_AT = 4
"""Dimension in which single ReLU autoencoders are shown."""
SETTINGS = {
    "equal importances, p = 0.3": (1.0, 0.3),
    "equal importances, p = 0.05": (1.0, 0.05),
    "importances 0.9ⁱ, p = 0.3": (0.9, 0.3),
    "importances 0.9ⁱ, p = 0.05": (0.9, 0.05),
}
"""Importance decay and feature probability of each of them."""
EQUALLY_IMPORTANT = tuple(name for name, (decay, _) in SETTINGS.items() if decay == 1)


def equal_returns_chapter(title: str, power: studies.Power, pair: studies.Pair, locking: studies.Locking) -> Chapter:
    """Text, figures and tables of the three experiments."""
    n = locking.importance.shape[-1]
    shown = list(_cells(locking))
    return Chapter(
        name="returns",
        title=title,
        text=(
            "If capacity is spent like a budget, then at the optimum all impure features have the same marginal "
            "benefit −dL/dC, pure ones at least that, ignored ones at most. That can be measured on any trained "
            "network, and can turn out false.",
        ),
        parts=(
            Chapter(
                name="power",
                title="The test on networks that we understand",
                text=(
                    "Quadratic models, where the theory holds: at their optimum, and away from it. Prices and curves "
                    "are exact; dispersions up to 5 % count as equal. Rows dealt out to the wrong features keep their "
                    "prices: there only the curves tell.",
                ),
                figures=(
                    ("optimum", plots.price_figure(power.optimum.select(0), title="A quadratic model at its optimum")),
                ),
                tables=(_power_table(power),),
            ),
            Chapter(
                name="pair",
                title="A pair that importance does not move",
                text=(
                    "Two sparse features that share a dimension of a ReLU autoencoder, on its exact loss. Were "
                    "capacity a continuous budget, the more important one would take more of it until both prices are "
                    "equal.",
                ),
                figures=(("pair", plots.pair_figure(pair)),),
            ),
            Chapter(
                name="locking",
                title="Polytopes lock capacities",
                text=(
                    f"ReLU autoencoders of {n} features, uniform on [0, 1] when active, best of several starts. Losses "
                    "are sampled; intervals are those of the samples.",
                ),
                figures=tuple(
                    (f"relu-{number}", plots.price_figure(test, title=f"ReLU, D = {LOOKED_AT}, {name}"))
                    for number, (name, test, _) in enumerate(shown)
                    if name not in EQUALLY_IMPORTANT
                ),
                tables=(_cell_table(shown),) if shown else (),
            ),
            Chapter(
                name="locking_map",
                title="Where the budget is continuous, and where it is not",
                text=tuple(_verdicts(locking)),
                figures=tuple(plots.locking_figures(locking)),
                wide=True,
            ),
        ),
    )


def equal_returns_summary(
    power: studies.Power, pair: studies.Pair, locking: studies.Locking
) -> Iterator[tuple[str, str, str]]:
    """Lines of the summary: experiment, measured, expected."""
    wrong = int((power.optimum.verdict == Verdict.UNEQUAL).sum())
    yield "Equal returns: optima of the quadratic model refuted", f"{wrong} of {power.optimum.verdict.numel()}", "none"
    refuted = [int((test.verdict == Verdict.UNEQUAL).sum()) for test in power.others.values()]
    total = sum(test.verdict.numel() for test in power.others.values())
    yield "Equal returns: networks at no optimum refuted", f"{sum(refuted)} of {total}", "all"
    shared = pair.price_ratio[-1].isfinite()
    if bool(shared.any()):
        last = shared.nonzero()[-1, 0]
        p, r = float(pair.probability[-1]), float(pair.ratio[last])
        yield (
            f"Antipodal pair at p = {p:g}, importance ratio {r:.2g}: capacity of the lesser, ratio of prices",
            f"{float(pair.capacity[-1, last]):.3f}, {float(pair.price_ratio[-1, last]):.2g}",
            "equal prices, if capacity were a continuous budget",
        )
    for name, _, spread in _cells(locking):
        if name not in EQUALLY_IMPORTANT:
            yield (
                f"ReLU, {locking.importance.shape[-1]} features, D = {LOOKED_AT}, {name}: highest over lowest price",
                f"{spread:.2f}",
                "1, if capacity were a continuous budget",
            )


def _power_table(power: studies.Power) -> Table:
    rows = [("trained to the optimum", power.optimum), *power.others.items()]
    return Table(
        ("networks", "refuted", "upheld", "undecided", "dispersion of prices, median", "of the curves' slopes, median"),
        tuple(
            (
                name,
                *(f"{float((test.verdict == one).double().mean()):.0%}" for one in (Verdict.UNEQUAL, Verdict.EQUAL)),
                f"{float((test.verdict == Verdict.UNDECIDED).double().mean()):.0%}",
                f"{float(test.prices.value.median()):.1%}",
                "–" if test.curves is None else f"{float(test.curves.value.median()):.1%}",
            )
            for name, test in rows
        ),
    )


def _cells(locking: studies.Locking) -> Iterator[tuple[str, EqualReturns, float]]:
    """The ReLU autoencoders in the dimension looked at that have impure features: name, test, spread of prices."""
    if RELU not in locking.architecture or LOOKED_AT not in locking.d_hidden:
        return
    for name, (decay, p) in SETTINGS.items():
        if decay in locking.decay and p in locking.probability:
            test = locking.one(RELU, LOOKED_AT, decay, p)
            benefit = test.benefit[test.feature_class == FeatureClass.IMPURE]
            if len(benefit) >= 2 and float(benefit.min()) > 0:
                yield name, test, float(benefit.max() / benefit.min())


def _cell_table(cells: list[tuple[str, EqualReturns, float]]) -> Table:
    return Table(
        ("network", "impure capacities", "dispersion of prices", "95 % interval", "highest / lowest price"),
        tuple(
            (
                name,
                _range(test.capacity[test.feature_class == FeatureClass.IMPURE]),
                f"{float(test.prices.value):.1%}",
                f"{float(test.prices.low):.1%} to {float(test.prices.high):.1%}",
                f"{spread:.2f}",
            )
            for name, test, spread in cells
        ),
    )


def _range(values: Tensor) -> str:
    return f"{len(values)} from {float(values.min()):.3f} to {float(values.max()):.3f}"


def _verdicts(locking: studies.Locking) -> Iterator[str]:
    """What the maps say of each architecture, over the cells with unequal importances."""
    unequal = torch.tensor([decay < 1 for decay in locking.decay])
    yield (
        "Every cell is the best of its starts, tested by its prices alone. With unequal importances a continuous "
        "budget would give unequal capacities and equal prices; locked capacities give prices that follow importance."
    )
    for index, name in enumerate(locking.architecture):
        tested = (locking.test.n_impure[index] >= 2)[:, unequal]
        verdict = locking.test.verdict[index][:, unequal][tested]
        if not len(verdict):
            yield f"{name}: no cell with two impure features."
            continue
        slope = locking.elasticity[index][:, unequal]
        slope = slope[slope.isfinite()]
        share = locking.locked[index][:, unequal][tested]
        text = (
            f"{name}: returns are equal in {int((verdict == Verdict.EQUAL).sum())}, unequal in "
            f"{int((verdict == Verdict.UNEQUAL).sum())} of {len(verdict)} cells with impure features"
        )
        text += f"; on average {float(share.mean()):.0%} of their capacities are at a polytope's value"
        if len(slope):
            text += f", and the price goes with importance to the power {float(slope.median()):.2f} (median)"
        yield text + "."
    if locking.n_failed:
        yield f"{locking.n_failed} starts have no result; they are left out."
