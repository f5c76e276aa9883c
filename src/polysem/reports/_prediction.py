"""The chapter that holds capacities predicted from measured curves against trained ones."""

from collections.abc import Iterator

import numpy as np

from polysem import plots, studies
from polysem.measure import FeatureClass
from polysem.reports._page import Chapter, Table
from polysem.studies import LINEAR, SPENT, TOLERANCE, WHOLE

FIRST_GUESS = "spread"
"""The pattern that needs no trained network and is a mean field: all others alike."""


def prediction_chapter(title: str, result: studies.Prediction) -> Chapter:
    """Text, figures and tables of a finished prediction."""
    n_features = result.capacity.shape[-1]
    return Chapter(
        name="prediction",
        title=title,
        text=(
            f"Theory divides capacity by curves: what each feature would lose at each capacity. Here the curves L_i(C) "
            f"of every architecture were measured, by scaling the interference that a readout sees; the capacity that "
            f"the trained network spends, Σ C_i, was divided among them at least total loss; and the result is held "
            f"against the capacities of the trained network, the best of several starts: {n_features} features with "
            f"geometric importances in {result.d_hidden} dimensions. The error is the mean of |predicted − trained| "
            "over the features.",
            "A curve depends on what interferes. Before training one can assume a mean field, in which all other "
            "features interfere alike, with the sign that a ReLU can silence, or one partner alone, an antipodal copy "
            "of the feature. After training one can take the network's own interference, which is no prediction any "
            "more but says what the curves alone can explain.",
            "Two guesses know nothing of the architecture: an equal split of the same total, and the quadratic model's "
            "optimum at the same kurtosis of the inputs. The second best start, taken as a guess at the best, shows "
            "how far training itself settles capacities.",
            *_quadratic(result),
            *_straight(result),
            *_curved(result),
            *_geometry(result),
            *_totals(result),
            *_stuck(result),
            *_failures(result),
        ),
        figures=tuple(plots.prediction_figures(result)),
        tables=(_groups(result),),
        parts=(
            Chapter(
                name="prediction-errors",
                title="Errors of every architecture",
                text=("In the table: errors with all others alike, in brackets those of an equal split.",),
                figures=tuple(plots.prediction_maps(result)),
                tables=(_architectures(result),),
            ),
        ),
    )


def prediction_summary(result: studies.Prediction) -> Iterator[tuple[str, str, str]]:
    """Lines of the summary: experiment, measured, expected."""
    if "quadratic" in result.groups:
        off = f"{_off(result):.1e}"
        yield "Prediction: quadratic model, largest |trained − predicted| capacity", off, "0"
    for label, rows in (("not linear", ~result.linear), ("linear", result.linear)):
        if rows.any():
            right = result.predicts(FIRST_GUESS)[rows]
            error, equal = (np.nanmean(result.error(name)[rows]) for name in (FIRST_GUESS, "equal"))
            yield (
                f"Prediction: settings within {TOLERANCE:g}, and nearer than an equal split, readouts {label}",
                f"{right.sum()} of {right.size} (mean error {error:.2f})",
                f"all (equal split {equal:.2f})",
            )


def _off(result: studies.Prediction) -> float:
    rows = result.groups["quadratic"]
    return float(np.nanmax(np.abs(result.predicted[FIRST_GUESS][rows, :, SPENT] - result.capacity[rows])))


def _quadratic(result: studies.Prediction) -> Iterator[str]:
    if "quadratic" in result.groups:
        yield (
            "The quadratic model, for which the theory was made, has the capacities that its measured curves predict, "
            f"whatever interferes: no capacity is off by more than {_off(result):.1e}."
        )


def _straight(result: studies.Prediction) -> Iterator[str]:
    rows = result.linear
    if rows.any():
        right = result.predicts(FIRST_GUESS)[rows]
        whole = ~(result.kind[rows] == FeatureClass.IMPURE).any(-1)
        yield (
            f"Where readouts are linear ({rows.sum()} of {len(rows)} architectures: identity outputs, and everything "
            "with hidden neurons) returns are constant, so that curves predict whole features in order of importance "
            "at every p. Mean-field curves say nothing there about superposition: whatever neurons do about "
            f"interference comes before the readout. The prediction is right within {TOLERANCE:g} in {right.sum()} of "
            f"{right.size} settings. In {(whole & ~right).sum()} of the others the best start has whole features too, "
            f"but not the most important ones, each of which costs an error of {2 / result.capacity.shape[-1]:.3f}: "
            "its features exchanged it would lose less, so that training has not found its optimum. Impure features "
            f"are in {(~whole).sum()} of the settings."
        )


def _curved(result: studies.Prediction) -> Iterator[str]:
    """Per probability: mean errors, who is predicted and who is not."""
    rows = np.array(
        [row for group, members in result.groups.items() if group not in (LINEAR, "quadratic") for row in members]
    )
    if not len(rows):
        return
    names = np.array(result.architecture)[rows]
    errors = {name: result.error(name)[rows] for name in result.predicted}
    noise = result.noise[rows]
    for k, p in enumerate(result.probability):
        mean = {name: f"{np.nanmean(error[:, k]):.3f}" for name, error in errors.items()}
        right = names[result.predicts(FIRST_GUESS)[rows, k]]
        worse = names[errors[FIRST_GUESS][:, k] >= errors["equal"][:, k]]
        yield (
            f"p = {p:g}, the {len(rows)} architectures with other outputs: mean error {mean['spread']} with all others "
            f"alike, {mean['antipodal']} with one partner, {mean['network']} with the network's own interference; "
            f"{mean['equal']} for an equal split, {mean['quadratic']} for the quadratic model, "
            f"{np.nanmean(noise[:, k]):.3f} for the second best start. With all others alike the error is at most "
            f"{TOLERANCE:g}, and below that of an equal split, for {_listed(right)}; an equal split does as well or "
            f"better for {_listed(worse)}."
        )


def _geometry(result: studies.Prediction) -> Iterator[str]:
    groups = [group for group in ("tied", "untied") if group in result.groups]
    if groups:
        shares = ", ".join(
            f"{result.stuck(group):.0%} in {group} autoencoders, where the curves predict "
            f"{result.stuck(group, FIRST_GUESS):.0%}"
            for group in groups
        )
        yield (
            "Curves divide capacity without asking whether rows in few dimensions can have it. Impure features within "
            f"0.02 of a polytope's capacity ({', '.join(map(str, studies.POLYTOPES.values()))}): {shares}."
        )


def _totals(result: studies.Prediction) -> Iterator[str]:
    spent = result.capacity.sum(-1)
    less = spent < 0.99 * result.d_hidden
    if less.any():
        names = [name for name, some in zip(result.architecture, less.any(-1), strict=True) if some]
        spent_error, whole_error = (result.error(FIRST_GUESS, total)[less].mean() for total in (SPENT, WHOLE))
        yield (
            f"In {less.sum()} of {less.size} settings the trained network spends less than 99 % of the "
            f"{result.d_hidden} dimensions ({', '.join(names)}). Dividing all of them, as one would before training, "
            f"changes the mean error there from {spent_error:.3f} to {whole_error:.3f}."
        )


def _stuck(result: studies.Prediction) -> Iterator[str]:
    """An untied autoencoder can be a tied one."""
    found = []
    for name in result.architecture:
        twin = name.replace("untied", "tied")
        if twin != name and twin in result.architecture:
            loss, least = (result.loss[result.architecture.index(one)] for one in (name, twin))
            found += [f"{name} at p = {p:g}" for p in result.probability[loss > 1.02 * least]]
    if found:
        yield (
            "An untied autoencoder can do what a tied one does. Where its best start loses over 2 % more, training "
            f"has not found its optimum, and the prediction is held against a poor network: {', '.join(found)}."
        )


def _failures(result: studies.Prediction) -> Iterator[str]:
    if result.n_failed:
        yield f"{result.n_failed} of {result.loss.size} settings have no result; they are left out of all means."


def _listed(names: np.ndarray) -> str:
    return f"{len(names)} of them ({', '.join(names)})" if len(names) else "none of them"


def _groups(result: studies.Prediction) -> Table:
    """Means over the architectures of a group, with the first guess where nothing else is said."""
    measures = (
        *(result.error(name) for name in result.predicted),
        result.noise,
        result.ordered(FIRST_GUESS),
        result.same_class(FIRST_GUESS),
        result.predicted_loss[FIRST_GUESS][..., SPENT],
        result.loss,
    )
    header = (
        "mean error of",
        "all alike",
        "one partner",
        "network's own",
        "equal split",
        "quadratic",
        "second start",
        "pairs in order",
        "same class",
        "loss, all alike",
        "loss, trained",
    )
    rows = tuple(
        (f"{group}, p = {p:g}", *(_mean(values[members, k]) for values in measures))
        for group, members in result.groups.items()
        for k, p in enumerate(result.probability)
    )
    return Table(header, rows)


def _mean(values: np.ndarray) -> str:
    there = values[~np.isnan(values)]
    return f"{there.mean():.3f}" if len(there) else "–"


def _architectures(result: studies.Prediction) -> Table:
    error, equal = result.error(FIRST_GUESS), result.error("equal")
    return Table(
        ("architecture", *(f"p = {p:g}" for p in result.probability)),
        tuple(
            (name, *(f"{a:.3f} ({b:.3f})" for a, b in zip(error[row], equal[row], strict=True)))
            for row, name in enumerate(result.architecture)
        ),
    )
