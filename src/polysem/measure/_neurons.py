"""Polysemanticity of neurons, beside the capacity of features."""

import torch
from jaxtyping import Float
from torch import Tensor

from polysem._checks import matrix


def features_per_neuron(weights: Float[Tensor, "*batch n_features n_neurons"]) -> Float[Tensor, "*batch n_neurons"]:
    r"""How many features each neuron answers to, as an effective number.

        n_k = (Σ_i a_ik²)² / Σ_i a_ik⁴

    the participation ratio of neuron k's squared weights (or other contrasts) over features: 1 for a monosemantic
    neuron, n for one that answers to n features equally, 0 for a dead one. Unlike capacity it depends on the basis of
    the hidden space, so it means something only where neurons are a privileged one. It does not depend on the scale
    of a neuron, but on those of features: rows must carry their feature's activation scale. Differentiable; the
    gradient of a dead neuron is zero.

    Args:
        weights: how strongly feature i drives neuron k, **features as rows**, such as the input weights of a hidden
            layer. float16 and bfloat16 are computed in float32.

    Returns:
        Effective numbers `[*batch, n_neurons]` in {0} or [1, n_features], dtype at least float32.

    Raises:
        TypeError: `weights` are not a real floating-point tensor.
        ValueError: `weights` have fewer than two axes or a NaN or infinity (the first bad row is named).

    Example:
        A monosemantic neuron, one shared by two features, and one by two of which one is fainter:

        >>> weights = torch.tensor([[1.0, 1.0, 1.0], [0.0, -1.0, 0.5]])
        >>> [round(n, 3) for n in features_per_neuron(weights).tolist()]
        [1.0, 2.0, 1.471]

    Source: ours; the participation ratio of polysemantic neurons.
    """
    rows = matrix("weights", weights)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if not rows.shape[-2]:
        return rows.new_zeros(*rows.shape[:-2], rows.shape[-1])
    largest = rows.detach().abs().amax(-2, keepdim=True)
    squares = (rows / torch.where(largest > 0, largest, 1)).square()
    fourth = squares.square().sum(-2)
    return squares.sum(-2).square() / torch.where(fourth > 0, fourth, 1)
