"""How a fit ends after Adam: exact losses are polished, all are judged by what can be known."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.special import stdtrit
from torch import Tensor

from polysem.training._config import FitConfig
from polysem.training._lbfgs import lbfgs
from polysem.training._newton import newton
from polysem.training._result import FitStatus
from polysem.training._task import Task
from polysem.zoo import Objective

N_BATCHES = 32
SIGNIFICANCE = 0.01


@dataclass(frozen=True)
class Ending:
    """Final parameters and what is known about them; the other fields as in `Fit`, `n_steps` without Adam's."""

    theta: Float[Tensor, "n_inst n_parameters"]
    loss: Float[Tensor, " n_inst"]
    stderr: Float[Tensor, " n_inst"]
    gradient_norm: Float[Tensor, " n_inst"]
    status: Int[Tensor, " n_inst"]
    n_steps: Int[Tensor, " n_inst"]


def finish(task: Task, theta: Float[Tensor, "n_inst n_parameters"], config: FitConfig) -> Ending:
    """Polish, if the task has an objective for that, and judge.

    Args:
        task: what is fitted.
        theta: where Adam ended.
        config: kind of polish, its steps and tolerance.

    Returns:
        The end.
    """
    if task.objective is not None:
        return _polish(task.objective, theta, config)
    if config.loss == "sampled":
        return _sample(task, theta)
    return _measure(task, theta)


def _polish(objective: Objective, theta: Tensor, config: FitConfig) -> Ending:
    """The end of an exact fit: a minimum, if its Hessian says so."""
    tolerance = config.gradient_tolerance
    if config.polish == "lbfgs":
        end = lbfgs(objective, theta, max_steps=config.lbfgs_steps, tolerance=tolerance)
    else:
        max_steps = config.newton_steps if config.polish == "newton" else 0
        end = newton(objective, theta, max_steps=max_steps, tolerance=tolerance)
    loss = objective.loss(end.theta)
    status = torch.where(end.converged, int(FitStatus.CONVERGED), int(FitStatus.NOT_CONVERGED))
    return Ending(end.theta, loss, torch.zeros_like(loss), end.gradient_norm, status, end.n_steps)


def _measure(task: Task, theta: Tensor) -> Ending:
    """The end of a fit with penalties, whose curvature is not known: the gradient alone says how far it came."""
    loss, none = task.problem.loss(theta), torch.zeros(len(theta), dtype=torch.int64, device=theta.device)
    norm = _relative(task.gradient(theta), theta, loss)
    return Ending(theta, loss, torch.zeros_like(loss), norm, none + int(FitStatus.NOT_CONVERGED), none)


def _sample(task: Task, theta: Tensor) -> Ending:
    """The end of a sampled fit: is the mean gradient over fresh batches within its noise, all entries taken together?

    Each entry is held against Student's t at `SIGNIFICANCE / n_parameters` (Bonferroni).
    """
    losses, gradients = [], []
    for _ in range(N_BATCHES):
        task.problem.renew()
        losses.append(task.problem.loss(theta))
        gradients.append(task.problem.gradient(theta).double())
    loss, gradient = (torch.stack(rows) for rows in (losses, gradients))
    mean = task.with_penalties(theta, gradient.mean(0).to(theta)).double()
    noise = gradient.std(0) / math.sqrt(N_BATCHES)
    limit = float(stdtrit(N_BATCHES - 1, 1 - SIGNIFICANCE / (2 * theta.shape[-1])))
    within = (mean.abs() <= limit * noise).all(-1)
    status = torch.where(within, int(FitStatus.WITHIN_NOISE), int(FitStatus.NOT_CONVERGED))
    value, stderr = loss.mean(0), loss.std(0) / math.sqrt(N_BATCHES)
    return Ending(theta, value, stderr, _relative(mean, theta, value), status, torch.zeros_like(status))


def _relative(gradient: Tensor, theta: Tensor, loss: Tensor) -> Tensor:
    """Largest entry of the gradient times largest parameter, relative to the loss."""
    size = (gradient.abs().amax(-1) * theta.abs().amax(-1)).double()
    return torch.where(size > 0, size / loss, size)
