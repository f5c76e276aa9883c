"""What commands print."""

import json
import math


def print_json(content: object) -> None:
    """Print as JSON, what is no number in JSON as null."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(inner) for inner in value]
        # JSON has no NaN, which the efficiency of a matrix of rank 0 is, and no infinity.
        return None if isinstance(value, float) and not math.isfinite(value) else value

    print(json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False))


def print_table(header: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> None:
    """Print in aligned columns."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = tuple("─" * width for width in widths)
    for row in (header, rule, *rows):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
