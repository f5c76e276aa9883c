"""Activations of a network while it runs in whatever way its owner runs it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from polysem import _checks
from polysem._hooks import watched

Positions = int | slice | Sequence[int] | None
Of = Literal["output", "input"]


class Recording(Mapping[str, Tensor]):
    """Activations by name of the submodule, `[n_samples, *positions, d_hidden]`, over all runs so far.

    Attributes:
        left_out: by name, how many rows came after the bound and were not kept.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._kept: dict[str, list[Tensor]] = {name: [] for name in names}
        self.left_out: dict[str, int] = dict.fromkeys(names, 0)

    def __getitem__(self, name: str) -> Tensor:
        """Everything that was recorded of a submodule; KeyError for one that has not run, or is not recorded."""
        kept = self._kept[name]
        if not kept:
            raise KeyError(f"{name}: nothing was recorded, the submodule has not run")
        shapes = {tuple(part.shape[1:]) for part in kept}
        if len(shapes) > 1:
            raise ValueError(
                f"positions of {name!r} must be as many in every run, or flattened (flatten=True), got {sorted(shapes)}"
            )
        kept[:] = [torch.cat(kept)] if len(kept) > 1 else kept
        return kept[0]

    def __iter__(self) -> Iterator[str]:
        """Names of the submodules that have run."""
        return (name for name, kept in self._kept.items() if kept)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        lines = []
        for name, kept in self._kept.items():
            rows = f"{sum(map(len, kept)):,} × {list(kept[0].shape[1:])} {kept[0].dtype}" if kept else "nothing"
            left = f", {self.left_out[name]:,} left out" if self.left_out[name] else ""
            lines.append(f"{name}: {rows}{left}")
        return "\n".join(lines)

    def _add(self, name: str, part: Tensor, dtype: torch.dtype | None, max_rows: int | None) -> None:
        kept = self._kept[name]
        room = len(part) if max_rows is None else max(0, max_rows - sum(map(len, kept)))
        self.left_out[name] += max(0, len(part) - room)
        if room or not kept:
            # A copy: a layer that works in place would write into what was seen before it.
            kept.append(part[:room].detach().to("cpu", dtype, copy=True))


@contextmanager
def record(
    module: nn.Module,
    layers: Sequence[str],
    *,
    of: Of = "output",
    positions: Positions = None,
    flatten: bool = False,
    max_rows: int | None = None,
    dtype: torch.dtype | None = None,
) -> Iterator[Recording]:
    """Keep what submodules return (or are given) while the network runs inside a `with` block, changing nothing.

    The network may run in any way and as often as is wanted; activations are joined over its runs. They are copies on
    the CPU, detached. Hooks are gone when the block ends, error or not; outputs are the same, to the bit, with and
    without.

    Args:
        module: the network.
        layers: names in `module.named_modules()` (of a TransformerLens model: its hook names), or patterns with `*`
            (dots too), `?` and `[...]` that match some; "" is the network itself. Each with activations
            `[n_samples, *positions, d_hidden]`, or first in a tuple. One that runs several times in a pass is recorded
            each time.
        of: "output", or "input": the first argument.
        positions: which to keep of the first axis after the samples: one (its axis is gone), a slice, or several.
        flatten: take every position as a sample of its own, `[n_samples · n_positions, d_hidden]`.
        max_rows: keep at most so many rows (samples; positions where they are flattened) of each submodule, the first
            ones; the rest is only counted (`Recording.left_out`).
        dtype: of the copies; by default that of the network.

    Yields:
        A `Recording`: a mapping from names to activations, which stays when the block ends.

    Raises:
        ValueError: a name or a pattern without a submodule, a bound below 1, another `of`; when the network runs:
            activations without an axis for samples and one for dimensions, or without that of the positions.
        TypeError: something that is no module, one string instead of several; no tensor where one is recorded.

    Example:
        >>> import torch
        >>> from polysem.networks import record
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
        >>> with record(model, ["0", "1"], max_rows=6) as seen:
        ...     for _ in range(2):
        ...         _ = model(torch.ones(4, 4))
        >>> seen
        0: 6 × [3] torch.float32, 2 left out
        1: 6 × [3] torch.float32, 2 left out
        >>> bool((seen["1"] == seen["0"].relu()).all())
        True

    Source: ours.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if isinstance(layers, str):
        raise TypeError(f"layers must be several names, got one string {layers!r}")
    _checks.require(of in get_args(Of), "of", of, " or ".join(map(repr, get_args(Of))))
    if max_rows is not None:
        _checks.whole("max_rows", max_rows)
    names = _matching(module, layers)
    seen = Recording(names)

    def look(name: str, value: Tensor) -> None:
        _checks.require(
            value.ndim >= 2, f"shape of {of} of {name!r}", tuple(value.shape), "[n_samples, *positions, d_hidden]"
        )
        if positions is not None:
            allowed = "[n_samples, *positions, d_hidden] with at least one axis of positions"
            _checks.require(value.ndim >= 3, f"shape of {of} of {name!r}", tuple(value.shape), allowed)
            value = value[:, positions if isinstance(positions, int | slice) else list(positions)]
        seen._add(name, value.flatten(0, -2) if flatten else value, dtype, max_rows)

    with ExitStack() as hooks:
        for name in names:
            hooks.enter_context(watched(module, name, partial(look, name), of=of))
        yield seen


def _matching(module: nn.Module, layers: Sequence[str]) -> list[str]:
    """Names as given, patterns replaced by what they match, each once."""
    known = [name for name, _ in module.named_modules()]
    found: dict[str, None] = {}
    for layer in layers:
        matching = [layer] if layer in known else [name for name in known if name and fnmatchcase(name, layer)]
        if not matching:
            names = ", ".join(map(repr, filter(None, known)))
            raise ValueError(f"layers must be names of submodules, {names}, or match some, got {layer!r}")
        found.update(dict.fromkeys(matching))
    _checks.require(len(found) > 0, "layers", layers, "at least one name")
    return list(found)
