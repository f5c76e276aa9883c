"""Fitting a stack of toy models to the minimum of its expected loss."""

from collections.abc import Callable, Sequence
from os import PathLike

import torch

from polysem.features import SparseFeatures
from polysem.training._adam import Descent, adam
from polysem.training._checkpoint import Checkpoints
from polysem.training._config import FitConfig
from polysem.training._ending import finish
from polysem.training._problem import Penalty
from polysem.training._result import Fit
from polysem.training._task import Task
from polysem.zoo import ToyModel


@torch.no_grad()
def fit(
    model: ToyModel,
    features: SparseFeatures,
    importance: object,
    config: FitConfig = FitConfig(),
    *,
    penalties: Sequence[Penalty] = (),
    mask: object = None,
    generator: torch.Generator | None = None,
    resume: str | PathLike[str] | None = None,
    progress: Callable[[int], None] | None = None,
    watch: Callable[[int, ToyModel], None] | None = None,
) -> Fit:
    r"""Minimise the expected loss of every instance, from where the given model stands.

        θ* = argmin_θ E ℓ(x; θ) + Σ penalties(θ)      Adam to a basin, then a polish to its bottom

    Instances are independent: a stack can hold restarts of one problem, or a problem in each instance. Which
    minimum an instance finds depends on its start. Exact losses involve no chance; parameters with a closed-form
    best value (the offset of the quadratic model) take it. Sampled losses are means over fresh batches, drawn given
    that some feature is active and weighted exactly; only Adam works on them. Penalties are added in Adam alone:
    with them nothing is polished either.

    Args:
        model: a stack of toy models; it is left untouched. Computation follows its device.
        features: inputs, of shape `[n_features]` or `[n_inst, n_features]`.
        importance: `[n_features]` or `[n_inst, n_features]`, none negative.
        config: losses, steps and tolerances.
        penalties: callables from the model to `[n_inst]`, differentiable, each called once a step. One that is an
            `nn.Module` may carry a state (a step count, say), which checkpoints keep.
        mask: `[n_features]` or `[n_inst, n_features]`, True for features to remove: they are 0 in every input and
            have no importance, and their embedding rows are set to 0 and stay there.
        generator: source of the batches; needed for sampled losses, and only there.
        resume: path of a checkpoint. A file there must be one of this very fit, which then goes on from it as if
            it had never stopped, to the last bit on a CPU; with none there the fit begins at its start. Either
            way it is replaced every `config.checkpoint_every` steps of Adam, and after the last.
        progress: called after every step of Adam with the number of steps taken. What it raises ends the fit.
        watch: called every `config.record_every` steps of Adam, from the start on, and after the last, with the number
            of steps taken and the model as it is then; the model changes after the call. What it raises ends the fit.

    Returns:
        The fitted copy with losses, status and history.

    Raises:
        ValueError: parameters that are not finite, features without an exact loss, shapes that do not fit, a
            generator missing or given for nothing, a penalty that is not differentiable, a checkpoint of another
            fit (the first difference is named), an exact loss that masking does not reach.
        TypeError: a mask that is not boolean, a generator that is none.

    Example:
        >>> import torch
        >>> from polysem.features import SparseGaussian
        >>> from polysem.training import FitConfig, fit
        >>> from polysem.zoo import QuadraticModel
        >>> start = QuadraticModel(2, 1, n_inst=8, generator=torch.Generator().manual_seed(0))
        >>> features = SparseGaussian.from_kurtosis([20.0, 20.0], standardise=True)
        >>> done = fit(start, features, [1.0, 1.0])
        >>> round(done.loss[done.best].item(), 6), done.share_at_best()
        (3.619048, 1.0)
        >>> sampled = fit(
        ...     start, features, [1.0, 1.0], FitConfig(loss="sampled"), generator=torch.Generator().manual_seed(0)
        ... )
        >>> bool((sampled.model.exact_loss(features, [1.0, 1.0]) < 3.7).all())
        True

    Source: Scherlis et al. 2022, section 2 (the problem); the method is ours.
    """
    task = Task(model, features, importance, config, penalties, mask, generator)
    checkpoints = None if resume is None else Checkpoints(resume, task, config)
    at = checkpoints.read() if checkpoints else None
    at = at or Descent.from_start(task.start)
    while at.step < config.adam_steps:
        task.problem.renew()
        if at.step % config.record_every == 0:
            at.history.append(task.problem.loss(at.theta))
            if config.record_capacities:
                at.capacities.append(task.capacities(at.theta))
            if watch:
                watch(at.step, task.put(at.theta))
        adam(at, task.gradient, config)
        if checkpoints and (at.step % config.checkpoint_every == 0 or at.step == config.adam_steps):
            checkpoints.write(at)
        if progress:
            progress(at.step)
    if watch:
        watch(at.step, task.put(at.theta))
    after_adam = task.problem.loss(at.theta) if config.loss == "exact" else None
    end = finish(task, at.theta, config)
    capacities = None
    if config.record_capacities:
        capacities = torch.stack([*at.capacities, task.capacities(at.theta), task.capacities(end.theta)])
    return Fit(
        model=task.put(end.theta),
        loss=end.loss,
        stderr=end.stderr,
        gradient_norm=end.gradient_norm,
        status=end.status,
        n_steps=config.adam_steps + end.n_steps,
        history=torch.stack([*at.history, end.loss if after_adam is None else after_adam, end.loss]),
        capacities=capacities,
    )
