"""What commands print."""

from polysem._json import json_text


def print_json(content: object) -> None:
    """Print as JSON, what is no number in JSON as null."""
    print(json_text(content, indent=2, ensure_ascii=False))


def print_table(header: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> None:
    """Print in aligned columns."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = tuple("─" * width for width in widths)
    for row in (header, rule, *rows):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
