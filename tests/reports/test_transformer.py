"""The chapter on transformers says what the numbers say, whichever way they come out."""

from dataclasses import replace

import numpy as np
import pytest

from made_transformers import made_transformers
from polysem.reports._transformer import summary, written
from polysem.studies import TransformerConfig, Transformers

CONFIG = TransformerConfig(starts=4)


@pytest.fixture(scope="module")
def result() -> Transformers:
    return made_transformers()


def text(result: Transformers) -> str:
    chapter = written("Title", CONFIG, result)
    return " ".join((*chapter.text, *chapter.parts[0].text))


def test_only_differences_beyond_the_intervals_count(result: Transformers) -> None:
    assert "Loss: SoLU × 3.00 beyond the intervals, GELU × 1.00, bilinear × 1.00 within them." in text(result)
    same = replace(result, loss=result.loss * np.array([1, 1, 1 / 3, 1])[:, None])
    assert "Loss: none beyond the intervals, GELU × " in text(same)
    assert "may be chance" not in text(result)
    assert "may be chance" in text(made_transformers(n_starts=1))


def test_solu_stage_by_stage(result: Transformers) -> None:
    assert "4.0 features per neuron before the activation, 2.0 after it, 5.0 after the layer norm" in text(result)
    assert "Its softmax makes neurons answer to fewer features, its layer norm to more again." in text(result)
    other = result.per_neuron.copy()
    other[2] = np.array([2.0, 4.0, 3.0])[:, None, None]
    assert "Its softmax does not make neurons answer to fewer, nor does its layer norm" in text(
        replace(result, per_neuron=other)
    )


def test_returns_are_counted(result: Transformers) -> None:
    assert "Returns are equal in 0, unequal in 80 and undecided in 0 of 80 cases" in text(result)
    flat = replace(result, price=np.where(result.kind == 1, -1.0, 0.0), price_stderr=0 * result.price)
    assert "Returns are equal in 80, unequal in 0 and undecided in 0 of 80 cases" in text(flat)
    assert "benefit with" not in text(flat)
    ranks = result.correlations["capacity with importance"]
    assert f"capacity with importance {ranks.mean():.3g} ± " in text(result)


def test_tables(result: Transformers) -> None:
    chapter = written("Title", CONFIG, result)
    (means,), (returns,) = chapter.tables, chapter.parts[0].tables
    for table in (means, returns):
        assert [row[0] for row in table.rows] == ["ReLU", "GELU", "SoLU", "bilinear"]
        assert {len(row) for row in table.rows} == {len(table.header)}
    assert means.rows[2][1].startswith(f"{result.loss[2].mean():.3g} ± ")
    assert means.rows[2][6:] == ("4 ± 0", "2 ± 0", "5 ± 0")
    assert all(cell.startswith("4 of 4 (") for row in returns.rows for cell in row[1:])
    assert returns.header[1:] == tuple(place.removeprefix("blocks.") for place in result.places[:5])


def test_failures_are_told(result: Transformers) -> None:
    loss = result.loss.copy()
    loss[1, 2] = np.nan
    found = text(replace(result, loss=loss, n_failed=1))
    assert "1 of 16 networks have no result" in found
    assert "of 75 cases" in found
    assert "no result" not in text(result)


def test_summary(result: Transformers) -> None:
    lines = {label: (measured, goal) for label, measured, goal in summary(result)}
    assert list(lines) == [
        "Transformer: loss",
        "Transformer: polysemanticity of the stream",
        "Transformer: features per neuron",
    ]
    measured, goal = lines["Transformer: loss"]
    assert f"SoLU {result.loss[2].mean():.2g}" in measured
    assert goal == "best monosemantic stream: 0.4"
