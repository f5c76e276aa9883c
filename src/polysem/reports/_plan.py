"""The page of a width plan."""

from importlib.metadata import version

from polysem.plots import width_figures
from polysem.reports._page import Chapter, page
from polysem.studies import Width


def plan_page(result: Width) -> str:
    """An HTML page: optimal loss, price and kinds of features against width."""
    chapter = Chapter(
        name="plan",
        title="What each width buys",
        text=(
            "L*(D) is the lowest loss of the quadratic toy model at width D. Its slope, the price μ, is what all "
            "partly represented features would gain from a little more capacity; the next whole dimension buys the "
            "integral of μ.",
        ),
        figures=tuple(width_figures(result)),
    )
    return page("Width plan", result.says, (chapter,), f"polysem {version('polysem')}")
