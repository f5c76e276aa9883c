"""Where the numbers of a monitor go: trackers of experiments, told by what they can do."""

from typing import Any

from polysem.networks._monitor import Log


def to_tensorboard(writer: Any) -> Log:
    """Write every number of a `CapacityMonitor` as a scalar of TensorBoard.

    Args:
        writer: a `torch.utils.tensorboard.SummaryWriter`, or anything with its `add_scalar(name, value, step)`.

    Returns:
        A `log` for `CapacityMonitor`. Tags are `capacity/decoder.weight/total` and so on.

    Example:
        >>> from polysem.networks import CapacityMonitor
        >>> class Printer:
        ...     def add_scalar(self, name, value, step):
        ...         if name.endswith("total"):
        ...             print(name, value, step)
        >>> import torch
        >>> log = to_tensorboard(Printer())
        >>> with CapacityMonitor(torch.nn.Embedding.from_pretrained(torch.eye(3)), log=log) as monitor:
        ...     pass
        capacity/weight/total 3.0 0

    Source: ours.
    """

    def log(step: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    return log


def to_wandb(run: Any) -> Log:
    """Log every number of a `CapacityMonitor` to a run of Weights & Biases.

    The numbers have a step axis of their own, `capacity/step`, since the run's own counter moves with whatever else is
    logged.

    Args:
        run: what `wandb.init` returns.

    Returns:
        A `log` for `CapacityMonitor`.

    Source: ours.
    """
    run.define_metric("capacity/step", hidden=True)
    run.define_metric("capacity/*", step_metric="capacity/step")

    def log(step: int, numbers: dict[str, float]) -> None:
        run.log({"capacity/step": step, **numbers})

    return log
