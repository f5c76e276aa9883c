"""A report in words, as text and as HTML."""

from html import escape

from polysem.measure._null import Null

FEW = 0.25
"""Rows that use less than this share of the directions that they could span lie in few."""


def verdict(total: float, isotropic: Null, covariance: Null, few: tuple[float, int] | None) -> str:
    """Say what a total means beside both nulls, and when single rows are not what to look at.

    Random directions ask whether features crowd into few directions at all; the covariance null asks whether, given
    how unequally the directions are used, single features avoid each other more than chance would. Rows that use
    `few` directions, this many of those available, are many to each: then their capacities count directions, whatever
    is represented.
    """
    if not total:
        return "No feature is represented."
    against_random, against_covariance = _place(total, isotropic), _place(total, covariance)
    sentences = {
        "below": "Features share directions more than random ones with the same norms would",
        "within": "The total is what random directions with the same norms would give",
        "above": "Features interfere less than random directions with the same norms would",
    }
    given_spectrum = {
        "below": "given how unequally the directions are used they still overlap more than chance",
        "within": "how unequally the directions are used explains the total: beyond that, no structure shows",
        "above": "given how unequally the directions are used they avoid each other more than chance",
    }
    text = f"{sentences[against_random]}; {given_spectrum[against_covariance]}."
    if against_random == "below":
        explained = (isotropic.mean - covariance.mean) / (isotropic.mean - total)
        share = "all" if explained >= 0.995 else f"{max(explained, 0):.0%}"
        text += f" The second moments account for {share} of the shortfall against random directions."
    if few:
        text += (
            f" Rows lie in few directions, about {few[0]:.3g} of the {few[1]:,} that they could span: capacity then "
            "says how many rows share a direction, not that each row is a feature in superposition. The features may "
            "be combinations of rows, such as waves over them."
        )
    return text


def _place(total: float, null: Null) -> str:
    low, high = null.interval
    tolerance = 1e-9 * max(1.0, total)  # nulls of one feature or one dimension have no spread
    return "below" if total < low - tolerance else "above" if total > high + tolerance else "within"


def as_text(table: list[tuple[str, str]], sentence: str) -> str:
    """Aligned lines for a terminal."""
    width = max(len(label) for label, _ in table)
    return "\n".join([*(f"{label:<{width}}  {value}" for label, value in table), "", sentence])


def as_html(table: list[tuple[str, str]], sentence: str) -> str:
    """A table for a notebook or a page."""
    rows = "".join(f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>" for label, value in table)
    return f'<table class="polysem-report">{rows}</table><p>{escape(sentence)}</p>'
