"""`polysem plan`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polysem.cli._print import print_json, print_table


@dataclass(frozen=True)
class Plan:
    """Plan a width: optimal loss against the number of dimensions, the price of one more, and what is represented.

    Example: polysem plan --n-features 100 --decay 0.95 --feature-probability 0.05
    """

    n_features: int = 40
    """Number of features with importances decay^i (without --csv)."""
    decay: float = 0.9
    """Ratio of one importance to the one before (without --csv)."""
    csv: Path | None = None
    """A CSV file with a column importance, and optionally kurtosis or feature_probability, one row a feature."""
    kurtosis: float | None = None
    """Kurtosis of the features (1 or more; the default is 20)."""
    feature_probability: float | None = None
    """Probability that a feature is active, instead of the kurtosis."""
    slab: Literal["sign", "uniform", "gaussian", "laplace"] = "sign"
    """Values of an active feature, where probabilities are given: kurtosis = kurtosis(slab) / probability."""
    widths: tuple[int, ...] = ()
    """Widths to plan (default: from 1 to the number of features, thinned out beyond 40)."""
    out: Path = Path("polysem-plan.html")
    """Where to write the HTML page."""
    force: bool = False
    """Overwrite a page that exists."""
    json: bool = False
    """Print the plan as JSON."""

    def run(self) -> None:
        """Plan, print and write."""
        from polysem.reports import claim, plan_page, write
        from polysem.studies import WidthConfig, width

        claim(self.out, force=self.force)
        result = width(
            WidthConfig(
                n_features=self.n_features,
                decay=self.decay,
                csv=self.csv,
                kurtosis=self.kurtosis,
                feature_probability=self.feature_probability,
                slab=self.slab,
                widths=self.widths,
            )
        )
        write(self.out, plan_page(result), force=self.force)
        plan = result.whole
        columns = {
            "width": plan.total.long(),
            "optimal_loss": plan.loss,
            "price": plan.price,
            "next_gain": plan.next_gain,
            "n_ignored": plan.n_ignored,
            "n_impure": plan.n_impure,
            "n_pure": plan.n_pure,
        }
        rows = list(zip(*(column.tolist() for column in columns.values()), strict=True))
        if self.json:
            widths = [dict(zip(columns, row, strict=True)) for row in rows]
            print_json({"features": result.says, "page": str(self.out.resolve()), "widths": widths})
            return
        print(f"{result.says}\n")
        header = ("width", "optimal loss", "price μ", "next dim. buys", "ignored", "impure", "pure")
        shown = (tuple(f"{cell:,}" if isinstance(cell, int) else f"{cell:.6g}" for cell in row) for row in rows)
        print_table(header, tuple(shown))
        print(f"\nPage: {self.out.resolve()}")
