"""Which layout a dictionary has, and whether its matrices lie as that layout says."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polysem.networks._bytes import WeightFileError
from polysem.networks._sae_layouts import DICTIONARY_LAYOUTS, Config, DictionaryLayout, Shapes


@dataclass(frozen=True)
class Fact:
    """A dimension that is known from elsewhere.

    Attributes:
        source: where from, as a message shows it.
        dimension: `"d_in"`, `"d_out"` or `"d_sae"`.
        value: its value.
    """

    source: str
    dimension: str
    value: int


@dataclass(frozen=True)
class Chosen:
    """A layout, the dimensions that a file has under it, and what they were checked against."""

    layout: DictionaryLayout
    d_in: int
    d_out: int
    d_sae: int
    declared: bool
    checked: tuple[str, ...]


def choose(
    shapes: Shapes,
    others: Collection[str],
    layouts: Sequence[DictionaryLayout],
    configs: Mapping[str, Config],
    facts: Sequence[Fact],
    path: Path,
    *,
    given: bool,
) -> Chosen:
    """The one layout that names, configuration and known dimensions leave, else an error that says what to do."""
    candidates = [layout for layout in layouts if layout.names(shapes, others)]
    if not candidates:
        raise WeightFileError(f"{path}: {_no_layout(shapes, layouts)}")
    declaring = [layout for layout in candidates if layout.declared(configs) is not None]
    if not given:
        by_suffix = [c for c in candidates if not c.suffixes or path.suffix.lower() in c.suffixes]
        candidates = declaring or by_suffix or candidates
    fitting: list[Chosen] = []
    problems: list[str] = []
    for layout in candidates:
        found = _dimensions(shapes, layout, configs, facts)
        if isinstance(found, str):
            problems.append(f"as {layout.name} ({layout.reading}): {found}")
        else:
            fitting.append(found)
    if not fitting:
        raise WeightFileError(
            f"{path}: the matrices do not lie as known dimensions say; {'; '.join(dict.fromkeys(problems))}"
        )
    chosen = fitting[0]
    square = any(rows == columns for rows, columns in (shapes[name] for name in chosen.layout.matrices))
    if not given and not chosen.declared and (square or not chosen.checked):
        raise WeightFileError(f"{path}: {_undecided(shapes, fitting, square)}")
    return chosen


def _dimensions(
    shapes: Shapes, layout: DictionaryLayout, configs: Mapping[str, Config], facts: Sequence[Fact]
) -> Chosen | str:
    """The dimensions under a layout, or what contradicts them."""
    declared = layout.declared(configs)
    d_sae, d_out = _oriented(shapes[layout.decoder.lower()], layout.decoder_latents == "rows")
    d_in = d_out
    if layout.encoder:
        latents, d_in = _oriented(shapes[layout.encoder.lower()], layout.encoder_latents == "rows")
        if latents != d_sae:
            return f"{layout.encoder} has {latents} latents and {layout.decoder} has {d_sae}"
    if layout.config and declared:
        name = layout.config[0]
        written = [(key, key) for key in declared]
        if not _other_space(configs[name]):
            written.append(("d_in", "d_out"))
        facts = [*facts, *(Fact(f"{key} = {declared[key]} in {name}", dim, declared[key]) for key, dim in written)]
    values = {"d_in": d_in, "d_out": d_out, "d_sae": d_sae}
    wrong = [fact for fact in facts if values[fact.dimension] != fact.value]
    if wrong:
        return ", ".join(f"{fact.dimension} would be {values[fact.dimension]}, but {fact.source}" for fact in wrong)
    return Chosen(layout, d_in, d_out, d_sae, declared is not None, tuple(dict.fromkeys(f.source for f in facts)))


def _other_space(config: Config) -> bool:
    return bool(config.get("transcode")) or "d_out" in config


def _oriented(shape: tuple[int, int], rows: bool) -> tuple[int, int]:
    """`(latents, length)` of a matrix."""
    return shape if rows else (shape[1], shape[0])


def _undecided(shapes: Shapes, fitting: Sequence[Chosen], square: bool) -> str:
    """The possible readings, and how to choose."""
    names = fitting[0].layout.matrices
    stored = ", ".join(f"{name} {shapes[name][0]} × {shapes[name][1]}" for name in names)
    readings = {
        c.layout.reading: f"{c.layout.reading} (layout={c.layout.name!r}, d_in={c.d_in})" for c in reversed(fitting)
    }
    if square:
        cause = f"a matrix is square ({stored}), so that its shape cannot tell rows from columns"
        choices = " or ".join(readings.values())
        if len(readings) == 1:
            choices += ", or the other way round (a DictionaryLayout of your own)"
        return f"{cause}: {choices}? Say which with layout="
    chosen = fitting[0]
    if len(readings) > 1:
        choices = " or ".join(readings.values())
    else:
        choices = f"{chosen.layout.reading} (d_in={chosen.d_in}), or the other way round (d_in={chosen.d_sae})"
    return f"nothing tells which way the matrices lie ({stored}; no bias, no configuration): {choices}? Say d_in="


def _no_layout(shapes: Shapes, layouts: Sequence[DictionaryLayout]) -> str:
    if layouts is not DICTIONARY_LAYOUTS and len({layout.name for layout in layouts}) == 1:
        wanted = " or ".join(" and ".join(n for n in (c.encoder, c.decoder) if n) for c in layouts)
        return f"no matrices {wanted}, which layout {layouts[0].name!r} has; there are {_some(shapes)}"
    return f"no known layout of a dictionary; its matrices are {_some(shapes)}"


def _some(shapes: Shapes) -> str:
    names = list(shapes)
    return (", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")) or "none"
