"""The chapter that compares architectures: maps of all, then bands of each family."""

from collections.abc import Iterator

import numpy as np

from polysem import plots, studies
from polysem.reports._page import Chapter, Table

FAMILIES = {
    "tied": "Autoencoders with tied weights, and the quadratic model",
    "untied": "Autoencoders with a readout of their own",
    "hidden": "A hidden layer of neurons, target x",
    "hidden-abs": "A hidden layer of neurons, target |x|",
    "hidden-square": "A hidden layer of neurons, target x²",
    "residual": "Residual networks of two blocks, target |x|",
}


def comparison_chapter(title: str, result: studies.Comparison) -> Chapter:
    """Text, figures and tables of a finished comparison."""
    p = result.probability[-1]
    return Chapter(
        name="comparison",
        title=title,
        text=(
            "Every architecture was trained at every feature probability p from several random starts, on the same "
            "budget of dimensions D. Inputs are uniform on [0, 1] where the target is x, else on [−1, 1]; importances "
            "fall geometrically. Losses are relative: 1 is the loss of ignoring every feature, and the best "
            "monosemantic allocation gives one dimension, without error, to each of the D most important features.",
            "Polysemanticity is the mean of 4 C (1 − C) over the represented features: 0 if each is pure, 1 if each "
            "has capacity 1/2. For neurons, capacity is measured from the response Cov(x̂_i, t(x_j)) / Var t(x_j). "
            "Losses are exact for the quadratic model and for autoencoders with identity or square outputs, and "
            "sampled for all others.",
            "Capacity counts interference of either sign. A ReLU or GELU on the outputs silences negative "
            "interference, which a readout of its own can make as large as it likes: then features whose outputs are "
            "right have capacities near 0 and count as ignored, and the loss lies below the monosemantic one where few "
            "features seem to be represented.",
            *_not_rising(result, p),
            *_unfinished(result),
            *_failures(result),
        ),
        figures=tuple(plots.comparison_figures(result)),
        wide=True,
        tables=tuple(_table(result, index) for index in range(len(result.d_hidden))),
        parts=tuple(
            Chapter(f"comparison-{name}", FAMILIES[name], figures=tuple(plots.family_figures(result, members)))
            for name, members in _families(result).items()
        ),
    )


def comparison_summary(result: studies.Comparison) -> Iterator[tuple[str, str, str]]:
    """Lines of the summary: experiment, measured, expected."""
    over_floor = result.relative_loss / result.monosemantic
    lowest = result.probability[-1]
    for index, d in enumerate(result.d_hidden):
        rising = int(result.rises[:, index].sum())
        yield (
            f"Comparison, D = {d}: architectures that represent more features at p = {lowest:g} than at 1",
            f"{rising} of {len(result.architecture)}",
            "those that superpose",
        )
        best = np.where(np.isnan(over_floor[:, index]), np.inf, over_floor[:, index])
        row, at, _ = np.unravel_index(best.argmin(), best.shape)
        yield (
            f"Comparison, D = {d}: lowest loss over that of the best monosemantic allocation",
            f"{best.min():.2g} ({result.architecture[row]}, p = {result.probability[at]:.2g})",
            "below 1 where superposition pays",
        )


def _not_rising(result: studies.Comparison, p: float) -> Iterator[str]:
    for index, d in enumerate(result.d_hidden):
        names = [name for name, rises in zip(result.architecture, result.rises[:, index], strict=True) if not rises]
        if names:
            yield (
                f"D = {d}: the share of represented features does not rise, beyond its 95 % intervals, from p = 1 to "
                f"p = {p:g} in {len(names)} of {len(result.architecture)} architectures: {', '.join(names)}."
            )


def _unfinished(result: studies.Comparison) -> Iterator[str]:
    best = np.nanmin(result.relative_loss, -1)
    worse = (best > 1).any((1, 2))
    if worse.any():
        names = ", ".join(name for name, one in zip(result.architecture, worse, strict=True) if one)
        yield (
            f"In {(best > 1).sum()} of {best.size} settings ({names}) even the best start ends above the loss of "
            "ignoring everything: there training has not come to its end, and says little."
        )


def _failures(result: studies.Comparison) -> Iterator[str]:
    if result.n_failed:
        yield f"{result.n_failed} of {result.relative_loss.size} cells have no result; they are left out of all means."


def _table(result: studies.Comparison, index: int) -> Table:
    """At the highest and the lowest probability: means over the starts, the loss of the best start."""
    represented = studies.over_starts(result.represented[:, index]).mean
    spent = studies.over_starts(result.polysemanticity[:, index]).mean
    loss = np.nanmin((result.relative_loss / result.monosemantic)[:, index], -1)
    first, last = (f"p = {result.probability[end]:g}" for end in (0, -1))
    header = (
        f"D = {result.d_hidden[index]}",
        f"represented, {first}",
        last,
        f"polysemanticity, {first}",
        last,
        f"loss / monosemantic, {first}",
        last,
    )
    rows = tuple(
        (
            name,
            *(f"{values[row, end]:.0%}" for values in (represented,) for end in (0, -1)),
            *(f"{values[row, end]:.3g}" for values in (spent, loss) for end in (0, -1)),
        )
        for row, name in enumerate(result.architecture)
    )
    return Table(header, rows)


def _families(result: studies.Comparison) -> dict[str, tuple[str, ...]]:
    """Names of the architectures compared, by family and target."""
    groups: dict[str, list[str]] = {name: [] for name in FAMILIES}
    for name in result.architecture:
        one = studies.architecture(name)
        target = f"-{one.target}" if one.family == "hidden" and one.target != "identity" else ""
        groups["tied" if one.family == "quadratic" else f"{one.family}{target}"].append(name)
    return {family: tuple(names) for family, names in groups.items() if names}
