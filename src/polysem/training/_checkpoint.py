"""Checkpoints of a fit under way: one safetensors file, its settings as JSON inside."""

import json
import os
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from polysem.training._adam import Descent
from polysem.training._config import FitConfig
from polysem.training._task import Task

FORMAT = "polysem fit 1"
FREE = ("checkpoint_every",)
"""Settings that do not change what is computed."""
N_PROBES = 8


class Checkpoints:
    """Reads and writes the state of one fit, and refuses that of any other.

    A file holds parameters, moments, step, records and the generator's and penalties' states; beside them, what
    the fit is: settings, kind of model and its start, features and losses on probe inputs, importances and mask.

    Args:
        path: the file; there need not be one yet.
        task: what is fitted, at its start.
        config: settings.

    Raises:
        ValueError: a path that is a directory or in none.
    """

    def __init__(self, path: str | PathLike[str], task: Task, config: FitConfig) -> None:
        self.path = Path(path)
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise ValueError(f"resume must be the path of a file in a directory that exists, got {self.path}")
        model, penalties = task.model, task.penalties
        self._modules = {str(k): penalty for k, penalty in enumerate(penalties) if isinstance(penalty, nn.Module)}
        self._generator, self._device = task.generator, task.start.device
        state = model.state_dict()
        shapes = {name: f"{list(value.shape)} {value.dtype}" for name, value in state.items()}
        self._settings: dict[str, object] = {
            "format": FORMAT,
            "model": f"{type(model).__name__} of {shapes}",
            **{f"config.{name}": value for name, value in asdict(config).items() if name not in FREE},
            "penalties": [getattr(p, "__name__", type(p).__name__) for p in penalties],
        }
        probes = task.features.sample(N_PROBES, generator=torch.Generator().manual_seed(0))
        x = (probes if probes.ndim == 3 else probes[:, None]).to(model.embedding)
        self._identity = {
            "features": probes,
            "mask": task.importance.new_zeros(()).bool() if task.masked is None else task.masked,
            "importance": task.importance,
            **{f"the starting {name} of the model": value.clone() for name, value in state.items()},
            "losses of the model on probe inputs": model.per_sample_loss(x, task.importance),
        }

    def write(self, at: Descent) -> None:
        """Save the state under a temporary name and move it into place."""
        tensors = {f"identity.{name}": value for name, value in self._identity.items()}
        tensors |= {"theta": at.theta, "first": at.first, "second": at.second}
        for name, rows in (("history", at.history), ("capacities", at.capacities)):
            if rows:
                tensors[name] = torch.stack(rows)
        for k, module in self._modules.items():
            tensors |= {f"penalties.{k}.{name}": value for name, value in module.state_dict().items()}
        if self._generator is not None:
            tensors["generator"] = self._generator.get_state()
        metadata = {"settings": json.dumps(self._settings), "step": str(at.step)}
        data = save({name: value.detach().cpu().clone() for name, value in tensors.items()}, metadata)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(data)
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def read(self) -> Descent | None:
        """The saved state, the generator and penalties put into theirs; None if there is no file yet.

        Raises:
            ValueError: not a checkpoint, or that of another fit; the first difference is named.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ValueError(f"resume must be a checkpoint of a fit, got {self.path} ({error})") from error
        self._compare(json.loads(metadata.get("settings", "{}")), tensors)
        if self._generator is not None:
            self._generator.set_state(tensors["generator"])
        for k, module in self._modules.items():
            start = f"penalties.{k}."
            module.load_state_dict({n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)})
        theta, first, second = (tensors[name].to(self._device) for name in ("theta", "first", "second"))
        history, capacities = (
            list(tensors[name].to(self._device)) if name in tensors else [] for name in ("history", "capacities")
        )
        return Descent(theta, first, second, int(metadata["step"]), history, capacities)

    def _compare(self, settings: dict[str, object], tensors: dict[str, Tensor]) -> None:
        for name, given in self._settings.items():
            if settings.get(name) != given:
                self._refuse(f"{name} = {settings.get(name)}, not {given}")
        for name, value in self._identity.items():
            saved, given_value = tensors[f"identity.{name}"], value.detach().cpu()
            # Computed values may differ in the last bits from machine to machine.
            computed = name == "features" or name.startswith("losses")
            same = saved.shape == given_value.shape and (
                torch.allclose(saved, given_value, rtol=1e-5, atol=1e-6 * float(given_value.abs().max()))
                if computed
                else torch.equal(saved, given_value)
            )
            if not same:
                self._refuse(f"other values of {name}")

    def _refuse(self, difference: str) -> None:
        raise ValueError(f"resume must be a checkpoint of this fit, got {self.path}, written with {difference}")
