"""How features lie in a hidden state, linearly: how it moves with each, and how each is read from it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysem import _checks
from polysem.returns._prices import chunk_size
from polysem.returns._states import StateMoments, moments

RIDGE = 1e-6


@dataclass(frozen=True)
class Reading:
    """Features in one state.

    Attributes:
        embedding: `W` `[n_features, d_hidden]`, how the state moves with each feature.
        readout: `V` `[n_features, d_hidden]`, readouts as rows: `z_i = V_i·(h - origin)`.
        origin: mean state `[d_hidden]`.
        explained: squared correlation of each readout with its feature `[n_features]`.
    """

    embedding: Float[Tensor, "n_features d_hidden"]
    readout: Float[Tensor, "n_features d_hidden"]
    origin: Float[Tensor, " d_hidden"]
    explained: Float[Tensor, " n_features"]


def reading(
    state: Float[Tensor, "n_samples *positions d_hidden"],
    features: Float[Tensor, "n_samples *positions n_features"],
    *,
    embedding: Float[Tensor, "n_features d_hidden"] | None = None,
    readout: Float[Tensor, "n_features d_hidden"] | None = None,
    ridge: float = RIDGE,
    held_out: bool = True,
    standardise: bool = True,
) -> Reading:
    """Say how a recorded state moves with features and how they are read from it, as `layers` does in a network.

        W_j = Cov(h, f_j) / Var f_j
        V = argmin_V E |f - V (h - E h)|² + λ |V|²                λ = ridge · tr Cov(h) / d_hidden

    Args:
        state: samples first.
        features: of the same samples and positions; none may depend on others, or slopes mix them.
        embedding: rows per unit of the feature; slopes by default.
        readout: rows; the ridge regression by default.
        ridge: penalty, relative to the mean variance of the state's entries.
        held_out: fit readouts on samples 0, 2, 4, ... and measure on the others. Without it both see all samples.
        standardise: take every feature at unit variance, so that rows of `W` carry its standard deviation.

    Returns:
        A `Reading`, float64.

    Raises:
        ValueError: shapes that do not fit, fewer than two samples, values that are not finite, a negative ridge.
        TypeError: something that is no tensor.

    Example:
        >>> import torch
        >>> from polysem.returns import reading
        >>> x = torch.cartesian_prod(*2 * [torch.tensor([0.0, 1.0])])
        >>> found = reading(x @ torch.tensor([[1.0, 0.0], [2.0, 2.0]]), x, held_out=False, standardise=False)
        >>> found.embedding.tolist()
        [[1.0, 0.0], [2.0, 2.0]]

    Source: ours.
    """
    h, f = _checks.matrix("state", state), _checks.matrix("features", features)
    allowed = f"[{', '.join(map(str, h.shape[:-1]))}, n_features] as the state, with at least two samples"
    _checks.require(f.shape[:-1] == h.shape[:-1] and len(h) > 1, "shape of features", tuple(f.shape), allowed)
    _checks.require(ridge >= 0, "ridge", ridge, "non-negative")
    size = (f.shape[-1], h.shape[-1])
    for name, rows in (("embedding", embedding), ("readout", readout)):
        if rows is not None:
            shape = tuple(_checks.matrix(name, rows).shape)
            _checks.require(shape == size, f"shape of {name}", shape, f"{size}")
    fitted, rest = halves(held_out)
    probe, at = _moments(h[fitted], f[fitted]), _moments(h[rest], f[rest])
    (before, _), (after, variance) = probe, at
    if embedding is not None and standardise:
        embedding = torch.where(variance[:, None] > 0, embedding, 0.0)  # its standard deviation is 0
    return read(before, after, variance, scale_of(variance, standardise), ridge, embedding, readout)


def halves(held_out: bool) -> tuple[slice, slice]:
    """The samples on which readouts are fitted, and those on which all else is measured."""
    return (slice(0, None, 2), slice(1, None, 2)) if held_out else (slice(None), slice(None))


def scale_of(variance: Tensor, standardise: bool) -> Tensor:
    """In what unit features are taken; 1 where one does not vary."""
    return torch.where(variance > 0, variance, 1.0).sqrt() if standardise else torch.ones_like(variance)


def read(
    probe: StateMoments,
    at: StateMoments,
    variance: Tensor,
    spread: Tensor,
    ridge: float,
    embedding: Tensor | None,
    readout: Tensor | None,
) -> Reading:
    """Slopes and readouts from moments: readouts from those of `probe`, all else from those of `at`."""
    W = _slopes(at, variance, spread) if embedding is None else embedding.double() * spread[:, None]
    V = readout.double() if readout is not None else probe.cross / spread[:, None] @ _inverse(probe.covariance, ridge)
    return Reading(W, V, at.mean, _squared_correlation(V, at.cross, at.covariance, variance))


def _moments(h: Tensor, f: Tensor) -> tuple[StateMoments, Tensor]:
    """Moments of a recorded state, as that of a network which returns it; and the features' variances."""
    share = torch.full((len(h),), 1 / len(h), dtype=torch.float64, device=h.device)
    found = moments(nn.Sequential(nn.Identity()), h, f, ["0"], share, chunk_size(None, f[0].numel()))
    return found.states[0], found.variance


def _squared_correlation(V: Tensor, cross: Tensor, covariance: Tensor, variance: Tensor) -> Tensor:
    """Of `V_i·h` with its feature; 0 where one of them is constant."""
    size = (V @ covariance * V).sum(-1) * variance
    share: Tensor = torch.linalg.vecdot(V, cross).square() / torch.where(size > 0, size, torch.inf)
    return share.clamp(max=1)


def _slopes(at: StateMoments, variance: Tensor, spread: Tensor) -> Tensor:
    """`Cov(h, f_j) / Var f_j` at the features' scale; 0 where a feature does not vary."""
    return at.cross * (spread / torch.where(variance > 0, variance, torch.inf))[:, None]


def _inverse(covariance: Tensor, ridge: float) -> Tensor:
    penalty = ridge * covariance.diagonal().mean()
    inverse: Tensor = torch.linalg.pinv(
        covariance + penalty * torch.eye(len(covariance)).to(covariance), hermitian=True
    )
    return inverse
