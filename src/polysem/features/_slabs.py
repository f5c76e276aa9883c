"""The slabs: what the value of an active feature is drawn from."""

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.features._independent import IndependentFeatures
from polysem.features._sparse import uniform


class SparseUniform(IndependentFeatures):
    """Sparse features, uniform on [0, 1] when active, or on [-1, 1] if signed.

    Kurtosis `9 / (5 p)` if signed; else a mean `p/2` enters.

    Args:
        feature_probability: chance `[*shape]` in (0, 1] that a feature is active.
        signed: draw from [-1, 1].
        standardise: scale and shift every feature to mean 0 and variance 1.

    Raises:
        ValueError: a probability outside (0, 1].

    Example:
        >>> from polysem.features import SparseUniform
        >>> dense, signed = SparseUniform(1.0), SparseUniform(0.1, signed=True)
        >>> round(dense.mean.item(), 6), round(dense.kurtosis.item(), 6), round(signed.kurtosis.item(), 6)
        (0.5, 1.8, 18.0)

    Source: Elhage et al. 2022, section 2 (the [0, 1] slab).
    """

    slab_moments = (0.0, 1 / 3, 0.0, 1 / 5)

    def __init__(self, feature_probability: object, *, signed: bool = False, standardise: bool = False) -> None:
        super().__init__(feature_probability, standardise=standardise)
        self._signed = signed
        if not signed:
            self.slab_moments = (1 / 2, 1 / 3, 1 / 4, 1 / 5)

    @property
    def signed(self) -> bool:
        """Whether active values lie in [-1, 1]."""
        return self._signed

    @classmethod
    def from_kurtosis(cls, kurtosis: object, *, standardise: bool = False) -> "SparseUniform":
        """Signed features of a given kurtosis (the slab on [0, 1] is not symmetric); see `IndependentFeatures`."""
        p = super().from_kurtosis(kurtosis).feature_probability
        return cls(p, signed=True, standardise=standardise)

    def _slab(self, shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "..."]:
        unit = uniform(shape, generator)
        return 2 * unit - 1 if self._signed else unit

    def _slab_quantile(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return 2 * u - 1 if self._signed else u


class SparseGaussian(IndependentFeatures):
    """Sparse features, standard normal when active: kurtosis `3 / p`.

    Arguments as in `SparseFeatures`.

    Example:
        >>> from polysem.features import SparseGaussian
        >>> SparseGaussian([1.0, 0.5]).kurtosis.tolist()
        [3.0, 6.0]
    """

    slab_moments = (0.0, 1.0, 0.0, 3.0)

    def _slab(self, shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "..."]:
        return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)

    def _slab_quantile(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        quantile: Tensor = torch.special.ndtri(u)
        return quantile


class SparseLaplace(IndependentFeatures):
    """Sparse features, Laplace of unit variance when active: kurtosis `6 / p`.

    Arguments as in `SparseFeatures`.

    Example:
        >>> from polysem.features import SparseLaplace
        >>> SparseLaplace(0.25).kurtosis.item()
        24.0
    """

    slab_moments = (0.0, 1.0, 0.0, 6.0)

    def _slab(self, shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "..."]:
        size = -torch.log1p(-uniform(shape, generator)) / 2**0.5
        return size * _sign(shape, generator)

    def _slab_quantile(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        tail = torch.minimum(u, 1 - u)
        return torch.log(2 * tail) / 2**0.5 * torch.where(u < 0.5, 1.0, -1.0)


class SparseSign(IndependentFeatures):
    """Sparse features, 1 or -1 with equal chance when active: kurtosis `1 / p`.

    Arguments as in `SparseFeatures`.

    Example:
        >>> from polysem.features import SparseSign
        >>> SparseSign(0.5).variance.item(), SparseSign(0.5).kurtosis.item()
        (0.5, 2.0)
    """

    slab_moments = (0.0, 1.0, 0.0, 1.0)

    def _slab(self, shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "..."]:
        return _sign(shape, generator)

    def _slab_quantile(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return torch.where(u < 0.5, -1.0, 1.0).to(u.dtype)


def _sign(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return 1 - 2 * (uniform(shape, generator) < 0.5).to(torch.float64)
