"""What every distribution of sparse features shares: moments, sampling, conditioning on activity."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from polysem import _checks


class SparseFeatures(ABC):
    r"""Features that are zero except with their probability, when they are drawn from a slab.

        x_i = s_i z_i,   s_i ~ Bernoulli(p_i),   z_i ~ slab, independent of all else

    A subclass gives the slab, by its raw moments and a sampler, and the joint law of the activities `s`. With
    `standardise=True` every sample is `(x_i - mean_i) / std_i`, by the exact moments, so that an inactive feature
    no longer sits at 0 where the slab has a mean (see `inactive_value`).

    Args:
        feature_probability: chance `[*shape]` in (0, 1] that a feature is active; the last axis is the
            features, axes before it are independent settings. A plain number is one feature of shape `[]`.
        standardise: scale and shift every feature to mean 0 and variance 1.

    Raises:
        ValueError: a probability outside (0, 1], or no feature at all.
        TypeError: something that is not a number, an array or a tensor.

    Attributes:
        slab_moments: raw moments `E z, E z², E z³, E z⁴` of the slab.
        independent: whether features are independent of each other, as closed forms of expected losses assume.

    Source: spike and slab features of Scherlis et al. 2022, section 2; conditioning on activity is ours.
    """

    slab_moments: tuple[float, float, float, float]
    independent: bool

    def __init__(self, feature_probability: object, *, standardise: bool = False) -> None:
        p = _checks.as_float64("feature_probability", feature_probability).detach().clone()
        _checks.require(p.numel() > 0, "feature_probability", feature_probability, "of at least one feature")
        _checks.require(bool(((p > 0) & (p <= 1)).all()), "feature_probability", feature_probability, "in (0, 1]")
        self._p = p
        self._standardise = standardise

    @abstractmethod
    def _slab(self, shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "..."]:
        """Draw float64 slab values on the generator's device."""

    @abstractmethod
    def _active(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n ..."]:
        """Draw which features are active `[n, *shape]`."""

    @abstractmethod
    def _some_active(
        self, n: int, generator: torch.Generator
    ) -> tuple[Bool[Tensor, "n ..."], Float[Tensor, "*settings"]]:
        """Draw which features are active given that some are, and the chance of that."""

    @property
    def feature_probability(self) -> Float[Tensor, "*shape"]:
        """Chance that each feature is active."""
        return self._p

    @property
    def pair_probability(self) -> Float[Tensor, "*settings n_features n_features"]:
        """Chance that features i and j are both active: `p_i p_j` where they are independent, `p_i` on the diagonal."""
        p = self._p if self._p.ndim else self._p[None]
        same = torch.eye(p.shape[-1], dtype=torch.bool, device=p.device)
        return torch.where(same, p[..., None], p[..., :, None] * p[..., None, :])

    @property
    def n_features(self) -> int:
        """Number of features: the length of the last axis, 1 for a plain number."""
        return self._p.shape[-1] if self._p.ndim else 1

    @property
    def standardise(self) -> bool:
        """Whether samples are shifted and scaled to mean 0 and variance 1."""
        return self._standardise

    @property
    def mean(self) -> Float[Tensor, "*shape"]:
        """Exact mean of each feature: `p m_1`, or 0 if standardised."""
        return torch.zeros_like(self._p) if self._standardise else self._raw_mean

    @property
    def variance(self) -> Float[Tensor, "*shape"]:
        """Exact variance of each feature: `p m_2 - (p m_1)²`, or 1 if standardised."""
        return torch.ones_like(self._p) if self._standardise else self._raw_variance

    @property
    def skewness(self) -> Float[Tensor, "*shape"]:
        """Exact `E (x - mean)³ / variance^(3/2)`; 0 for a symmetric slab."""
        _, m2, m3, _ = self.slab_moments
        mean = self._raw_mean
        third = self._p * (m3 - 3 * mean * m2) + 2 * mean.pow(3)
        return third / self._raw_variance.pow(1.5)

    @property
    def kurtosis(self) -> Float[Tensor, "*shape"]:
        """Exact central kurtosis `E (x - mean)⁴ / variance²`; `kurtosis(slab) / p` for a symmetric slab."""
        _, m2, m3, m4 = self.slab_moments
        mean = self._raw_mean
        fourth = self._p * (m4 - 4 * mean * m3 + 6 * mean.square() * m2) - 3 * mean.pow(4)
        return fourth / self._raw_variance.square()

    @property
    def inactive_value(self) -> Float[Tensor, "*shape"]:
        """Value of an inactive feature: 0, or `-mean/std` if standardised."""
        return self._finish(torch.zeros_like(self._p))

    def sample(
        self, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Float[Tensor, "n ..."]:
        """Draw independent samples.

        Drawn in float64 on the generator's device and rounded to `dtype` last: a float32 sample is the
        float64 one of the same seed, rounded, and small probabilities keep their meaning.

        Args:
            n: number of samples.
            generator: source of randomness; its device is the device of the result.
            dtype: floating-point dtype of the result.

        Returns:
            Samples `[n, *shape]`.

        Raises:
            ValueError: `n` below 1.
            TypeError: no generator, or a dtype that is not floating-point.

        Example:
            >>> import torch
            >>> from polysem.features import SparseSign
            >>> x = SparseSign([0.01, 1.0]).sample(1000, generator=torch.Generator().manual_seed(0))
            >>> x.shape, x[:, 1].abs().mean().item(), x[:, 0].abs().mean().item() < 0.02
            (torch.Size([1000, 2]), 1.0, True)
        """
        n = check_draw(n, generator, dtype)
        return self._values(self._active(n, generator), generator).to(dtype)

    def sample_active(
        self, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> tuple[Float[Tensor, "n ..."], Float[Tensor, "*settings"]]:
        """Draw samples given that at least one feature along the last axis is active, and the chance of that.

            E f(x) = weight · E[f(x) | some feature active] + (1 - weight) · f(inactive_value)
            weight = P(some feature active)        1 - Π_i (1 - p_i) for independent features

        Exact, without rejection, and accurate for tiny probabilities too.

        Args:
            n: number of samples.
            generator: source of randomness; its device is the device of the result.
            dtype: floating-point dtype of the samples.

        Returns:
            Samples `[n, *shape]` and the float64 weight `[*shape[:-1]]` (`[]` for a plain number).

        Raises:
            ValueError: `n` below 1.
            TypeError: no generator, or a dtype that is not floating-point.

        Example:
            >>> import torch
            >>> from polysem.features import SparseUniform
            >>> features = SparseUniform(torch.full((3,), 1e-12))
            >>> x, weight = features.sample_active(5, generator=torch.Generator().manual_seed(0))
            >>> (x > 0).sum(-1).tolist(), f"{weight.item():.6e}"
            ([1, 1, 1, 1, 1], '3.000000e-12')
        """
        n = check_draw(n, generator, dtype)
        active, weight = self._some_active(n, generator)
        return self._values(active, generator).to(dtype), weight

    @property
    def _raw_mean(self) -> Tensor:
        return self._p * self.slab_moments[0]

    @property
    def _raw_variance(self) -> Tensor:
        return self._p * self.slab_moments[1] - self._raw_mean.square()

    def _values(self, active: Tensor, generator: torch.Generator) -> Tensor:
        slab = self._slab(active.shape, generator)
        return self._finish(torch.where(active, slab, torch.zeros_like(slab)))

    def _finish(self, raw: Tensor) -> Tensor:
        if not self._standardise:
            return raw
        return (raw - self._raw_mean.to(raw.device)) / self._raw_variance.sqrt().to(raw.device)


def some_up_to(p: Float[Tensor, "*settings n_events"]) -> Float[Tensor, "*settings n_events"]:
    """Chance that one of the first 1, 2, ... independent events happens, to full relative accuracy."""
    return -torch.expm1(torch.log1p(-p).cumsum(-1))


def first_event(some: Float[Tensor, "*settings n_events"], n: int, generator: torch.Generator) -> Int[Tensor, "n ..."]:
    """Draw which of independent events is the first to happen `[n, *settings]`, given that one does.

    The law is `p_i Π_{j<i} (1 - p_j) / some[-1]`; `some` is `some_up_to(p)`.
    """
    u = uniform(torch.Size((*some.shape[:-1], n)), generator)
    return torch.searchsorted(some / some[..., -1:], u, right=True).movedim(-1, 0)


def uniform(shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "..."]:
    """Draw float64 values on [0, 1) on the generator's device."""
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)


def check_draw(n: int, generator: torch.Generator, dtype: torch.dtype) -> int:
    """Return the number of samples, checked like the generator and the dtype."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be floating-point, got {dtype}")
    return _checks.whole("n", n)
