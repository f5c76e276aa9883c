"""Small dictionaries for figures and pages."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def saved_dictionary(folder: Path, name: str, decoder: Tensor, encoder: Tensor | None = None) -> Path:
    """A dictionary as Gemma Scope stores it; without an encoder given, that is the decoder's transpose."""
    path = folder / f"{name}.npz"
    encoder = decoder if encoder is None else encoder
    b_dec = torch.arange(decoder.shape[1], dtype=torch.float64).numpy()
    b_enc = np.zeros(len(decoder))
    np.savez(path, W_enc=encoder.T.numpy(), W_dec=decoder.numpy(), b_enc=b_enc, b_dec=b_dec)
    return path


def gaussian(seed: int, n: int = 40, d: int = 8) -> Tensor:
    """Gaussian rows in float64."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
