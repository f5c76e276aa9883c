"""Sparse features that are independent of each other."""

from abc import abstractmethod
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polysem import _checks
from polysem.features._sparse import SparseFeatures, first_event, some_up_to, uniform

Kind = TypeVar("Kind", bound="IndependentFeatures")


class IndependentFeatures(SparseFeatures):
    r"""Sparse features whose activities are independent; a subclass gives the slab.

        P(s) = Π_i p_i^s_i (1 - p_i)^(1 - s_i),   P(s_i s_j = 1) = p_i p_j

    Arguments as in `SparseFeatures`.

    Source: Scherlis et al. 2022, section 2.
    """

    independent = True

    @abstractmethod
    def _slab_quantile(self, u: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Slab values below which a share `u` strictly between 0 and 1 of the slab lies."""

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

    def _active(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n ..."]:
        p = self.feature_probability.to(generator.device)
        return uniform(torch.Size((n, *p.shape)), generator) < p

    def _some_active(
        self, n: int, generator: torch.Generator
    ) -> tuple[Bool[Tensor, "n ..."], Float[Tensor, "*settings"]]:
        """The first active feature is drawn from its law, those after it independently."""
        shape = self.feature_probability.shape
        p = self.feature_probability.to(generator.device)
        p = p if p.ndim else p[None]
        some = some_up_to(p)
        first = first_event(some, n, generator)[..., None]
        position = torch.arange(p.shape[-1], device=p.device)
        later = (position > first) & (uniform(torch.Size((n, *p.shape)), generator) < p)
        return ((position == first) | later).reshape(n, *shape), some[..., -1]
