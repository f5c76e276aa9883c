"""The discussion's proposal for features that nobody has named: search for them."""

from collections.abc import Iterator

from polysem import plots, studies
from polysem.reports._page import Chapter, Part, Table
from polysem.reports._settings import ReproduceConfig, Sweeping

FINDS, FAILS = 0.9, 0.1
"""Shares of true features from which on, and up to which, a search is said to find them, or not to."""
NAMES = {
    "diminishing": "most diminishing returns",
    "importance": "least importance",
    "capacity": "highest capacity",
    "non_gaussian": "independent components (FastICA)",
}
Cells = tuple[studies.SearchedCell, ...]


def searching_part(config: ReproduceConfig, _: Sweeping) -> Part:
    """Whether features can be found by what networks do with directions."""
    result = studies.searching(config.searching)
    seeds = len(result.cells[0].searched[0].true)
    with_ica = "non_gaussian" in result.objectives
    even = tuple(cell for cell in result.cells if cell.architecture == "quadratic" and not cell.opposed)
    opposed = tuple(cell for cell in result.cells if cell.opposed)
    names = dict.fromkeys(cell.architecture for cell in result.cells if cell.architecture != "quadratic")
    others = [(name, tuple(cell for cell in result.cells if cell.architecture == name)) for name in names]
    chapter = Chapter(
        name="searching",
        title="Search for features that are not given",
        text=(
            "The proposal: features need not be known. Among all linear combinations of the inputs, look for the one "
            "of the most strongly diminishing returns, or of the least importance, and treat that. The doubt that "
            "came with it: a mixture of features may score beyond all of them.",
            f"Networks of {result.n_features} features are seen through a random rotation of their inputs, {seeds} "
            "networks in each cell, each trained and rotated on its own. A search sees samples of the rotated inputs, "
            "the slopes of the loss and the response, and starts from random directions; a direction is taken as a "
            "feature where its cosine with one is above 0.9. For comparison: the direction of highest capacity, and "
            f"FastICA, which sees the inputs alone{'' if with_ica else ' (left out: scikit-learn is not installed)'}.",
            *(
                f"{title} {_sentence(result, cells)}"
                for title, cells in (
                    ("The quadratic model, all features of one kurtosis:", even),
                    ("The quadratic model, kurtosis rising as importance falls:", opposed),
                    *((f"Autoencoders, {name}:", cells) for name, cells in others),
                )
                if cells
            ),
            "Why. Diminishing returns reward kurtosis and importance. In a mixture of independent features of equal "
            "kurtosis, F_u − 3 = Σ_i u_i^4 (F − 3): every mixture is closer to a Gaussian, and no more important than "
            "its most important feature. With unequal kurtosis nothing forbids a mixture that takes importance from "
            "one feature and kurtosis from another. Least importance has no such reason to stop at a feature: in a "
            "trained quadratic model all directions of one tight frame have the same price, so chance in the samples "
            "decides. Highest capacity leads to eigenvectors of the response, which are mixtures wherever features "
            "share dimensions. Linear readouts of independent features have constant returns in every direction: "
            "there nothing diminishes that could be searched for.",
            _verdict(result, even, opposed),
        ),
        figures=tuple(plots.searching_figures(result)),
        tables=(_table(result),),
        wide=True,
    )
    return chapter, tuple(_summary(result, even, opposed, others))


def _sentence(result: studies.Searching, cells: Cells) -> str:
    """What every search found in some cells."""
    parts = []
    for objective in result.objectives:
        share, low, high = result.pooled(objective, cells)
        beyond, _, _ = result.pooled_beyond(objective, cells)
        recovered = result.recovered(objective, cells)
        parts.append(
            f"by {NAMES[objective]} the winner is a feature in {share:.0%} ({low:.0%} to {high:.0%}), a mixture beyond "
            f"every feature in {beyond:.0%}, and {recovered:.1f} of {result.n_features} features are found"
        )
    return "; ".join(parts) + "."


def _verdict(result: studies.Searching, even: Cells, opposed: Cells) -> str:
    """In plain words, by what was measured."""
    says = []
    if even:
        own = result.pooled("diminishing", even)[0]
        price = result.pooled("importance", even)[0]
        says.append(
            "where all features of the quadratic model have one kurtosis, a search for diminishing returns "
            f"{_finds(own, 'features')}, and one for least importance {_finds(price, 'them')}"
        )
    if opposed:
        share, low, high = result.pooled_beyond("diminishing", opposed)
        doubt = "is right" if low > 0.5 else "is wrong" if high < 0.5 else "is not decided by so few networks"
        says.append(
            "where kurtosis rises as importance falls the doubt "
            f"{doubt}: a mixture has more strongly diminishing returns than every feature in {share:.0%} of networks"
        )
    if "non_gaussian" in result.objectives:
        missed = [one for one in result.cells if one.by("non_gaussian").share[0] < FINDS]
        off = [float((one.kurtosis - 3).abs().max()) for one in missed]
        says.append(
            "independent components, for which no network is needed, are features (in at least "
            f"{FINDS:.0%} of networks) in {len(result.cells) - len(missed)} of {len(result.cells)} cells"
            + (f"; in the others the kurtosis of features is within {max(off):.2g} of a Gaussian's" if off else "")
        )
    return "Verdict: " + "; ".join(says) + "."


def _finds(share: float, what: str) -> str:
    return f"{'finds' if share >= FINDS else 'does not find' if share <= FAILS else 'sometimes finds'} {what}"


def _summary(
    result: studies.Searching, even: Cells, opposed: Cells, others: list[tuple[str, Cells]]
) -> Iterator[tuple[str, str, str]]:
    quadratic = [("quadratic model", even), ("the same, kurtosis against importance", opposed)]
    groups: list[tuple[str, Cells]] = [*quadratic, *others]
    for name, cells in groups:
        if cells:
            for objective in ("diminishing", "importance"):
                share, low, high = result.pooled(objective, cells)
                recovered = f"{result.recovered(objective, cells):.1f} of {result.n_features} recovered"
                equal = name == "quadratic model" and objective == "diminishing"
                yield (
                    f"Search by {NAMES[objective]}, {name}: winners that are features",
                    f"{share:.0%} ({low:.0%} to {high:.0%}); {recovered}",
                    "all" if equal else "–",
                )


def _table(result: studies.Searching) -> Table:
    return Table(
        ("networks", *(f"{NAMES[objective]}: features, beyond, recovered" for objective in result.objectives)),
        tuple(
            (
                plots.cell_name(cell),
                *(
                    f"{found.share[0]:.0%}, {found.share_beyond[0]:.0%}, {float(found.recovered.double().mean()):.1f}"
                    for found in cell.searched
                ),
            )
            for cell in result.cells
        ),
    )
