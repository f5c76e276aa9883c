"""The chapters of the report: each runs one experiment and says what it found."""

from collections.abc import Callable

from scipy.integrate import simpson

from polysem import plots, studies
from polysem.reports._compare import comparison_chapter, comparison_summary
from polysem.reports._discussion import discussion_chapter
from polysem.reports._equal_returns import equal_returns_chapter, equal_returns_summary
from polysem.reports._layers import layers_chapter
from polysem.reports._page import Chapter, Part, Table
from polysem.reports._prediction import prediction_chapter, prediction_summary
from polysem.reports._settings import ReproduceConfig, Sweeping
from polysem.reports._transformer import transformer_chapter
from polysem.reports._without_diminishing import without_diminishing_chapter


def _points(title: str, config: ReproduceConfig, _: Sweeping) -> Part:
    result = studies.points(config.points)
    gap = float((result.trained_loss - result.optimum.loss).abs().max())
    chapter = Chapter(
        name="points",
        title=title,
        text=(
            "Two features compete for one dimension. Each curve is what a little more capacity would save on that "
            "feature, −dL/dC; whatever feature 1 does not own, feature 2 does. Where the curves cross with falling "
            "returns, neither can gain by trading: that is the optimum. With rising returns the crossing is the "
            "worst place, and the optimum lies at an end.",
            "Returns fall with capacity where the kurtosis F = E x⁴ of the (unit-variance) features is above 3, as "
            "sparse features have it, rise where it is below 3 and are constant at 3, the Gaussian value.",
        ),
        figures=tuple(plots.point_figures(result)),
    )
    return chapter, (("A to F: loss of the best trained start less the optimal loss, largest", f"{gap:.1e}", "0"),)


def _stack(title: str, config: ReproduceConfig, _: Sweeping) -> Part:
    result = studies.stack(config.stack)
    chapter = Chapter(
        name="stack",
        title=title,
        text=(
            f"{len(result.v)} features of kurtosis F = {config.stack.kurtosis:g}, importances "
            f"v = {config.stack.decay:g}^i. At the optimum every feature that is partly represented has the same "
            "marginal benefit; a feature is pure where its benefit is still at least that at C = 1, and ignored "
            "where it is at most that at C = 0.",
        ),
        figures=(("curves", plots.stack_figure(result)),),
    )
    return chapter, ()


def _phase(title: str, config: ReproduceConfig, _: Sweeping) -> Part:
    result = studies.phase_diagram(config.phase)
    chapter = Chapter(
        name="phase",
        title=title,
        text=(
            "Two features of equal kurtosis F in one dimension. Feature 2 is ignored where v₂/v₁ ≤ 2/(F − 1), "
            "feature 1 where v₂/v₁ ≥ (F − 1)/2; between the two lines both are represented. For F ≤ 3 there is no "
            "between: the more important feature takes the dimension.",
            f"Every one of the {result.phases.numel():,} cells was trained from {config.phase.restarts} random "
            "starts (below F = 3 there are local minima with the wrong winner; the best start is shown).",
        ),
        figures=tuple(plots.phase_figures(result, studies.POINTS)),
    )
    return chapter, (
        ("Phase diagram: largest |trained − predicted| capacity", f"{result.deviation:.1e}", "0"),
        ("Phase diagram: boundary, measured against formula", f"{result.boundary_offset:.2f} cells", "within 1"),
        ("Phase diagram: cells in the predicted phase", f"{result.same_phase:.2%}", "100 %"),
    )


def _trained(title: str, config: ReproduceConfig, _: Sweeping) -> Part:
    result, c = studies.trained(config.trained), config.trained
    blocks = Table(
        ("features", "dimensions", "scale λ", "defect ‖M − λP‖ / ‖M‖", "shape"),
        tuple(
            (
                ", ".join(str(member + 1) for member in block.members),
                str(block.dim),
                f"{block.scale:.4f}",
                f"{block.defect:.1e}",
                block.polytope or "–",
            )
            for block in result.blocks
        ),
    )
    chapter = Chapter(
        name="trained",
        title=title,
        text=(
            f"{c.n_features} features of kurtosis {c.kurtosis:g} with importances v = {c.decay:g}^i in "
            f"{c.d_hidden} dimensions, trained from {c.restarts} random starts: {result.share_at_optimum:.0%} of "
            "them end at the optimal loss.",
            "At the optimum the embedding is block-semi-orthogonal: pure features take a dimension each, and all "
            "impure ones share one tight frame, in which WᵀW = λI and capacity is |W_i|²/λ.",
        ),
        figures=(("capacity", plots.capacity_figure(result)), ("blocks", plots.gram_figure(result))),
        tables=(blocks,),
    )
    name = f"N = {c.n_features}, D = {c.d_hidden}"
    return chapter, (
        (f"{name}: largest |trained − predicted| capacity", f"{result.deviation:.1e}", "0"),
        (f"{name}: relative excess of the best trained loss", f"{result.excess:.1e}", "0"),
        (f"{name}: starts that reach the optimum", f"{result.share_at_optimum:.0%}", "every one tried, for F > 3"),
    )


def _width(title: str, config: ReproduceConfig, _: Sweeping) -> Part:
    result = studies.width(config.width)
    chapter = Chapter(
        name="width",
        title=title,
        text=(
            f"The optimal loss L*(D) against the width D: {result.says}. Its slope is the price μ of capacity at "
            "the optimum; a whole dimension more buys the integral of μ over it.",
        ),
        figures=tuple(plots.width_figures(result)),
    )
    bought = float(simpson(result.fine.price.numpy(), x=result.fine.total.numpy()))
    fallen = float(result.whole.loss[0] - result.whole.loss[-1])
    return chapter, (("Width: ∫ price dD from 1 to N, against L*(1) − L*(N)", f"{bought:.4f}", f"{fallen:.4f}"),)


def _superposition(title: str, config: ReproduceConfig, _: Sweeping) -> Part:
    result, three = studies.superposition(config.superposition), studies.superposition(config.superposition_three)
    chapter = Chapter(
        name="superposition",
        title=title,
        text=(
            "A ReLU autoencoder x̂ = ReLU(x W Wᵀ + b) with two features, uniform on [0, 1] when active, and one "
            "dimension. It can drop feature 2, give it the dimension, or hold both as an antipodal pair.",
            _starts(result, config.superposition),
        ),
        figures=tuple(plots.superposition_figures(result)),
        parts=(
            Chapter(
                name="superposition_three",
                title="Three features in two dimensions",
                text=(
                    "Features 1 and 2 are equally important. The model can drop feature 3, give it a dimension of its "
                    "own (and the other to a pair of features 1 and 2), pair it with one of them, or hold all three in "
                    "a triangle.",
                    _starts(three, config.superposition_three),
                ),
                figures=tuple(plots.superposition_figures(three)),
            ),
        ),
    )
    lines = []
    for name, found in (("Superposition", result), ("Superposition of three", three)):
        lines += [
            (f"{name}: cells in the phase of the best built by hand", f"{found.agreement:.2%}", "100 %"),
            (f"{name}: largest relative excess of a trained loss over that", f"{found.excess:.1e}", "0"),
        ]
    return chapter, tuple(lines)


def _starts(result: studies.Superposition, config: studies.SuperpositionConfig) -> str:
    return (
        f"Each of the {result.trained.numel():,} cells was trained from {config.restarts} random starts on the exact "
        f"expected loss; {result.converged:.1%} of the starts ended where the gradient vanishes and no curvature is "
        "negative."
    )


def _geometry(title: str, config: ReproduceConfig, _: Sweeping) -> Part:
    c, result = config.geometry, studies.geometry(config.geometry)
    figures = dict(plots.geometry_figures(result))
    show, p = result.relu[result.showcase], f"p = {result.relu[result.showcase].feature_probability:.2g}"
    errors = [max(model.stderr / model.loss for model in models) for models in (result.planes, result.relu)]
    polytopes = ", ".join(f"{name} {value}" for name, value in studies.POLYTOPES.items())
    table = Table(
        ("p: blocks found", "represented", "near a polytope's C", "random directions"),
        tuple(
            (
                f"{model.feature_probability:.2g}: {model.says}",
                str(int(model.represented.sum())),
                f"{model.sticky:.0%}",
                f"{random:.0%}",
            )
            for model, random in zip(result.relu, result.random, strict=True)
        ),
    )
    chapter = Chapter(
        name="geometry",
        title=title,
        text=(
            "ReLU autoencoders again, all features equally important and uniform on [0, 1] when active. Elhage et al. "
            "(2022) found that sparse features fall into mutually orthogonal blocks whose rows are the vertices of "
            f"polytopes, and that capacities stick at what a vertex then owns, dimensions / vertices: {polytopes}.",
            "The losses of these models have no closed form for so many features: they were trained by Adam on sampled "
            "losses. What the sampling leaves of noise is allowed for: cosines up to 0.1 count as 0, and a polytope is "
            "named where the cosines meet its own as closely as that.",
        ),
        parts=(
            Chapter(
                name="polytopes",
                title="Polytopes, and the capacities that come with them",
                text=(
                    f"In the plane the best of {c.plane_restarts} starts is drawn, by a loss that is exact for up to "
                    f"two active features and sampled beyond (standard error at most {errors[0]:.1%}). With "
                    f"{c.n_features} features in {c.d_hidden} dimensions there is one start for each p (sampled loss, "
                    f"standard error at most {errors[1]:.1%}).",
                    "The table counts the represented features (C at least 0.05, no negligible row) within 0.02 of a "
                    "polytope's capacity, beside the mean share for random directions with the same norms "
                    f"({c.null_draws} draws). The linear autoencoder, with importances 0.95^i, is fitted to its exact "
                    "loss, which p does no more than scale.",
                ),
                figures=(("plane", figures["plane"]), ("capacities", figures["capacities"])),
                tables=(table,),
            ),
            Chapter(
                name="blocks",
                title="Small blocks, or one large one",
                text=(
                    "The quadratic model spends the same budget in another way: at its optimum all impure features may "
                    "share one tight frame. Here it has the same numbers of features and dimensions, equal "
                    "importances and the feature probability at which most kinds of polytopes were found above, with "
                    "signed features of unit variance and kurtosis "
                    f"F = 9/(5p) = {9 / 5 / show.feature_probability:.2g}; one start, fitted to its exact loss.",
                ),
                figures=tuple((name, figures[name]) for name in ("blocks", "relu", "quadratic")),
            ),
        ),
    )
    near = "features within 0.02 of a polytope's capacity"
    return chapter, (
        *(
            (f"Geometry: 5 features in a plane, p = {model.feature_probability:g}", model.says, "1 × pentagon")
            for model in result.planes[-len(c.plane_features) :]
            if len(model.W) == 5
        ),
        (f"Geometry: {near}, all p", f"{result.sticky:.0%}", f"random directions {result.random_sticky:.0%}"),
        (f"Geometry: {near}, {p}", f"{show.sticky:.0%}", f"random directions {result.random[result.showcase]:.0%}"),
        (
            f"Geometry: biggest block at {p}, quadratic and ReLU",
            f"{result.quadratic.biggest} and {show.biggest} features",
            "one large, many small",
        ),
        ("Geometry: linear autoencoder, largest product of two rows", f"{result.linear.interference:.1e}", "0"),
    )


def _comparison(title: str, config: ReproduceConfig, sweeping: Sweeping) -> Part:
    with sweeping.store("comparison", studies.comparison_grid(config.comparison)) as store:
        result = studies.comparison(config.comparison, store, engine=sweeping.engine, progress=sweeping.progress)
    return comparison_chapter(title, result), tuple(comparison_summary(result))


def _prediction(title: str, config: ReproduceConfig, sweeping: Sweeping) -> Part:
    with sweeping.store("prediction", studies.prediction_grid(config.prediction)) as store:
        result = studies.prediction(config.prediction, store, engine=sweeping.engine, progress=sweeping.progress)
    return prediction_chapter(title, result), tuple(prediction_summary(result))


def _equal_returns(title: str, config: ReproduceConfig, sweeping: Sweeping) -> Part:
    power, pair = studies.power(config.power), studies.pair(config.pair)
    with sweeping.store("locking", studies.locking_grid(config.locking)) as store:
        locking = studies.locking(config.locking, store, engine=sweeping.engine, progress=sweeping.progress)
    return equal_returns_chapter(title, power, pair, locking), tuple(equal_returns_summary(power, pair, locking))


def _errata(title: str, config: ReproduceConfig, _: Sweeping) -> Part:
    result = studies.errata(config.errata)
    chapter = Chapter(
        name="errata",
        title=title,
        text=(
            "The derivation of the quadratic model's loss holds with four corrections that the discussion of the "
            "paper's summary post makes. Each is checked here by enumerating all outcomes of small inputs.",
        ),
        figures=(("independence", plots.errata_figure(result)),),
        parts=tuple(
            Chapter(
                name=f"errata-{number}",
                title=f"{number}. {correction.title}",
                text=(correction.text, f"Corrected: {correction.formula}"),
                tables=(_checks_table(correction),),
            )
            for number, correction in enumerate(result.corrections, 1)
        ),
    )
    checks = [check for correction in result.corrections for check in correction.checks]
    holding = sum(check.holds for check in checks)
    return chapter, (("Errata: numerical checks that hold", f"{holding} of {len(checks)}", "all"),)


def _checks_table(correction: studies.Correction) -> Table:
    rows = tuple(
        (
            check.label,
            f"{check.measured:.6g}",
            f"{check.compared:.6g}",
            f"{check.difference:.1e}",
            "equal" if check.agree else "different",
            "yes" if check.holds else "NO",
        )
        for check in correction.checks
    )
    return Table(("check", "measured", "compared with", "difference", "should be", "holds"), rows)


CHAPTERS: dict[str, tuple[str, Callable[[str, ReproduceConfig, Sweeping], Part]]] = {
    "points": ("Two features, one dimension: the points A to F", _points),
    "stack": ("Many features under one budget", _stack),
    "phase": ("The phase diagram", _phase),
    "trained": ("Predicted and trained capacities", _trained),
    "width": ("What one more dimension buys", _width),
    "superposition": ("Superposition in a ReLU autoencoder", _superposition),
    "geometry": ("The geometry of superposition", _geometry),
    "comparison": ("Architectures compared", _comparison),
    "prediction": ("Capacities predicted from measured curves", _prediction),
    "returns": ("Are marginal returns equal?", _equal_returns),
    "without_diminishing": ("Polysemanticity without diminishing returns", without_diminishing_chapter),
    "layers": ("A large network, layer by layer", layers_chapter),
    "transformer": ("A small transformer, and what its activation changes", transformer_chapter),
    "discussion": ("What the discussion asked", discussion_chapter),
    "errata": ("Errata", _errata),
}
"""Title and maker of each chapter, by its name, in their order."""
