"""The page of a measured network, or of one matrix."""

from importlib.metadata import version
from pathlib import Path

from polysem.measure import FeatureClass, Null
from polysem.networks import Analysis, Feature, Measured, Partner, visible_label
from polysem.plots import groups_of, network_figures, report_figures
from polysem.reports._page import Chapter, Table, Verbatim, page

_SHOWN = 8
_SHOWN_OF_LAYERS = 5
_PARTNERS = 3

_READING = (
    "A feature's capacity C_i = (W_i·W_i)² / Σ_j (W_i·W_j)² is the share of a dimension that it owns: 1 "
    "if it is orthogonal to all others, less the more others overlap with it. The total cannot exceed "
    "the number of dimensions D, and N random directions nearly reach it, so that a total says "
    "something only beside its nulls.",
    "The first null keeps the norms and draws directions at random; the second draws Gaussian rows with "
    "the same second moments M / N, so that it uses the directions as unequally as the matrix does.",
    "With many more features than dimensions the mean capacity is D / N at most, and nearly all features "
    "fall below the threshold for “ignored”: there it says that no feature comes near a dimension of "
    "its own, not that the network does not use it.",
)
_READING_PARTNERS = (
    "Partners of a feature are those that take the largest shares of its sum Σ_j (W_i·W_j)², of which it keeps the "
    "share C_i itself. What C would be about among random directions stands beside it: short rows own less there too."
)
_READING_LAYERS = (
    "A layer reads with the rows of its weight, one for each unit that it writes to, and writes with the columns, one "
    "for each unit that it reads from; kernels of convolutions are laid out flat. An embedding writes its rows."
)
_READING_FAMILY = (
    "Weights are taken as stored: gains of normalisation before a read are not folded in. A neuron's features are the "
    "vectors that it reads and writes; those of attention are the singular directions of each head's map from what it "
    "reads to what it writes, scaled by the singular values. Directions of one head are orthogonal to each other; "
    "those of the nulls are not."
)


def analysis_page(analysis: Analysis) -> str:
    """An HTML page: what the measurements say, figures, the purest and least pure features, and all numbers."""
    return _matrix_page(*analysis.measured, analysis) if len(analysis.measured) == 1 else _network_page(analysis)


def _matrix_page(one: Measured, analysis: Analysis) -> str:
    report = one.report
    chapters = (
        Chapter(
            name="numbers",
            title="Numbers",
            text=(report.verdict, *analysis.notes),
            tables=(Table(("quantity", "value"), tuple(report.table())),),
        ),
        Chapter(name="figures", title="Figures", figures=tuple(report_figures(report)), wide=True),
        *_purity_chapters([("", (one,))]),
        Chapter(name="reading", title="How to read this", text=(*_READING, _READING_PARTNERS)),
    )
    lead = f"{one.name} ({_size(*one.stored_shape)} as stored, {one.features} as features) in {_where(analysis)}"
    return page(f"Capacity of {one.name}", lead, chapters, _footer(one))


def _network_page(analysis: Analysis) -> str:
    groups = groups_of(analysis)
    n_layers = len({one.layer for one in analysis if one.layer is not None})
    kind = f"{analysis.family} network" if analysis.family else "network"
    features = sum(one.report.n_features for one in analysis)
    chapters = (
        Chapter(
            name="summary",
            title="What the network spends its dimensions on",
            text=(
                "Total capacity over the number of dimensions, and how many matrices lie below, within and above the "
                "95 % intervals of the two nulls.",
                *_few(analysis),
                *analysis.notes,
            ),
            tables=(Table(_SUMMARY, tuple(_summary(title, group) for title, group in groups)),),
        ),
        Chapter(name="layers", title="Layer by layer", figures=tuple(network_figures(analysis))),
        *_purity_chapters(groups),
        Chapter(
            name="numbers",
            title="All matrices",
            text=("In brackets the 95 % intervals of the nulls.",),
            tables=(Table(_NUMBERS, tuple(_numbers(one) for one in analysis)),),
        ),
        Chapter(
            name="reading",
            title="How to read this",
            text=(*_READING, _READING_PARTNERS, _READING_FAMILY if analysis.family else _READING_LAYERS),
        ),
    )
    name = "/".join(Path(analysis.source).parts[-2:])
    lead = f"A {kind} of {n_layers} layers: {len(analysis)} matrices with {features:,} features."
    return page(f"Capacity of {name}", lead, chapters, _footer(analysis.measured[0]))


def _few(analysis: Analysis) -> tuple[str, ...]:
    """Where capacity is not what to look at."""
    few = [one.name for one in analysis if one.report.in_few_directions]
    if not few:
        return ()
    shown = ", ".join(few[:_SHOWN]) + (f" and {len(few) - _SHOWN} more" if len(few) > _SHOWN else "")
    return (
        f"Rows of {len(few)} of the {len(analysis)} matrices use less than a quarter of the directions that they could "
        "span (the effective dimension says how many): there capacity says how many rows share a direction, not that "
        f"each row is a feature in superposition. These are {shown}.",
    )


_SUMMARY = (
    "matrices",
    "number",
    "total / D",
    "random directions",
    "below / within / above",
    "same second moments",
    "below / within / above",
    "effective dimension",
)


def _summary(title: str, group: tuple[Measured, ...]) -> tuple[str, ...]:
    reports = [one.report for one in group]

    def placed(which: str) -> str:
        places = [_place(report.total, getattr(report, which)) for report in reports]
        return " / ".join(str(places.count(place)) for place in ("below", "within", "above"))

    return (
        Verbatim(title),
        str(len(group)),
        _range([report.total / max(report.d_hidden, 1) for report in reports]),
        _range([report.isotropic.mean / max(report.d_hidden, 1) for report in reports]),
        placed("isotropic"),
        _range([report.covariance.mean / max(report.d_hidden, 1) for report in reports]),
        placed("covariance"),
        _range([report.effective_dimension for report in reports], 1),
    )


_NUMBERS = (
    "matrix",
    "features × D",
    "total / D",
    "random directions",
    "same second moments",
    "rank",
    "effective dimension",
    "efficiency",
    "ignored / impure / pure",
)


def _numbers(one: Measured) -> tuple[str, ...]:
    report, d = one.report, max(one.report.d_hidden, 1)

    def null(drawn: Null) -> str:
        low, high = drawn.interval
        return f"{drawn.mean / d:.3f} ({low / d:.3f} to {high / d:.3f})"

    return (
        Verbatim(f"{one.name}, {one.kind}"),
        _size(report.n_features, report.d_hidden),
        f"{report.total / d:.3f}",
        null(report.isotropic),
        null(report.covariance),
        f"{report.rank:,}",
        f"{report.effective_dimension:.3g}",
        f"{report.efficiency:.3f}",
        " / ".join(f"{report.counts[kind]:,}" for kind in FeatureClass),
    )


def _purity_chapters(groups: list[tuple[str, tuple[Measured, ...]]]) -> tuple[Chapter, ...]:
    """The features with the largest and the smallest capacities of each group, with whom they share."""
    parts = tuple(
        Chapter(name=f"purity-{number}", title=title, tables=_purity_tables(group))
        for number, (title, group) in enumerate(groups)
    )
    title = "Most and least pure features"
    if len(parts) == 1:
        return (Chapter(name="purity", title=title, tables=parts[0].tables),)
    return (Chapter(name="purity", title=title, parts=parts),)


_Found = tuple[Measured, Feature]


def _purity_tables(group: tuple[Measured, ...]) -> tuple[Table, ...]:
    n = _SHOWN if len(group) == 1 else _SHOWN_OF_LAYERS
    most = sorted(((one, f) for one in group for f in one.most_pure(n)), key=lambda found: -found[1].capacity)[:n]
    least = sorted(((one, f) for one in group for f in one.least_pure(n)), key=lambda found: found[1].capacity)[:n]
    shown = [("most pure", most), ("least pure", least)]
    if len(group) == 1 and group[0].labels:
        shown.append(
            ("most for its norm: C over random", [(one, f) for one in group for f in one.most_pure(n, relative=True)])
        )
    shared = _partners(group, [found for _, listed in shown for found in listed])
    return tuple(
        Table(
            (label, "C", "random", "norm", "partners: cosine, share"),
            tuple(
                (
                    Verbatim(_name(one, feature, layered=len(group) > 1)),
                    f"{feature.capacity:.3g}",
                    f"{feature.null:.3g}",
                    f"{feature.norm:.3g}",
                    Verbatim(shared.get((one.name, feature.index), "–")),
                )
                for one, feature in found
            ),
        )
        for label, found in shown
    )


def _partners(group: tuple[Measured, ...], found: list[_Found]) -> dict[tuple[str, int], str]:
    """What stands in the table for the partners of each feature, from one reading of each matrix."""
    shared = {}
    for one in group:
        rows = tuple(feature.index for measured, feature in found if measured is one)
        if rows and one.rows is not None:
            for row, partners in zip(rows, one.partners_of(rows, _PARTNERS), strict=True):
                shared[one.name, row] = "; ".join(
                    f"{_name(one, other, layered=False)} ({other.cosine:+.2f}, {100 * other.share:.2g} %)"
                    for other in partners
                )
    return shared


def _name(one: Measured, feature: Feature | Partner, *, layered: bool) -> str:
    """What to call a feature: its label, or its number and where it stands."""
    where = ([f"layer {one.layer}"] if one.kind in _NUMBERED else [one.name]) if layered else []
    if feature.label is not None:
        where.append(visible_label(feature.label))
    elif one.n_heads:
        head, direction = divmod(feature.index, one.report.n_features // one.n_heads)
        where += [f"head {head}", f"direction {direction}"]
    else:
        where.append(f"{_NUMBERED.get(one.kind, 'feature')} {feature.index}")
    return ", ".join(where)


_NUMBERED = {
    "token embedding": "token",
    "position embedding": "position",
    "unembedding": "token",
    "attention in": "direction",
    "attention out": "direction",
    "MLP in": "neuron",
    "MLP gate": "neuron",
    "MLP up": "neuron",
    "MLP out": "neuron",
}
"""What the features of a family's matrices are called."""


def _place(total: float, null: Null) -> str:
    low, high = null.interval
    return "below" if total < low else "above" if total > high else "within"


def _range(values: list[float], digits: int = 3) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _size(*shape: int) -> str:
    return " × ".join(f"{size:,}" for size in shape)


def _where(analysis: Analysis) -> str:
    return Path(analysis.source).name or analysis.source


def _footer(one: Measured) -> str:
    return f"polysem {version('polysem')}; norm policy {one.report.norm}."
