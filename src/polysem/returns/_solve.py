"""Which minimisation serves which loss."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from polysem.returns._kinked import kinked_minima
from polysem.returns._linear import Moments
from polysem.returns._minima import Minima, Points
from polysem.returns._newton import Loss, smooth_minima
from polysem.zoo import SLOPES

LINEAR = "linear"
LOSSES = (LINEAR, *SLOPES)


def solver(points: Points, loss: str | Loss) -> Callable[[Tensor], Minima]:
    """From capacities to the least losses of all readouts."""
    if loss == LINEAR:
        return Moments.of(points)
    solve = partial(kinked_minima, slopes=SLOPES[loss]) if isinstance(loss, str) else partial(smooth_minima, loss=loss)
    return lambda C: points.minimise(C, solve)
