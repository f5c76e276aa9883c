"""Models that train while a page looks on: what a page asks for, and the moments that it is sent."""

from collections.abc import Callable

import plotly.graph_objects as go
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from polysem.app._shown import Shown, figure_content
from polysem.app._work import Emit
from polysem.features import SparseUniform
from polysem.measure import FeatureClass
from polysem.plots import live_changes
from polysem.studies import Live, LiveConfig, Moment, block_shape, least_kurtosis, live_features

router = APIRouter(prefix="/api/live")

MOST_SEEDS = 4
LEAST_PROBABILITY = 0.001
MOST_KURTOSIS = 1800.0
CLOSEST_TO_ONE = 1.01
"""Least kurtosis on offer where theory takes every one above 1."""
LOOK_EVERY = 4
"""Moments from one look for blocks to the next."""


class Watched(BaseModel):
    """A model to train, which of its starts to look at closely, and from when on."""

    model_config = ConfigDict(extra="forbid")
    architecture: str = Query("tied relu", max_length=40)
    n_features: int = Query(5, ge=1, le=60)
    d_hidden: int = Query(2, ge=1, le=20)
    feature_probability: float = Query(0.05, ge=LEAST_PROBABILITY, le=1)
    kurtosis: float | None = Query(None, gt=1, le=MOST_KURTOSIS)
    decay: float = Query(1.0, ge=0.1, le=1)
    n_seeds: int = Query(2, ge=1, le=MOST_SEEDS)
    seed: int = Query(0, ge=0, le=10**6)
    steps: int = Query(600, ge=10, le=3000)
    shown: int = Query(1, ge=1, le=MOST_SEEDS)
    from_step: int = Query(0, ge=0, le=3000)

    @property
    def config(self) -> LiveConfig:
        """The configuration of its training."""
        return LiveConfig(**self.model_dump(include=set(LiveConfig.__dataclass_fields__)))

    @property
    def looked_at(self) -> int:
        """Position of the start that is looked at closely."""
        return min(self.shown, self.n_seeds) - 1


@router.get("/inputs")
def inputs(
    architecture: str = Query(max_length=40),
    feature_probability: float = Query(ge=LEAST_PROBABILITY, le=1),
    kurtosis: float | None = Query(None, gt=1, le=MOST_KURTOSIS),
) -> Response:
    """Chance and kurtosis that belong together; a kurtosis that the architecture cannot have becomes its least one."""
    least = max(CLOSEST_TO_ONE, least_kurtosis(architecture))
    bounded = None if kurtosis is None else max(least, kurtosis)
    config = LiveConfig(
        architecture=architecture, n_features=1, feature_probability=feature_probability, kurtosis=bounded
    )
    features = live_features(config)
    uniform = isinstance(features, SparseUniform)
    numbers: dict[str, object] = {
        "feature_probability": features.feature_probability.item() if uniform else None,
        "kurtosis": features.kurtosis.item(),
        "least": least,
    }
    return Shown(numbers=numbers).response()


class Sender:
    """Sends the moments of a training to a page: figures first, then what changes in them.

    Args:
        emit: what sends an answer.
        asked: what the page wants to see, from which step on.
        figures: the figures of the view, from the first moment; what is not among them is not sent.
        known: facts that do not change, label and value.
    """

    def __init__(
        self,
        emit: Emit,
        asked: Watched,
        figures: Callable[[Moment], dict[str, go.Figure]],
        known: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._emit, self._asked, self._figures, self._known = emit, asked, figures, known
        self._names: frozenset[str] = frozenset()
        self._every = asked.config.every

    def __call__(self, moment: Moment) -> None:
        """Send a moment, if the page does not have it yet."""
        first = not self._names
        if moment.step < self._asked.from_step:
            self._emit({"before": moment.step})
            return
        answer: dict[str, object] = {"step": moment.step}
        if first:
            figures = self._figures(moment)
            self._names = frozenset(figures)
        closely = "gram" in self._names and (
            moment.step == self._asked.steps or moment.step // self._every % LOOK_EVERY == 0
        )
        if first and self._asked.from_step == 0:
            answer["figures"] = {name: figure_content(figure) for name, figure in figures.items()}
        else:
            changes = live_changes(moment, shown=self._asked.looked_at, cosines_too=closely)
            answer["changes"] = {name: change for name, change in changes.items() if name in self._names}
        answer["facts"] = [*self._facts(moment, closely), *(self._known if first else ())]
        self._emit(answer)

    def end(self, done: Live, code: str) -> None:
        """Send the numbers in which a training ended."""
        last = done.last
        numbers = {"loss": last.loss.tolist(), "capacity": last.capacity.tolist()}
        self._emit({"done": True, "step": last.step, "numbers": numbers, "code": code})

    def _facts(self, moment: Moment, closely: bool) -> list[tuple[str, str]]:
        counts = [moment.counts(kind).tolist() for kind in FeatureClass]
        each = [" / ".join(map(str, start)) for start in zip(*counts, strict=True)]
        index = ", ".join(f"{one:.3f}" for one in moment.polysemanticity.tolist())
        said = [
            ("step", f"{moment.step} of {self._asked.steps}"),
            ("loss of each start", ", ".join(f"{loss:.4g}" for loss in moment.loss.tolist())),
            ("ignored / impure / pure features of each start", ", ".join(each)),
            ("polysemanticity of each start, mean 4 C (1 − C)", index),
        ]
        if closely:
            said.append((f"shapes of start {self._asked.looked_at + 1}", _shapes(moment, self._asked.looked_at)))
        return said


def _shapes(moment: Moment, start: int) -> str:
    """The blocks of one start: polytopes by name, others by their size, each with its number."""
    names = []
    for block in moment.blocks(start):
        shared = f"{len(block.members)} features that share {block.dim} dimensions"
        names.append(shared if block.polytope is None and len(block.members) > 1 else block_shape(block))
    counted = [(names.count(name), name) for name in sorted(set(names))]
    return ", ".join(name if count == 1 else f"{count} × {name}" for count, name in counted) or "none"
