"""The chapter on transformers: what the activation of their neurons changes, and what it costs."""

from collections.abc import Iterator

import numpy as np

from polysem import plots, studies
from polysem.reports._page import Chapter, Part, Table
from polysem.reports._settings import ReproduceConfig, Sweeping
from polysem.returns import Verdict

NAMES = studies.ACTIVATIONS
MEASURES = (
    "loss",
    "polysemanticity of the stream",
    "polysemanticity at its end",
    "features per neuron",
)


def transformer_chapter(title: str, config: ReproduceConfig, sweeping: Sweeping) -> Part:
    """Networks of every activation: what they lose, and how polysemantic they are."""
    with sweeping.store("transformer", studies.transformer_grid(config.transformer)) as store:
        result = studies.transformers(config.transformer, store, engine=sweeping.engine, progress=sweeping.progress)
    return written(title, config.transformer, result), tuple(summary(result))


def written(title: str, config: studies.TransformerConfig, result: studies.Transformers) -> Chapter:
    """Text, figures and tables."""
    figures = plots.transformer_figures(result)
    n, d = config.n_features, config.d_model
    return Chapter(
        name="transformer",
        title=title,
        text=(
            f"Causal transformers of {config.n_layers} blocks with attention, without layer norm on the residual "
            f"stream. At each of {config.n_positions} positions there are {n} features, each active with probability "
            f"{config.feature_probability:g} and then uniform on [−1, 1], of importance {config.decay:g}^i. The "
            "network is to say the magnitude of each, and its magnitude at the position before: that needs neurons, "
            f"since |x| is not linear, and attention. {2 * n} targets have to pass through a stream of {d} dimensions, "
            "read by ReLUs. Probabilities are known, and so is the loss of ignoring everything, which is 1.",
            f"Networks differ in the activation of their neurons: {_listed(result)}. SoLU is followed by its layer "
            "norm, as published, and starts with larger input weights, between which its softmax can choose. Bilinear "
            "neurons are two thirds as many, for as many weights. Each was trained from "
            f"{config.starts} {'start' if config.starts == 1 else 'starts'} for "
            f"{config.steps:,} steps on sampled losses, at a learning rate chosen for its activation on other seeds: "
            "what follows is what they reach in as many steps, not what they could represent.",
            *_verdicts(result),
            *_failures(result),
        ),
        figures=tuple(figures[:-1]),
        wide=True,
        tables=(_table(result),),
        parts=(
            Chapter(
                name="transformer_returns",
                title="Is the stream's capacity spent at equal returns?",
                text=tuple(_returns(result)),
                figures=tuple(figures[-1:]),
                tables=(_returns_table(result),),
            ),
        ),
    )


def summary(result: studies.Transformers) -> Iterator[tuple[str, str, str]]:
    """Lines of the summary: experiment, measured, expected."""
    for measure, values in _values(result).items():
        if measure != MEASURES[2]:
            means = studies.over_starts(values).mean
            shown = ", ".join(f"{NAMES[name]} {mean:.2g}" for name, mean in zip(result.activation, means, strict=True))
            goal = "the same, if the activation did not matter"
            goal = f"best monosemantic stream: {result.monosemantic:.2g}" if measure == "loss" else goal
            yield f"Transformer: {measure}", shown, goal


def _listed(result: studies.Transformers) -> str:
    return ", ".join(NAMES[name] for name in result.activation)


def _values(result: studies.Transformers) -> dict[str, np.ndarray]:
    """What is compared, for each network."""
    values = (result.loss, result.in_stream, result.at_end, result.features_per_neuron[..., -1])
    return dict(zip(MEASURES, values, strict=True))


def _verdicts(result: studies.Transformers) -> Iterator[str]:
    """Each activation against the first, where there are intervals to judge by."""
    first, *others = result.activation
    if not others:
        return
    if result.loss.shape[1] == 1:
        yield "There is one network of each activation: what differs between them may be chance."
        return
    parts = []
    for measure, values in _values(result).items():
        band = studies.over_starts(values)
        differing: list[str] = []
        alike: list[str] = []
        for row, name in enumerate(others, 1):
            apart = abs(band.mean[row] - band.mean[0]) > np.hypot(band.half_width[row], band.half_width[0])
            ratio = f"{NAMES[name]} × {band.mean[row] / band.mean[0]:.2f}"
            (differing if apart else alike).append(ratio)
        found = f"{', '.join(differing) or 'none'} beyond the intervals"
        parts.append(f"{measure}: {found}, {', '.join(alike)} within them" if alike else f"{measure}: {found}")
    yield (
        f"Each activation beside {NAMES[first]}, by the ratio of the means over the starts; a difference counts where "
        "it exceeds both 95 % intervals, added in squares. "
        f"{'. '.join(part[0].upper() + part[1:] for part in parts)}."
    )
    yield from _about_solu(result)


def _about_solu(result: studies.Transformers) -> Iterator[str]:
    if "solu" in result.activation:
        at_stages = result.features_per_neuron[result.activation.index("solu")]
        before, after, written = studies.over_starts(at_stages.swapaxes(0, 1)).mean
        fewer = "makes neurons answer to fewer features" if after < before else "does not make neurons answer to fewer"
        again = "its layer norm to more again" if written > after else "nor does its layer norm change that"
        yield (
            f"SoLU stage by stage: {before:.1f} features per neuron before the activation, {after:.1f} after it, "
            f"{written:.1f} after the layer norm, as the stream receives them. Its softmax {fewer}, {again}."
        )


def _failures(result: studies.Transformers) -> Iterator[str]:
    if result.n_failed:
        yield f"{result.n_failed} of {result.loss.size} networks have no result; they are left out of all means."


def _table(result: studies.Transformers) -> Table:
    """Means over the starts, with half widths of 95 % intervals."""
    loss, stream, end, written = _values(result).values()
    here, before = np.moveaxis(result.target_loss, -1, 0)
    pre, after, _ = np.moveaxis(result.features_per_neuron, -1, 0)
    columns = {
        "loss / ignoring all": loss,
        "magnitudes here": here,
        "magnitudes before": before,
        MEASURES[1]: stream,
        "at its end": end,
        f"{MEASURES[3]}, before the activation": pre,
        "after it": after,
        "as written": written,
    }
    bands = [studies.over_starts(values) for values in columns.values()]
    rows = tuple(
        (NAMES[name], *(_with_width(float(band.mean[row]), float(band.half_width[row])) for band in bands))
        for row, name in enumerate(result.activation)
    )
    return Table(("activation", *columns), rows)


def _with_width(mean: float, half_width: float) -> str:
    return f"{mean:.3g}" if np.isnan(half_width) else f"{mean:.3g} ± {half_width:.2g}"


def _tests(result: studies.Transformers, place: int) -> list[list[Verdict]]:
    """The verdict on every network in a place, by activation; without those that failed."""
    return [
        [
            Verdict(int(result.test(row, start, place).verdict))
            for start in range(result.loss.shape[1])
            if not np.isnan(result.loss[row, start])
        ]
        for row in range(len(result.activation))
    ]


def _returns(result: studies.Transformers) -> Iterator[str]:
    yield (
        "The price of a variable is what the network would lose less on the magnitude of that feature, where it is "
        "told, if the variable's readout saw less interference; it is in units of the loss of ignoring everything. Of "
        "the loss as a whole all these prices are 0 at a minimum, since the weights can trade one for another."
    )
    verdicts = [one for place in range(result.n_stream) for row in _tests(result, place) for one in row]
    yield (
        f"Returns are equal in {verdicts.count(Verdict.EQUAL)}, unequal in {verdicts.count(Verdict.UNEQUAL)} and "
        f"undecided in {verdicts.count(Verdict.UNDECIDED)} of {len(verdicts)} cases (networks × places)."
    )
    found = []
    for pair, values in result.correlations.items():
        band = studies.over_starts(values.ravel())
        if np.isfinite(band.mean):
            found.append(f"{pair} {_with_width(float(band.mean), float(band.half_width))}")
    if found:
        yield (
            "Rank correlations over what is impure at the end of the stream, means over the networks with 95 % "
            f"intervals: {', '.join(found)}. Were prices equal, benefit would go with nothing; were capacities locked "
            "at the values of polytopes, it would go with importance."
        )


def _returns_table(result: studies.Transformers) -> Table:
    """Starts with unequal returns, and the dispersion of prices, at every place of the stream."""
    places = (place.removeprefix("blocks.") for place in result.places[: result.n_stream])
    header = ("unequal returns (dispersion)", *places)
    rows = [[NAMES[name]] for name in result.activation]
    for place in range(result.n_stream):
        for row, verdicts in enumerate(_tests(result, place)):
            spread = [float(result.test(row, k, place).prices.value) for k in range(result.loss.shape[1])]
            unequal = verdicts.count(Verdict.UNEQUAL)
            rows[row].append(f"{unequal} of {len(verdicts)} ({np.nanmean(spread):.0%})")
    return Table(header, tuple(map(tuple, rows)))
