"""Checks of numbers, without torch: configurations are made before it is imported."""

import operator
from typing import Any


def require(condition: bool, argument: str, value: object, allowed: str) -> None:
    """Raise a ValueError that names the argument, its value and what is allowed, unless the condition holds."""
    if not condition:
        raise ValueError(f"{argument} must be {allowed}, got {short(value)}")


def whole(argument: str, value: Any, minimum: int = 1) -> int:
    """Return a whole number of at least `minimum` as an int, else raise a ValueError."""
    allowed = f"a whole number of at least {minimum}"
    require(hasattr(value, "__index__") and not isinstance(value, bool), argument, value, allowed)
    require(operator.index(value) >= minimum, argument, value, allowed)
    return operator.index(value)


def short(value: object) -> str:
    """A value as an error message shows it: on one line, and not too long."""
    text = repr(value.tolist() if hasattr(value, "tolist") else value)
    return text if len(text) <= 200 else f"{text[:197]}..."
