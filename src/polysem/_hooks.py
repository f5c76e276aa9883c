"""Forward hooks that are gone when their block ends, error or not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def replaced_output(model: nn.Module, name: str, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace what a submodule returns, inside a `with` block.

    Args:
        model: the network.
        name: the submodule's name in `model.named_modules()`.
        replace: from the output (the first entry of a tuple) what takes its place.

    Raises:
        ValueError: no submodule of that name.
        TypeError: an output that is neither a tensor nor a tuple that starts with one, when the model runs.

    Example:
        >>> import torch
        >>> from polysem._hooks import replaced_output
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
        >>> with replaced_output(model, "0", torch.neg):
        ...     inside = model(torch.tensor([-2.0, 1.0]))
        >>> inside.tolist(), model(torch.tensor([-2.0, 1.0])).tolist()
        ([2.0, 0.0], [0.0, 1.0])
    """
    modules = dict(model.named_modules())
    if name not in modules:
        names = ", ".join(map(repr, filter(None, modules)))
        raise ValueError(f"name of the submodule must be one of {names}, got {name!r}")

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) and output else output
        if not isinstance(first, Tensor):
            raise TypeError(
                f"output of submodule {name!r} must be a tensor or start with one, got {type(first).__name__}"
            )
        changed = replace(first)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = modules[name].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
