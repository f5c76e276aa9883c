"""A monitor driven by Lightning. Imported when first used: Lightning is optional."""

from typing import Any

from polysem.networks._monitor import CapacityMonitor

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('LightningCallback needs lightning: pip install "polysem[training]"') from error


class LightningCallback(Callback):
    """Lets a `lightning.pytorch.Trainer` drive a `CapacityMonitor`: steps are `trainer.global_step`.

    History is part of the trainer's checkpoints and goes on from the one that training is resumed from. Only the first
    of several processes measures; every one of them has to hold the whole weights.

    Args:
        monitor: of the module that is trained, or of a part of it; without an `optimizer`.

    Example:
        >>> import torch
        >>> from polysem.networks import CapacityMonitor
        >>> monitor = CapacityMonitor(torch.nn.Linear(4, 6), every=50)
        >>> LightningCallback(monitor).monitor is monitor  # Trainer(callbacks=[LightningCallback(monitor)])
        True

    Source: ours.
    """

    def __init__(self, monitor: CapacityMonitor) -> None:
        self.monitor = monitor

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure where training begins."""
        if trainer.is_global_zero:
            self.monitor.start(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure where due; several batches may make one step."""
        if trainer.is_global_zero:
            self.monitor.step(trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure a last time."""
        if trainer.is_global_zero:
            self.monitor.stop()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the monitor."""
        return self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.monitor.load_state_dict(state_dict)
