"""Forward hooks that are gone when their block ends, error or not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

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

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        changed = replace(_tensor(name, "output", output))
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = _submodule(model, name).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def watched(
    model: nn.Module, name: str, look: Callable[[Tensor], None], *, of: Literal["output", "input"] = "output"
) -> Iterator[None]:
    """Show what a submodule returns or is given, and change nothing, inside a `with` block.

    Args:
        model: the network.
        name: the submodule's name in `model.named_modules()`.
        look: is called with the output (the first entry of a tuple) or the input (the first argument, else the first
            keyword's) of every run.
        of: which of both.

    Raises:
        ValueError: no submodule of that name.
        TypeError: no tensor there, when the model runs.

    Example:
        >>> import torch
        >>> from polysem._hooks import watched
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
        >>> with watched(model, "1", lambda h: print(h.tolist()), of="input"):
        ...     model(torch.tensor([-2.0, 1.0])).tolist()
        [-2.0, 1.0]
        [0.0, 1.0]
    """

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        look(_tensor(name, of, output))

    def before(module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        look(_tensor(name, of, next(iter((*inputs, *keywords.values())), None)))

    module = _submodule(model, name)
    handle = (
        module.register_forward_hook(after)
        if of == "output"
        else module.register_forward_pre_hook(before, with_kwargs=True)
    )
    try:
        yield
    finally:
        handle.remove()


def _submodule(model: nn.Module, name: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if name not in modules:
        names = ", ".join(map(repr, filter(None, modules)))
        raise ValueError(f"name of the submodule must be one of {names}, got {name!r}")
    return modules[name]


def _tensor(name: str, kind: str, value: Any) -> Tensor:
    first = value[0] if isinstance(value, tuple) and value else value
    if not isinstance(first, Tensor):
        raise TypeError(f"{kind} of submodule {name!r} must be a tensor or start with one, got {type(first).__name__}")
    return first
