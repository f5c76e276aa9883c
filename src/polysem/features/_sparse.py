"""What every distribution of independent sparse features shares: moments, sampling, conditioning."""

from abc import ABC, abstractmethod
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from polysem import _checks

Kind = TypeVar("Kind", bound="SparseFeatures")


class SparseFeatures(ABC):
    r"""Independent features, each zero except with its probability, when it is drawn from a slab.

        x_i = s_i z_i,   s_i ~ Bernoulli(p_i),   z_i ~ slab

    A subclass gives the slab: its raw moments and a sampler. With `standardise=True` every sample is
    `(x_i - mean_i) / std_i`, by the exact moments, so that an inactive feature no longer sits at 0 where the
    slab has a mean (see `inactive_value`).

    Args:
        feature_probability: chance `[*shape]` in (0, 1] that a feature is active; the last axis is the
            features, axes before it are independent settings. A plain number is one feature of shape `[]`.
        standardise: scale and shift every feature to mean 0 and variance 1.

    Raises:
        ValueError: a probability outside (0, 1], or no feature at all.
        TypeError: something that is not a number, an array or a tensor.

    Source: spike and slab features of Scherlis et al. 2022, section 2; conditioning on activity is ours.
    """

    slab_moments: tuple[float, float, float, float]
    """Raw moments E z, E z², E z³, E z⁴ of the slab."""

    def __init__(self, feature_probability: object, *, standardise: bool = False) -> None:
        p = _checks.as_float64("feature_probability", feature_probability).detach().clone()
        _checks.require(p.numel() > 0, "feature_probability", feature_probability, "of at least one feature")
        _checks.require(bool(((p > 0) & (p <= 1)).all()), "feature_probability", feature_probability, "in (0, 1]")
        self._p = p
        self._standardise = standardise

    @classmethod
    def from_kurtosis(cls: type[Kind], kurtosis: object, *, standardise: bool = False) -> Kind:
        """Features of a given kurtosis: their slab is symmetric, and the density that causes it follows.

            p = kurtosis(slab) / kurtosis

        Args:
            kurtosis: central kurtosis `[*shape]`, at least that of the slab.
            standardise: as in the constructor.

        Returns:
            Features with that kurtosis; their `feature_probability` is the density.

        Raises:
            ValueError: a kurtosis below that of the slab, which would ask for a probability above 1.

        Example:
            >>> from polysem.features import SparseGaussian
            >>> SparseGaussian.from_kurtosis([3.0, 30.0]).feature_probability.tolist()
            [1.0, 0.1]

        Source: ours; spike and slab kurtosis.
        """
        _, m2, _, m4 = cls.slab_moments
        slab = m4 / m2**2
        target = _checks.as_float64("kurtosis", kurtosis)
        allowed = f"finite and at least that of the slab, {slab:g} (the probability would exceed 1)"
        reachable = torch.isfinite(target) & (target >= slab * (1 - 1e-12))
        _checks.require(bool(reachable.all()), "kurtosis", kurtosis, allowed)
        return cls((slab / target).clamp(max=1), standardise=standardise)

    @abstractmethod
    def _slab(self, shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "..."]:
        """Draw float64 slab values on the generator's device."""

    @property
    def feature_probability(self) -> Float[Tensor, "*shape"]:
        """Chance that each feature is active."""
        return self._p

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
        n = _check_draw(n, generator, dtype)
        p = self._p.to(generator.device)
        active = uniform(torch.Size((n, *p.shape)), generator) < p
        return self._values(active, generator).to(dtype)

    def sample_active(
        self, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> tuple[Float[Tensor, "n ..."], Float[Tensor, "*settings"]]:
        """Draw samples given that at least one feature along the last axis is active, and the chance of that.

            E f(x) = weight · E[f(x) | some feature active] + (1 - weight) · f(inactive_value)
            weight = 1 - Π_i (1 - p_i)

        Exact, without rejection: the first active feature is drawn from its law
        `p_i Π_{j<i} (1 - p_j) / weight`, those after it independently. Accurate for tiny probabilities too.

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
        n = _check_draw(n, generator, dtype)
        p = self._p.to(generator.device)
        p = p if p.ndim else p[None]
        none_up_to = torch.log1p(-p).cumsum(-1)
        some_up_to = -torch.expm1(none_up_to)
        weight = some_up_to[..., -1]
        u = uniform(torch.Size((*p.shape[:-1], n)), generator)
        first = torch.searchsorted(some_up_to / weight[..., None], u, right=True).movedim(-1, 0)[..., None]
        position = torch.arange(p.shape[-1], device=p.device)
        later = (position > first) & (uniform(torch.Size((n, *p.shape)), generator) < p)
        active = (position == first) | later
        return self._values(active.reshape(n, *self._p.shape), generator).to(dtype), weight

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


def uniform(shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "..."]:
    """Draw float64 values on [0, 1) on the generator's device."""
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)


def _check_draw(n: int, generator: torch.Generator, dtype: torch.dtype) -> int:
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {type(generator).__name__}")
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be floating-point, got {dtype}")
    return _checks.whole("n", n)
