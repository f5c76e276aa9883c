"""A monitor driven by the trainer of transformers. Imported when first used: transformers is optional."""

from typing import Any

from polysem.networks._monitor import CapacityMonitor

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('TransformersCallback needs transformers: pip install "polysem[training]"') from error


class TransformersCallback(TrainerCallback):
    """Lets a `transformers.Trainer` drive a `CapacityMonitor`: steps are `state.global_step`.

    Training that is resumed from a checkpoint counts on from there. The history of a new monitor begins there too,
    unless it was given what came before (`CapacityMonitor.load_state_dict`). Only the first of several processes
    measures; every one of them has to hold the whole weights.

    Args:
        monitor: of the model that is trained, or of a part of it; without an `optimizer`.

    Example:
        >>> import torch
        >>> from polysem.networks import CapacityMonitor
        >>> monitor = CapacityMonitor(torch.nn.Linear(4, 6), every=50)
        >>> TransformersCallback(monitor).monitor is monitor  # Trainer(..., callbacks=[TransformersCallback(monitor)])
        True

    Source: ours.
    """

    def __init__(self, monitor: CapacityMonitor) -> None:
        self.monitor = monitor

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure where training begins."""
        if state.is_world_process_zero:
            self.monitor.start(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure where due."""
        if state.is_world_process_zero:
            self.monitor.step(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure a last time."""
        if state.is_world_process_zero:
            self.monitor.stop()
