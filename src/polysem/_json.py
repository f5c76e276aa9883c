"""JSON for other programs, which has no NaN and no infinity."""

import json
import math
from typing import Any


def json_text(content: object, **settings: Any) -> str:
    """As JSON, with null for NaN and infinities: for one, the efficiency of a matrix of rank 0.

    Args:
        content: dictionaries, lists, tuples, text, numbers, booleans and None.
        settings: of `json.dumps`.

    Returns:
        The text.

    Example:
        >>> json_text({"efficiency": float("nan"), "total": (1.5, 2)})
        '{"efficiency": null, "total": [1.5, 2]}'

    Source: ours.
    """
    try:
        return json.dumps(content, allow_nan=False, **settings)
    except ValueError:
        return json.dumps(_plain(content), allow_nan=False, **settings)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
