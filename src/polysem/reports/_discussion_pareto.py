"""The price of purity: every intervention and every architecture, polysemanticity against loss."""

from collections.abc import Iterator, Sequence

from polysem import plots, studies
from polysem.reports._page import Chapter, Part, Table
from polysem.reports._settings import ReproduceConfig, Sweeping

PURE_BELOW = 0.05
"""An index of polysemanticity up to which a model counts as monosemantic here."""


def pareto_part(config: ReproduceConfig, sweeping: Sweeping) -> Part:
    """All interventions side by side, beside other architectures."""
    c = config.pareto
    with sweeping.store("pareto", studies.comparison_grid(studies.comparison_config(c))) as store:
        result = studies.pareto(c, store, engine=sweeping.engine, progress=sweeping.progress)
    chapter = Chapter(
        name="pareto",
        title="What purity costs",
        text=(
            f"Everything above on the same two models of {c.n_features} features in {c.d_hidden} dimensions, each "
            "intervention after ordinary training: a quadratic model (kurtosis "
            f"{c.kurtosis:g}), whose optimum is {result.optimum:.2f} of the loss of the best monosemantic allocation, "
            f"and a ReLU autoencoder (p = {c.feature_probability:g}), beside other architectures on features of that "
            "probability. Losses are relative to each one's own best monosemantic allocation.",
            f"Quadratic model: {_says(result.quadratic)}",
            f"ReLU autoencoder: {_says(result.relu)}",
            _architectures(result.relu),
        ),
        figures=tuple(plots.pareto_figures(result)),
        tables=(_table("quadratic model", result.quadratic), _table("ReLU autoencoder", result.relu)),
    )
    return chapter, tuple(_summary(result))


def _summary(result: studies.Pareto) -> Iterator[tuple[str, str, str]]:
    for name, points in (("quadratic model", result.quadratic), ("ReLU autoencoder", result.relu)):
        pure = _pure(point for point in points if point.kind != "architecture")
        if pure:
            best = min(pure, key=_loss)
            yield (
                f"Price of purity, {name}: loss of the cheapest intervention that makes it monosemantic, relative",
                f"{_loss(best):.3f} ({best.name})",
                "at least 1: the best monosemantic allocation",
            )


def _says(points: Sequence[studies.ParetoPoint]) -> str:
    """What interventions lead to."""
    treated = [point for point in points if point.kind in ("penalty", "one by one", "mask")]
    pure = sorted(_pure(treated), key=_loss)
    between = [point for point in treated if PURE_BELOW < _index(point) < _index(points[0]) - PURE_BELOW]
    costs = "; ".join(f"{point.name} {_loss(point):.2f}" for point in pure)
    steps = (
        f"On average {len(between)} of {len(treated)} end between."
        if between
        else "None ends between: features stay as they are, or all become pure."
    )
    made = f"these make it monosemantic, at losses of: {costs}" if pure else "no intervention makes it monosemantic"
    return (
        f"without any the loss is {_loss(points[0]):.2f} and polysemanticity {_index(points[0]):.2f}; {made}. {steps}"
    )


def _architectures(points: Sequence[studies.ParetoPoint]) -> str:
    """Whether purity comes for free with another architecture."""
    others = [point for point in points if point.kind == "architecture"]
    pure = _pure(others)
    cheap = [point for point in pure if _loss(point) < 1 - PURE_BELOW]
    shared = [point for point in others if _index(point) > PURE_BELOW and _loss(point) < 1 - PURE_BELOW]
    below = (
        f"{', '.join(point.name for point in cheap)} even with less loss than any allocation of pure features allows: "
        "there capacity misses interference that is silenced"
        if cheap
        else "none of them with less loss than the best monosemantic allocation"
    )
    return (
        f"Of {len(others)} architectures {len(pure)} train to an index of at most {PURE_BELOW:g} without any "
        f"intervention, {below}. {len(shared)} share dimensions and gain by it."
    )


def _pure(points: Iterator[studies.ParetoPoint] | Sequence[studies.ParetoPoint]) -> list[studies.ParetoPoint]:
    return [point for point in points if _index(point) <= PURE_BELOW]


def _table(name: str, points: Sequence[studies.ParetoPoint]) -> Table:
    return Table(
        (name, "polysemanticity", "loss / best monosemantic"),
        tuple((point.name, _with_interval(point.polysemanticity), _with_interval(point.loss)) for point in points),
    )


def _with_interval(band: studies.Band) -> str:
    return f"{float(band.mean):.3f} ± {float(band.half_width):.3f}"


def _index(point: studies.ParetoPoint) -> float:
    return float(point.polysemanticity.mean)


def _loss(point: studies.ParetoPoint) -> float:
    return float(point.loss.mean)
