"""Minima of an exact loss at given capacities, by an augmented Lagrangian with Newton steps inside."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from polysem.training import Restricted, newton
from polysem.zoo import AutoencoderObjective, Objective

ROUNDS = 60
"""Most updates of the multipliers."""
STEPS = 20
"""Most Newton steps between two of them."""
STATIONARY = 1e-11
"""Relative gradient that counts as stationary, as in `FitConfig.gradient_tolerance`."""
SLOW = 0.1
"""A round that leaves more than this share of the violation makes the penalty heavier."""
HEAVIER, HEAVIEST = 10.0, 1e4
"""By which factor, and up to which multiple of the first penalty, the loss without any embedding."""


@dataclass(frozen=True)
class CapacityTerms:
    r"""What an augmented Lagrangian adds for the capacity of each readout.

        φ_j = λ_j m_j + ρ_j m_j² / 2        m_j = C_j - c_j,   C_j = G_jj² / Σ_k G_jk²

    It has the methods of an autoencoder's losses of outputs, which do not depend on `b` here.

    Attributes:
        target: `c`.
        multiplier: `λ`, so that `dL/dC = -λ` at a minimum.
        penalty: `ρ`.

    Source: ours.
    """

    target: Float[Tensor, "n_inst n"]
    multiplier: Float[Tensor, "n_inst n"]
    penalty: Float[Tensor, "n_inst n"]

    def value(self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]) -> Float[Tensor, "n_inst n"]:
        """`φ_j`."""
        miss = _parts(G)[0] - self.target
        return self.multiplier * miss + self.penalty * miss.square() / 2

    def gradient(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n n_coefficients"]:
        """`(λ_j + ρ_j m_j) ∂C_j`, and 0 for `b`."""
        C, slope, _ = _parts(G)
        return functional.pad(self._push(C)[..., None] * slope, (0, 1))

    def derivatives(
        self, G: Float[Tensor, "n_inst n n"], b: Float[Tensor, "n_inst n"]
    ) -> tuple[Float[Tensor, "n_inst n n_coefficients"], Float[Tensor, "n_inst n n_coefficients n_coefficients"]]:
        """`∂φ_j`, and `(λ_j + ρ_j m_j) ∂²C_j + ρ_j ∂C_j ∂C_jᵀ`; with `s = Σ_k G_jk²` and `g = G_j·`.

        ∂²C_j = (2/s)(e_j e_jᵀ - C_j 1 - g ∂C_jᵀ - ∂C_j gᵀ)
        """
        C, slope, twice = _parts(G)
        eye = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
        mixed = G[..., :, None] * slope[..., None, :]
        bend = eye[:, :, None] * eye[:, None, :] - C[..., None, None] * eye - mixed - mixed.mT
        push, weight = (self._push(C) * twice)[..., None, None], self.penalty[..., None, None]
        curved = push * bend + weight * slope[..., :, None] * slope[..., None, :]
        return self.gradient(G, b), functional.pad(curved, (0, 1, 0, 1))

    def select(self, instances: Int[Tensor, " n_selected"]) -> "CapacityTerms":
        """The terms of the chosen instances alone."""
        return CapacityTerms(self.target[instances], self.multiplier[instances], self.penalty[instances])

    def _push(self, C: Tensor) -> Tensor:
        return self.multiplier + self.penalty * (C - self.target)


@dataclass(frozen=True)
class Augmented:
    """An exact loss and, added to it, terms of the capacities.

    Attributes:
        exact: the loss.
        capacities: the terms, as an objective over rows, readouts unless tied, and biases.
    """

    exact: Objective
    capacities: AutoencoderObjective

    def loss(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, " n_inst"]:
        """The sum."""
        return self.exact.loss(theta) + self.capacities.loss(_padded(self.capacities, theta))

    def gradient(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters"]:
        """Gradient of the sum."""
        n = theta.shape[-1]
        return self.exact.gradient(theta) + self.capacities.gradient(_padded(self.capacities, theta))[:, :n]

    def hessian(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n_parameters n_parameters"]:
        """Second derivatives of the sum."""
        n = theta.shape[-1]
        return self.exact.hessian(theta) + self.capacities.hessian(_padded(self.capacities, theta))[:, :n, :n]

    def select(self, instances: Int[Tensor, " n_selected"]) -> "Augmented":
        """The sums of the chosen instances alone."""
        return Augmented(self.exact.select(instances), self.capacities.select(instances))

    def pack(self, state: dict[str, Tensor]) -> Float[Tensor, "n_inst n_parameters"]:
        """The loss's."""
        return self.exact.pack(state)

    def unpack(self, theta: Float[Tensor, "n_inst n_parameters"]) -> dict[str, Tensor]:
        """The loss's."""
        return self.exact.unpack(theta)


@dataclass(frozen=True)
class Constrained:
    """An exact loss to minimise at prescribed capacities.

    Attributes:
        exact: the loss, over rows, readouts unless tied, and biases if there are any.
        target: prescribed capacities `c`.
        bound: which of them are constraints; the others hold by how parameters are restricted.
        free: 1 for parameters that may move, 0 for those that stay 0.
        d_hidden: dimension of the rows.
        tied: whether rows also read.
    """

    exact: Objective
    target: Float[Tensor, "n_inst n"]
    bound: Bool[Tensor, "n_inst n"]
    free: Float[Tensor, "n_inst n_parameters"]
    d_hidden: int
    tied: bool

    def lagrangian(
        self, multiplier: Float[Tensor, "n_inst n"], penalty: Float[Tensor, "n_inst n"] | None = None
    ) -> Restricted:
        """`L + Σ_j λ_j (C_j - c_j)`, augmented where there is a penalty."""
        return Restricted(Augmented(self.exact, self._terms(multiplier, penalty)), self.free)

    def slopes(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n n_parameters"]:
        """`∂C_j/∂θ` of the constraints, 0 for other features."""
        one_by_one = torch.eye(self.target.shape[-1], dtype=theta.dtype, device=theta.device)
        terms = [self._terms(one.expand_as(self.target)) for one in one_by_one]
        n = theta.shape[-1]
        return torch.stack([term.gradient(_padded(term, theta))[:, :n] * self.free for term in terms], 1)

    def bend(
        self, theta: Float[Tensor, "n_inst n_parameters"], weight: Float[Tensor, "n_inst n"]
    ) -> Float[Tensor, "n_inst n_parameters n_parameters"]:
        """`Σ_j weight_j ∂²C_j/∂θ²` over the constraints."""
        terms, n = self._terms(weight), theta.shape[-1]
        return terms.hessian(_padded(terms, theta))[:, :n, :n] * self.free[:, None] * self.free[..., None]

    def capacity(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, "n_inst n"]:
        """`C` of every feature."""
        n = self.target.shape[-1]
        rows = theta[:, : (1 if self.tied else 2) * n * self.d_hidden].reshape(len(theta), -1, n, self.d_hidden)
        return _parts(rows[:, -1] @ rows[:, 0].mT)[0]

    def violation(self, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, " n_inst"]:
        """Largest `|C_j - c_j|`."""
        return (self.capacity(theta) - self.target).abs().amax(-1)

    def select(self, instances: Int[Tensor, " n_selected"]) -> "Constrained":
        """The chosen instances alone."""
        exact, target, bound = self.exact.select(instances), self.target[instances], self.bound[instances]
        return Constrained(exact, target, bound, self.free[instances], self.d_hidden, self.tied)

    def _terms(self, multiplier: Tensor, penalty: Tensor | None = None) -> AutoencoderObjective:
        penalty = torch.zeros_like(multiplier) if penalty is None else penalty
        terms = CapacityTerms(self.target, multiplier * self.bound, penalty * self.bound)
        return AutoencoderObjective(terms, torch.ones_like(self.target), self.d_hidden, self.tied)


@dataclass(frozen=True)
class Ended:
    """Where the augmented Lagrangian ended.

    Attributes:
        theta: parameters.
        multiplier: `λ`, 0 where no constraint is.
        reached: whether capacities are within tolerance, at a minimum of the augmented Lagrangian.
    """

    theta: Float[Tensor, "n_inst n_parameters"]
    multiplier: Float[Tensor, "n_inst n"]
    reached: Bool[Tensor, " n_inst"]


def minimise(problem: Constrained, theta: Float[Tensor, "n_inst n_parameters"], tolerance: float) -> Ended:
    """Minimise every instance at its prescribed capacities, from anywhere.

    Multipliers move by `ρ m` after each minimisation, and `ρ` grows where that did not help enough. Instances that
    have arrived leave the stack.

    Args:
        problem: what to minimise.
        theta: where to begin.
        tolerance: largest violation of an instance that has arrived.

    Returns:
        End points.

    Source: Hestenes 1969; Powell 1969; penalties after Nocedal and Wright 2006, chapter 17.
    """
    theta, multiplier = theta * problem.free, torch.zeros_like(problem.target)
    first = problem.exact.loss(torch.zeros_like(theta))
    first = torch.where(first > 0, first, 1.0)[:, None].expand_as(multiplier)
    penalty, before = first.clone(), torch.full_like(theta[:, 0], torch.inf)
    reached = torch.zeros_like(before, dtype=torch.bool)
    for _ in range(ROUNDS):
        where = (~reached).nonzero()[:, 0]
        if not len(where):
            break
        part = problem.select(where)
        end = newton(
            part.lagrangian(multiplier[where], penalty[where]), theta[where], max_steps=STEPS, tolerance=STATIONARY
        )
        theta[where] = end.theta
        miss = (part.capacity(end.theta) - part.target) * part.bound
        multiplier[where] += penalty[where] * miss
        violation = part.violation(end.theta)
        slow = (violation > SLOW * before[where])[:, None]
        penalty[where] = torch.where(slow, HEAVIER * penalty[where], penalty[where]).minimum(HEAVIEST * first[where])
        before[where] = violation
        reached[where] = end.converged & (violation <= tolerance)
    return Ended(theta * problem.free, multiplier, reached)


def _padded(terms: AutoencoderObjective, theta: Tensor) -> Tensor:
    """Parameters with biases of 0, where the loss has none of its own."""
    n = terms.importance.shape[-1]
    n_rows = (1 if terms.tied else 2) * n * terms.d_hidden
    return theta if theta.shape[-1] > n_rows else functional.pad(theta, (0, n))


def _parts(G: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`C_j`, its derivatives by the coefficients of readout j, and `2 / s`; 0 for a readout that sees nothing."""
    s, own = G.square().sum(-1), G.diagonal(dim1=-2, dim2=-1)
    twice = torch.where(s > 0, 2 / torch.where(s > 0, s, 1.0), 0.0)
    C = own.square() * twice / 2
    return C, twice[..., None] * (torch.diag_embed(own) - C[..., None] * G), twice
