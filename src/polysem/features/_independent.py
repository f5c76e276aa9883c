"""Sparse features that are independent of each other."""

from abc import abstractmethod
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from polysem import _checks
from polysem.features._sparse import SparseFeatures, first_event, some_up_to, uniform

PER_PART = 4
"""Nodes of a Gauss-Legendre rule, of which several are strung together."""

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

    def active_nodes(self, n: int) -> tuple[Float[Tensor, "n ..."], Float[Tensor, " n"]]:
        """Values of an active feature, with weights, that stand for its law in expectations.

            E[f(x_i) | i active] ≈ Σ_k weight_k f(x_ki)

        Gauss-Legendre nodes, four on each of `n / 4` equal parts of the slab's quantiles, scaled so that mean and
        variance are exact.

        Args:
            n: number of nodes, a multiple of 4.

        Returns:
            Values `[n, *shape]`, increasing, and weights `[n]` that sum to 1, float64.

        Raises:
            ValueError: `n` no multiple of 4, or below 4.

        Example:
            >>> from polysem.features import SparseUniform
            >>> x, weight = SparseUniform([0.1]).active_nodes(4)
            >>> [round(float(weight @ x[:, 0] ** k), 12) for k in (1, 2, 3)]
            [0.5, 0.333333333333, 0.25]

        Source: Gauss-Legendre quadrature.
        """
        n = _checks.whole("n", n, minimum=PER_PART)
        _checks.require(n % PER_PART == 0, "n", n, f"a multiple of {PER_PART}")
        n_parts = n // PER_PART
        nodes, weights = (
            torch.from_numpy(part).to(self._p.device) for part in np.polynomial.legendre.leggauss(PER_PART)
        )
        part = torch.arange(n_parts, dtype=nodes.dtype, device=nodes.device)[:, None]
        weights = (weights / (2 * n_parts)).repeat(n_parts)
        z = self._slab_quantile(((part + (nodes + 1) / 2) / n_parts).flatten())
        _, second, _, _ = self.slab_moments
        z = z * (second / (weights * z.square()).sum()).sqrt()
        return self._finish(z.reshape(-1, *[1] * self._p.ndim).expand(-1, *self._p.shape)), weights

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
