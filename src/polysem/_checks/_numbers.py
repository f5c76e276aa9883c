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
    try:
        number = operator.index(value)
    except TypeError:
        number = minimum - 1
    require(number >= minimum and not isinstance(value, bool), argument, value, allowed)
    return number


def short(value: object) -> str:
    """A value as an error message shows it: on one line, and not too long."""
    text = " ".join(repr(value.tolist() if hasattr(value, "tolist") else value).split())
    return text if len(text) <= 200 else f"{text[:197]}..."
