"""What gradients and curvatures are relative to, and how far rounding reaches."""

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.zoo import Objective

ROUNDING = 1e-14
"""Relative difference of losses that may be due to rounding alone."""


def largest_entry(H: Float[Tensor, "n_inst n_parameters n_parameters"]) -> Float[Tensor, " n_inst"]:
    """The largest diagonal entry of each matrix, by size."""
    return H.diagonal(dim1=-2, dim2=-1).abs().amax(-1)


def largest_curvature(objective: Objective, theta: Float[Tensor, "n_inst n_parameters"]) -> Float[Tensor, " n_inst"]:
    """The largest diagonal entry of each matrix of second derivatives, by size."""
    return largest_entry(objective.hessian(theta))


def gradient_scale(
    theta: Float[Tensor, "n_inst n_parameters"], curvature: Float[Tensor, " n_inst"], least: Float[Tensor, " n_inst"]
) -> Float[Tensor, " n_inst"]:
    """What gradients are relative to: largest curvature times largest parameter, not less than `least`."""
    return torch.maximum(curvature * theta.abs().amax(-1), least)


def least_scale(
    start: Float[Tensor, "n_inst n_parameters"], curvature: Float[Tensor, " n_inst"]
) -> Float[Tensor, " n_inst"]:
    """The least scale of gradients, from where an instance began and the largest curvature there.

    A minimum of quartic order (no importance at all) has no curvature of its own to compare with.
    """
    return ROUNDING * curvature * start.abs().amax(-1)
