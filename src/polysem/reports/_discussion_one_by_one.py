"""The part of the discussion's chapter on features flattened and masked one by one."""

from collections.abc import Iterator

import plotly.graph_objects as go
from torch import Tensor

from polysem import plots, studies
from polysem.reports._page import Chapter, Part, Table
from polysem.reports._settings import ReproduceConfig, Sweeping


def one_by_one_part(config: ReproduceConfig, _: Sweeping) -> Part:
    """Who is kept, and at what cost, if features are treated one at a time."""
    result = studies.one_by_one(config.one_by_one)
    return written(config.one_by_one, result), tuple(summary(config.one_by_one, result))


def written(c: studies.OneByOneConfig, result: studies.OneByOneResult) -> Chapter:
    """Text, figures and tables."""
    figures = dict(plots.one_by_one_figures(result))
    return Chapter(
        name="one_by_one",
        title="One feature at a time",
        text=(
            "The proposals: find the feature whose returns diminish most strongly, flatten its curve alone, train on, "
            "and repeat until nothing is shared; or mask the feature that does least for the loss, retrain, and repeat "
            "until what is left is monosemantic.",
            "Two errors are told apart. The price of monosemanticity is what the best monosemantic network costs above "
            "the best network; the choice error is what a network costs above the best monosemantic one, because "
            "other features were kept. Losses are over all features: a masked one costs what ignoring it costs.",
            *_verdicts(result, _singly(c)),
        ),
        parts=tuple(_model(model, c, figures) for model in result.models),
    )


def summary(c: studies.OneByOneConfig, result: studies.OneByOneResult) -> Iterator[tuple[str, str, str]]:
    """What was measured, and what the theory expects."""
    for model in result.models:
        title = plots.treated_model_label(model.name)
        yield (
            f"{title}: choice error / price of flattening one by one, and all at once",
            f"{_median(model, _singly(c)):.2f}, {_median(model, 'flatten'):.2f}",
            "0 if the best features are kept",
        )
        yield (
            f"{title}: starts at the best set, masking by benefit and one-shot",
            f"{model.share_best('mask benefit'):.0%}, {model.share_best('keep gain'):.0%}",
            "100 %",
        )


def _verdicts(result: studies.OneByOneResult, singly: str) -> Iterator[str]:
    model = result.quadratic
    single, whole = model.one(singly), model.one("flatten")
    worse = [each for each in result.models if _median(each, singly) > _median(each, "flatten")]
    yield (
        f"Flattening one by one chooses worse in {len(worse)} of {len(result.models)} models than flattening all at "
        f"once with {studies.FLATTEN_SHARE:g} of the full κ, the same for all, on a ramp. In the first quadratic model "
        f"its median choice error is {_median(model, singly):.2g} times the price, that of all at "
        f"once {_median(model, 'flatten'):.2g}, after {float(single.n_rounds.double().mean()):.3g} rounds and "
        f"{_steps(single):,.0f} steps of training against {_steps(whole):,.0f}. A penalty on sharing pushes a feature "
        "towards its nearer end, so one that owns less than half a dimension when its turn comes tends to be ignored, "
        "whatever it is worth; flattened together, features compete while the penalty rises."
    )
    shares = [(each.share_best("mask benefit"), each.share_best("keep gain")) for each in result.models]
    by_importance = [each.share_best("mask importance") for each in result.models]
    better = sum(mask > shot for mask, shot in shares)
    worse_masks = sum(mask < shot for mask, shot in shares)
    rounds = [float(each.one("mask benefit").n_rounds.double().mean()) for each in result.models]
    if better > worse_masks:
        says = "better than"
    elif better < worse_masks:
        says = "not as good as"
    else:
        says = "no better than"
    yield (
        "Masking by benefit (what a feature's present capacity saves) reaches the best set from "
        f"{' / '.join(f'{mask:.0%}' for mask, _ in shares)} of the starts in the three models, after "
        f"{' / '.join(f'{number:.3g}' for number in rounds)} rounds; masking at once all but the features that gain "
        f"most from a dimension of their own, from {' / '.join(f'{shot:.0%}' for _, shot in shares)}, after one. So it "
        f"is {says} the shortcut. Masking by importance alone does so from "
        f"{' / '.join(f'{share:.0%}' for share in by_importance)}."
    )


def _model(model: studies.TreatedModel, c: studies.OneByOneConfig, figures: dict[str, go.Figure]) -> Chapter:
    n, d = (c.relu_features, c.relu_hidden) if model.name == "relu" else (c.n_features, c.d_hidden)
    what = {
        "quadratic": f"kurtosis {c.kurtosis:g}, v = {c.decay:g}^i",
        "mixed": f"kurtosis from {c.least_kurtosis:g} to {c.greatest_kurtosis:g}, dealt out at random, "
        f"v = {c.decay:g}^i: what a dimension gains does not go with importance",
        "relu": f"each active with probability {c.probability:g}, I = {c.decay:g}^i",
    }[model.name]
    return Chapter(
        name=f"one_by_one_{model.name}",
        title=plots.treated_model_label(model.name),
        text=(
            f"{n} features in {d} dimensions, {what}; {len(model.trained)} starts. Trained: {_range(model.n_impure)} "
            f"features impure, loss {model.free:.3g}; the best monosemantic set costs {model.best:.3g}, a price of "
            f"{model.price:.3g}.",
        ),
        figures=tuple((name, figures[f"{model.name}-{name}"]) for name in ("rounds", "choice")),
        tables=(_table(model),),
    )


def _table(model: studies.TreatedModel) -> Table:
    return Table(
        (
            "treatment",
            "loss, median",
            "choice error / price, median",
            "starts at the best set",
            "impure features left",
            "polysemanticity, mean",
            "rounds",
            "training steps",
        ),
        tuple(
            (
                plots.treatment_label(each.name),
                f"{float(each.loss.median()):.4g}",
                f"{_median(model, each.name):.2f}",
                f"{model.share_best(each.name):.0%}",
                _range(each.n_impure),
                f"{float(each.polysemanticity.mean()):.2f}",
                _range(each.n_rounds),
                f"{_steps(each):,.0f}",
            )
            for each in model.treatments
        ),
    )


def _singly(c: studies.OneByOneConfig) -> str:
    """The treatment that flattens fewest in a round."""
    return f"flatten {min(c.at_once)}"


def _median(model: studies.TreatedModel, name: str) -> float:
    """Median choice error in units of the price; rounding is no error."""
    return round(float(model.relative_error(name).median()), 6) + 0.0


def _steps(treatment: studies.Treatment) -> float:
    return float(treatment.n_steps.double().mean())


def _range(numbers: Tensor) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return str(low) if low == high else f"{low} to {high}"
