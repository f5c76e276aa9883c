"""Reading figures back."""

import base64

import numpy as np
import torch
from torch import Tensor


def numbers(values: object) -> Tensor:
    """The numbers of a trace, as given or as its JSON carries them, in float64."""
    if isinstance(values, dict):
        flat = np.frombuffer(base64.b64decode(values["bdata"]), dtype=np.dtype(values["dtype"]))
        values = flat.reshape([int(size) for size in str(values.get("shape", flat.size)).split(",")])
    return torch.tensor(np.asarray(values, dtype=np.float64))
