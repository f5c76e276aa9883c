"""Weights of a small transformer whose tokens are waves."""

import math

import torch
from torch import Tensor


def made_addition(modulus: int, d: int = 12, frequencies: tuple[int, ...] = (1, 3)) -> dict[str, Tensor]:
    """Random weights, but for tokens that are waves of some frequencies in directions of their own."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / math.sqrt(d)

    angle = 2 * math.pi * torch.outer(torch.arange(modulus), torch.tensor(frequencies)) / modulus
    waves = torch.stack([angle.cos(), angle.sin()], -1).flatten(1)
    directions, _ = torch.linalg.qr(drawn(d, waves.shape[1]))
    heads = {f"blocks.0.attn.W_{name}": drawn(2, d, 4) for name in "QKV"}
    return {
        "tok_embed.weight": torch.cat([waves @ directions.mT, drawn(1, d)]),
        "pos_embed.weight": drawn(3, d),
        **heads,
        "blocks.0.attn.W_O": drawn(2, 4, d),
        "blocks.0.mlp.W_in.weight": drawn(20, d),
        "blocks.0.mlp.W_in.bias": drawn(20),
        "blocks.0.mlp.W_out.weight": drawn(d, 20),
        "blocks.0.mlp.W_out.bias": drawn(d),
        "unembed.weight": drawn(modulus + 1, d),
    }
