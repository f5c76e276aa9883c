"""The chapter on what the discussion of the paper proposed: each proposal run, and judged."""

from polysem.reports._discussion_flattening import flattening_part
from polysem.reports._discussion_one_by_one import one_by_one_part
from polysem.reports._discussion_pareto import pareto_part
from polysem.reports._discussion_real_penalty import real_penalty_part
from polysem.reports._discussion_searching import searching_part
from polysem.reports._discussion_treating import treating_part
from polysem.reports._page import Chapter, Part
from polysem.reports._settings import ReproduceConfig, Sweeping

PARTS = (flattening_part, one_by_one_part, searching_part, treating_part, real_penalty_part, pareto_part)


def discussion_chapter(title: str, config: ReproduceConfig, sweeping: Sweeping) -> Part:
    """Every proposal in a part of its own."""
    parts = [part(config, sweeping) for part in PARTS]
    chapter = Chapter(
        name="discussion",
        title=title,
        text=(
            "Under the summary of the paper its readers proposed experiments: ways to make features monosemantic, and "
            "to find features that nobody has named. Here they are, on models whose features and best allocations are "
            "known, or on real data, with what each costs in loss.",
        ),
        parts=tuple(made for made, _ in parts),
    )
    return chapter, tuple(line for _, lines in parts for line in lines)
