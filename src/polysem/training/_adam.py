"""Adam on a stack of independent objectives, every instance with a rate of its own scale."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from polysem.training._config import FitConfig
from polysem.zoo import Objective

BETAS = (0.9, 0.999)


def adam(
    objective: Objective, theta: Float[Tensor, "n_inst n_parameters"], config: FitConfig
) -> tuple[Float[Tensor, "n_inst n_parameters"], list[Float[Tensor, " n_inst"]]]:
    """Take `config.adam_steps` steps with a rate that falls to 0 along half a cosine.

    Args:
        objective: what to minimise.
        theta: start `[n_inst, n_parameters]`.
        config: number of steps, rate and how often to record.

    Returns:
        The parameters after the last step, and the losses `[n_inst]` before steps 0, `record_every`, ...

    Source: Kingma and Ba 2015, algorithm 1.
    """
    first, second = torch.zeros_like(theta), torch.zeros_like(theta)
    history = []
    for step in range(config.adam_steps):
        if step % config.record_every == 0:
            history.append(objective.loss(theta))
        gradient = objective.gradient(theta)
        first = torch.lerp(gradient, first, BETAS[0])
        second = torch.lerp(gradient.square(), second, BETAS[1])
        size = second.sqrt() / math.sqrt(1 - BETAS[1] ** (step + 1))
        direction = first / (1 - BETAS[0] ** (step + 1)) / size.clamp(min=torch.finfo(size.dtype).tiny)
        rate = config.learning_rate * (1 + math.cos(math.pi * step / config.adam_steps)) / 2
        theta = theta - rate * theta.abs().amax(-1, keepdim=True) * direction
    return theta, history
