"""The page of one measured matrix."""

from importlib.metadata import version

from polysem.networks import Analysis
from polysem.plots import report_figures
from polysem.reports._page import Chapter, Table, page


def analysis_page(analysis: Analysis) -> str:
    """An HTML page: the verdict in words, the table, and three figures."""
    report = analysis.report
    rows, columns = analysis.stored_shape
    chapters = (
        Chapter(
            name="numbers",
            title="Numbers",
            text=(report.verdict,),
            tables=(Table(("quantity", "value"), tuple(report.table())),),
        ),
        Chapter(name="figures", title="Figures", figures=tuple(report_figures(report)), wide=True),
        Chapter(
            name="reading",
            title="How to read this",
            text=(
                "A feature's capacity C_i = (W_i·W_i)² / Σ_j (W_i·W_j)² is the share of a dimension that it owns: 1 "
                "if it is orthogonal to all others, less the more others overlap with it. The total cannot exceed "
                "the number of dimensions D, and N random directions nearly reach it, so that a total says "
                "something only beside its nulls.",
                "The first null keeps the norms and draws directions at random; the second draws Gaussian rows with "
                "the same second moments M / N, so that it uses the directions as unequally as the matrix does.",
                "With many more features than dimensions the mean capacity is D / N at most, and nearly all features "
                "fall below the threshold for “ignored”: there it says that no feature comes near a dimension of "
                "its own, not that the network does not use it.",
            ),
        ),
    )
    lead = (
        f"{analysis.tensor} ({rows:,} × {columns:,} as stored, {analysis.features} as features) in {analysis.path.name}"
    )
    footer = f"polysem {version('polysem')}; norm policy {report.norm}."
    return page(f"Capacity of {analysis.tensor}", lead, chapters, footer)
