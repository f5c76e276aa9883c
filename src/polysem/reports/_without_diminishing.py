"""The chapters of the report on marginal returns."""

from polysem import plots, studies
from polysem.measure import IGNORED_BELOW
from polysem.reports._page import Chapter, Part
from polysem.reports._settings import ReproduceConfig, Sweeping


def without_diminishing_chapter(title: str, config: ReproduceConfig, _: Sweeping) -> Part:
    """Three ways to polysemanticity that need no diminishing returns."""
    result = studies.without_diminishing(config.without_diminishing)
    figures = dict(plots.without_diminishing_figures(result))
    ties = Chapter(
        name="ties",
        title="Ties",
        text=(
            "At kurtosis F = 3 returns are constant. Of equally important features none then has a better claim, and "
            "the loss is 2 ‖v − W Wᵀ‖²: least wherever W Wᵀ is v times the projector on a space of D dimensions, "
            "whichever it is. Gradients lie in the span of W's columns, so training along them (here by L-BFGS) stays "
            "in the span that the start drew at random, and a feature ends with the share of its axis in that.",
            f"{result.ties[1].impure:.0%} of the features of the models with four features in two dimensions are "
            "impure, by chance alone. Unequal importances break the tie: then the most important features are pure.",
        ),
        figures=(("capacity", figures["ties"]),),
    )
    together = Chapter(
        name="together",
        title="Features that depend on each other",
        text=(
            "Returns to capacity are defined for interference that is independent of the feature. If it is not, "
            "sharing can pay whatever the returns are. Two features share one dimension here; the curves are least "
            "losses at every split of it, in closed form. ρ is the correlation of their activities, least where they "
            "exclude each other.",
            "A linear autoencoder has constant returns for independent features, of any kurtosis: the more important "
            f"one (I = {_list(studies.LINEAR_IMPORTANCE)}) takes all. Where the values of two features are "
            "correlated, as they are with the activities because active ones are positive, each tells about the "
            "other, and the best direction lies between them, as in principal component analysis; a negative "
            "correlation makes them antipodal.",
            "In the quadratic model both features have rising returns where they are independent. If they are rarely "
            "active together, their product, which is all that interference consists of, rarely differs from 0; for "
            "features that exclude each other it never does, and both are represented without any loss.",
        ),
        figures=(("linear", figures["linear"]), ("quadratic", figures["quadratic"])),
    )
    minima = Chapter(
        name="minima",
        title="Local minima",
        text=(
            f"Six features of importances v = {studies.RISING_DECAY:g}^i in three dimensions. Below F = 3 the optimum "
            "is monosemantic, and many starts end at other minima. These are monosemantic too: two features of rising "
            "returns that share a tight frame gain by trading capacity, so that the loss has a saddle there, which "
            "training leaves.",
            "A ReLU autoencoder does have polysemantic minima beside a monosemantic optimum: three features, uniform "
            f"on [0, 1] with p = {studies.RELU_P:g}, in two dimensions; the first two are equally important. Once a "
            f"feature is represented (from C = {IGNORED_BELOW:g} on) its returns do not diminish there: beside an "
            "antipodal partner its loss is all but straight in its capacity (curvature "
            f"{result.relu_curvature:.3f}, negative for rising returns). The first bit of capacity is another "
            "matter: there the loss jumps.",
        ),
        figures=(("quadratic", figures["rising"]), ("relu", figures["relu"])),
    )
    chapter = Chapter(
        name="without_diminishing",
        title=title,
        text=(
            "Diminishing returns explain why features share dimensions, but they are not the only reason. Three "
            "others: it may not matter how capacity is split, the features may not be independent, and training may "
            "end at a minimum that is not the best.",
        ),
        parts=(ties, together, minima),
    )
    middle = result.ties[1]
    spread = max(float(tie.loss.max() - tie.loss.min()) for tie in result.ties)
    return chapter, (
        (
            "Ties, N = 4, D = 2: capacities against random subspaces (Kolmogorov–Smirnov)",
            f"{middle.distance:.3f}",
            f"below {1.63 / len(middle.capacity) ** 0.5:.3f} in 99 of 100 cases",
        ),
        ("Ties: spread of the losses, relative", f"{spread:.1e}", "0"),
        *(
            (
                f"{name} pair, F = {pair.kurtosis:.2g}: loss saved by sharing, if exclusive",
                f"{float(pair.saved[-1]):.0%}",
                f"{float(pair.saved[0]):.0%} if independent",
            )
            for name, pair in (("Linear", result.linear), ("Quadratic", result.quadratic))
        ),
        (
            "Quadratic models: polysemantic ones among minima above a monosemantic best",
            f"{int(result.rising.stuck.sum())} of {int(result.rising.above.sum())}",
            "none",
        ),
        (
            f"ReLU, p = {studies.RELU_P:g}: ends at polysemantic minima above a monosemantic best",
            f"{result.relu.share_stuck:.1%}",
            "–",
        ),
    )


def _list(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
