"""The discussion's first question: what if returns are flattened?"""

from collections.abc import Callable, Iterator

from polysem import plots, studies
from polysem.reports._page import Chapter, Part, Table
from polysem.reports._settings import ReproduceConfig, Sweeping

MOST = 0.8
"""A fall of the index beyond this share is called one."""


def flattening_part(config: ReproduceConfig, _: Sweeping) -> Part:
    """Penalties on sharing: whether features become monosemantic, which ones, and for how long."""
    c, result = config.flattening, studies.flattening(config.flattening)
    own = next(way for way in result.ways if way.name == "κ of each feature")
    best = max(result.ways, key=lambda way: way.n_at_floor)
    uniform, each = result.thresholds
    chapter = Chapter(
        name="flattening",
        title="Flatten diminishing returns",
        text=(
            "The question: if features share dimensions because their returns diminish, will a network whose returns "
            "are made not to diminish have pure features only? Added to the loss was the sum of κ_i C_i (1 − C_i), "
            "with κ_i from the measured curves.",
            f"The quadratic model: {c.n_features} features of kurtosis {c.kurtosis:g}, v = {c.decay:g}^i, "
            f"{c.d_hidden} dimensions. Of {c.restarts} starts {own.n_monosemantic} are monosemantic at the κ of theory "
            f"(without a penalty {result.ways[0].n_monosemantic}: "
            f"{float(result.ways[0].n_impure.double().mean()):.3g} of {c.n_features} features are impure). Which "
            "features are then pure depends on the way there. The penalty itself only "
            "says that few may have much; one in proportion to v² even weighs on the features that gain most. Best in "
            "choosing: "
            f"“{best.name}”, with {best.n_at_floor} of {c.restarts} starts at the best monosemantic allocation. "
            f"That costs {best.price:.2f} more than the optimum at {best.optimum:.2f}: the price of monosemanticity.",
            "κ needs not make every curve concave. It suffices that none dips below its chord: then no way of sharing "
            f"beats dealing out whole dimensions. That is {uniform.chord:.2g} of the κ above, 2/(F − 1) for the "
            "quadratic model. With a uniform κ the best allocation of all is monosemantic from "
            f"{uniform.optimum:.2g} of it on, and training was from {_from(uniform)}; with each feature's own from "
            f"{each.optimum:.2g} and {_from(each)}.",
            _lasting(result.quadratic, "In the quadratic model"),
            f"ReLU autoencoders ({c.relu_features} features in {c.relu_hidden} dimensions, κ from measured curves): "
            + "; ".join(map(_fall, result.relu))
            + f". {_lasting(result.relu[-1], 'At the last of these')}",
            _verdict(result, own, best),
        ),
        figures=tuple(plots.flattening_figures(result)),
        tables=(
            _penalties(result),
            _courses(result, "polysemanticity", _polysemanticity),
            _courses(result, "loss / best monosemantic", _loss),
        ),
    )
    return chapter, tuple(_summary(result))


def _verdict(result: studies.Flattening, own: studies.Way, best: studies.Way) -> str:
    """In plain words, by what was measured."""
    n = len(own.loss)
    does = "does" if own.n_monosemantic == n else "mostly does" if own.n_monosemantic > n / 2 else "does not"
    falls = sum(ways.fall > MOST for ways in result.relu)
    dearer = min(float(ways.tuned.end_loss.mean() / ways.ordinary.end_loss.mean()) for ways in result.relu)
    return (
        f"Verdict: flattening {does} make features of the quadratic model monosemantic, and lowers the index of ReLU "
        f"autoencoders by more than {MOST:.0%} in {falls} of {len(result.relu)} cases, where it multiplies their loss "
        f"by {dearer:.2g} at least. It says nothing of which features to keep: with the best features end "
        f"{own.n_at_floor} of {n} starts at the κ of theory, and {best.n_at_floor} with the penalty that chose best."
    )


def _summary(result: studies.Flattening) -> Iterator[tuple[str, str, str]]:
    ways = {way.name: way for way in result.ways}
    own = ways["κ of each feature"]
    n = len(own.loss)
    yield "Flattening: models that are monosemantic at the predicted κ", f"{own.n_monosemantic} of {n}", "all"
    best = max(result.ways, key=lambda way: way.n_at_floor)
    yield (
        "Flattening: models at the best monosemantic allocation, with the best penalty",
        f"{best.n_at_floor} of {n}",
        "κ says nothing of which features",
    )
    yield (
        "Flattening: least share of the predicted κ that sufficed, uniform",
        _from(result.thresholds[0]),
        f"best allocation: {result.thresholds[0].optimum:.2g}; bounds: {result.thresholds[0].chord:.2g} and 1",
    )
    for ways_in in result.relu:
        yield (
            f"Flattening, ReLU at p = {ways_in.feature_probability:.2g}: polysemanticity falls by",
            f"{ways_in.fall:.0%}, at {_loss(ways_in.tuned)} times the loss of the best monosemantic allocation",
            "–",
        )


def _penalties(result: studies.Flattening) -> Table:
    return Table(
        ("penalty, from scratch", "monosemantic", "with the best features", "mean choice error", "best loss"),
        tuple(
            (
                way.name,
                f"{way.n_monosemantic} of {len(way.loss)}",
                str(way.n_at_floor),
                f"{abs(float(way.choice_error.mean())):.2f}" if way.n_monosemantic == len(way.loss) else "–",
                f"{float(way.loss.min()):.2f}",
            )
            for way in result.ways
        ),
    )


def _courses(result: studies.Flattening, what: str, value: Callable[[studies.Stage], str]) -> Table:
    """One number for each stage of training, model by model."""
    header = (what, "ordinary", "penalty after that", "gone again", "penalty from the start", "gone again")
    rows = []
    for ways in (result.quadratic, *result.relu):
        name = "quadratic" if ways.name == "quadratic" else f"ReLU, p = {ways.feature_probability:.2g}"
        stages = (ways.ordinary, ways.tuned, ways.tuned_released, ways.scratch, ways.scratch_released)
        rows.append((name, *map(value, stages)))
    return Table(header, tuple(rows))


def _polysemanticity(stage: studies.Stage) -> str:
    return f"{float(stage.end_index.mean()):.2f}"


def _loss(stage: studies.Stage) -> str:
    return f"{float(stage.end_loss.mean()):.2f}"


def _from(threshold: studies.Threshold) -> str:
    """From which share on all starts were monosemantic."""
    return "no share tried" if threshold.trained != threshold.trained else f"{threshold.trained:.2g}"


def _fall(ways: studies.Ways) -> str:
    return (
        f"at p = {ways.feature_probability:.2g} fine-tuning lowers the index of polysemanticity by {ways.fall:.0%} "
        f"and raises the loss from {_loss(ways.ordinary)} to {_loss(ways.tuned)} of the best monosemantic one"
    )


def _lasting(ways: studies.Ways, where: str) -> str:
    """What is left of monosemanticity after as many steps without the penalty as there were with it."""
    before, during, after = (
        float(stage.end_index.mean()) for stage in (ways.ordinary, ways.tuned, ways.tuned_released)
    )
    if before - during < 0.05:
        return f"{where} the penalty changed too little to ask what is left of it."
    back = (after - during) / (before - during)
    if back > 0.95:
        return f"{where} nothing of it lasts: without the penalty as many steps lead back to polysemanticity."
    if back < 0.05:
        return f"{where} it lasts: as many steps without the penalty leave features as they are."
    return f"{where} part of it lasts: as many steps without the penalty take back {back:.0%}."
