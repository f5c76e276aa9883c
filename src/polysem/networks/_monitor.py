"""Capacity trajectories of a network while anyone's code trains it."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
import xarray as xr
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from polysem._checks import require, whole
from polysem.measure import Norm, capacity
from polysem.networks._history import Record, as_dataset, by_name, measured, missing
from polysem.networks._modules import Features
from polysem.networks._watched import Watched, watched

Log = Callable[[int, dict[str, float]], object]
"""What takes the numbers of one measurement: the step, and each number by name."""


class CapacityMonitor:
    """Follows the capacities of a network's features while anyone's code trains it.

    Of every matrix it watches, at the start, at every `every` steps and at the end: `Σ_i C_i`, the same over `D`, the
    plug-in null of random directions with the same norms, the effective rank `(tr M)² / tr M²`, how many features are
    ignored, impure and pure, and quantiles of capacity.

    It never changes training: it reads weights without a graph, on their device, uses no random numbers and touches
    no mode. Weights trained with and without it are equal to the bit. A measurement takes about `2 N D² + 2 D³`
    multiply-adds per matrix, `N² D + 4 N³` in float64 where `2 N ≤ D`, several times the time where float32 does not
    suffice (see `capacity`), and moves `2 N` numbers to the CPU. A training step with `P` parameters on `T` tokens
    takes `3 P T`; so the monitor adds about `2 D / (3 T every)`: 0.3 % at `D = 512`, `T = 1024`, `every = 100`.

    Weights with a NaN or infinity are no reason to stop: their numbers are NaN, their counts 0, and a warning names the
    first bad row.

    Args:
        module: the network that is trained.
        matrices: from parameter name, or pattern (`"layers.*.weight"`; the first that fits decides), to which of its
            units are features: `"rows"` or `"columns"`, as in `ModuleMatrix.rows`; parameters that are no layer's
            weight (`W_dec`) are taken as stored. By default embeddings and rows of linear layers of at most 1e11
            multiply-adds each; a warning names larger ones, which can be named here.
        every: steps from one measurement to the next.
        norm: `"raw"` takes features as they are, `"unit"` divides each by its norm first.
        follow: from parameter name to indices of features whose own capacities are kept.
        optimizer: if given, its steps are counted, and `step` need not be called.
        log: called with the step and the numbers of every measurement (`to_tensorboard`, `to_wandb`).

    Raises:
        TypeError: `module` is not an `nn.Module`.
        ValueError: an argument out of range; a name that the network does not have.

    Example:
        >>> network = nn.Linear(4, 6)
        >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        >>> with CapacityMonitor(network, every=5) as monitor:
        ...     for step in range(12):
        ...         network(torch.eye(4)).square().sum().backward()
        ...         optimizer.step()
        ...         monitor.step()
        >>> monitor.history.step.values.tolist()
        [0, 5, 10, 12]
        >>> dict(monitor.history.total.sizes)
        {'step': 4, 'matrix': 1}

    Source: ours.
    """

    def __init__(
        self,
        module: nn.Module,
        matrices: Mapping[str, Features] | None = None,
        *,
        every: int = 100,
        norm: Norm = "raw",
        follow: Mapping[str, Sequence[int]] | None = None,
        optimizer: Optimizer | None = None,
        log: Log | None = None,
    ) -> None:
        self.every = whole("every", every)
        self.norm = norm
        self.steps = 0
        self._watched = watched(module, matrices)
        capacity(torch.zeros(1, 1), norm=norm)  # names a wrong norm now, not at the first step
        self._followed = _followed(self._watched, follow or {})
        self._optimizer = optimizer
        self._log = log
        self._hook: RemovableHandle | None = None
        self._records: dict[int, Record] = {}

    def __enter__(self) -> "CapacityMonitor":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(measure=error is None)

    def start(self, step: int | None = None) -> None:
        """Begin to watch, and measure.

        Args:
            step: number of steps done so far, where a trainer knows better than this monitor: records from there on
                are dropped, for they belong to a run that was given up. By default counting goes on.
        """
        if step is not None:
            self.steps = whole("step", step, 0)
            self._records = {at: record for at, record in self._records.items() if at < step}
        if self._optimizer is not None and self._hook is None:
            self._hook = self._optimizer.register_step_post_hook(lambda *_: self._advance(self.steps + 1))
        self.measure()

    def step(self, number: int | None = None) -> None:
        """Count a step of the optimizer, and measure where it is due.

        Args:
            number: number of steps done so far, by a trainer's own count; by default one more than before.

        Raises:
            RuntimeError: the optimizer counts already.
            ValueError: `number` is less than what was counted.
        """
        if self._hook is not None:
            raise RuntimeError("the optimizer given to this monitor counts its steps: step() must not be called")
        self._advance(self.steps + 1 if number is None else whole("number", number, self.steps))

    def stop(self, *, measure: bool = True) -> None:
        """Watch no longer, and measure a last time unless that was done at this step."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        if measure and self.steps not in self._records:
            self.measure()

    def measure(self) -> dict[str, float]:
        """Measure now, whether due or not, and return what is logged; a record of the same step is replaced."""
        record = {one.name: self._record(one) for one in self._watched}
        self._records[self.steps] = record
        numbers = by_name(record, self._followed)
        if self._log is not None:
            self._log(self.steps, numbers)
        return numbers

    @property
    def history(self) -> xr.Dataset:
        """What was measured so far.

        Returns:
            A dataset over `step` and `matrix` with `total`, `total_per_dimension`, `null_per_dimension`,
            `effective_rank`, `n_ignored`, `n_impure`, `n_pure`, and `capacity` at each `quantile`; for each matrix the
            coordinates `n_features`, `d_hidden`, `kind` and `features`. With `follow` also `followed_capacity` over
            `step` and `followed`, with the coordinates `followed_matrix` and `followed_feature`.
        """
        return as_dataset(self._records, self._watched, self._followed, {"norm": self.norm, "every": self.every})

    def state_dict(self) -> dict[str, Any]:
        """Steps counted and what was measured, as numbers, strings, lists and dictionaries, for a checkpoint."""
        return {"steps": self.steps, "records": {step: dict(record) for step, record in self._records.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of a monitor of the same matrices.

        Raises:
            ValueError: the state is of other matrices or other followed features.
        """
        mine = {one.name: len(self._followed.get(one.name, ())) for one in self._watched}
        for record in state["records"].values():
            theirs = {name: len(measured["followed"]) for name, measured in record.items()}
            require(theirs == mine, "records", theirs, f"of this monitor's matrices and followed features {mine}")
        self.steps = state["steps"]
        self._records = {step: dict(record) for step, record in state["records"].items()}

    def _advance(self, number: int) -> None:
        due = number // self.every > self.steps // self.every
        self.steps = number
        if due:
            self.measure()

    def _record(self, one: Watched) -> dict[str, Any]:
        indices = self._followed.get(one.name, ())
        try:
            return measured(one, self.norm, indices)
        except ValueError as error:
            warnings.warn(f"{one.name} at step {self.steps}: {error}", RuntimeWarning, stacklevel=2)
            return missing(indices)


def _followed(chosen: list[Watched], follow: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Indices of the features to follow, by the first name of their matrix."""
    first_name = {name: one for one in chosen for name in one.matrix.names}
    result = {}
    for name, indices in follow.items():
        require(name in first_name, "follow", name, f"one of the matrices watched, {', '.join(first_name)}")
        one = first_name[name]
        for index in indices:
            at = whole(f"follow[{name!r}]", index, 0)
            require(at < one.shape[0], f"follow[{name!r}]", index, f"below {one.shape[0]}, its number of features")
        result[one.name] = tuple(indices)
    return result
