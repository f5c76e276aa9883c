import numpy as np
import pytest
from numpy.testing import assert_allclose

from polysem.measure import FeatureClass
from polysem.plots import comparison_figures, family_figures
from polysem.reports._compare import comparison_chapter, comparison_summary
from polysem.studies import ARCHITECTURES, Comparison, over_starts


@pytest.fixture(scope="module")
def result() -> Comparison:
    """Every architecture, at two dimensions, three probabilities and four starts; numbers at random, but for two."""
    rng = np.random.default_rng(0)
    shape = (len(ARCHITECTURES), 2, 3, 4)
    shares = np.moveaxis(rng.dirichlet(np.ones(3), shape), -1, 0)
    loss = rng.uniform(0.2, 0.9, shape)
    loss[4, 1, 2] = [1.2, 1.3, 1.4, 1.5]  # training that did not come to its end
    shares[:, 5] = [
        [[[0.9] * 4, [0.5] * 4, [0.1] * 4]] * 2,
        [[[0.1] * 4, [0.5] * 4, [0.9] * 4]] * 2,
        np.zeros((2, 3, 4)),
    ]
    return Comparison(
        architecture=tuple(ARCHITECTURES),
        d_hidden=(2, 3),
        probability=np.array([1.0, 0.1, 0.01]),
        share=dict(zip(FeatureClass, shares, strict=True)),
        polysemanticity=rng.uniform(size=shape),
        relative_loss=loss,
        monosemantic=np.full(shape, 0.5),
        n_failed=0,
    )


def test_maps_show_means_over_starts(result: Comparison) -> None:
    figures = dict(comparison_figures(result))
    assert list(figures) == [
        f"{name}-{d}" for d in (2, 3) for name in ("represented", "polysemanticity", "loss", "price")
    ]
    trace = figures["represented-3"].data[0]
    assert list(trace.y) == list(ARCHITECTURES)
    assert_allclose(trace.z, 1 - result.share[FeatureClass.IGNORED][:, 1].mean(-1))
    assert_allclose(figures["loss-2"].data[0].z, result.relative_loss[:, 0].mean(-1) / 0.5)


def test_price_shows_the_best_start_of_every_setting(result: Comparison) -> None:
    figure = dict(comparison_figures(result))["price-2"]
    shown = {text: y for trace in figure.data if trace.text for text, y in zip(trace.text, trace.y, strict=True)}
    assert len(shown) == len(ARCHITECTURES) * 3
    for row, name in enumerate(ARCHITECTURES):
        for column, p in enumerate(result.probability):
            assert_allclose(shown[f"{name}, p = {p:.2g}"], result.relative_loss[row, 0, column].min() / 0.5)


def test_every_architecture_of_a_family_has_a_line_of_its_own(result: Comparison) -> None:
    names = result.architecture[:8]
    (_, figure), _ = family_figures(result, names)
    lines = [trace for trace in figure.data if trace.name in names]
    assert [trace.name for trace in lines] == 4 * list(names)
    assert len({trace.line.color for trace in lines}) == len(names)
    first = next(trace for trace in lines if trace.name == names[5])
    assert_allclose(first.y, over_starts(result.represented[5, 0]).mean)


def test_the_chapter_says_what_did_not_happen(result: Comparison) -> None:
    chapter = comparison_chapter("title", result)
    said = " ".join(chapter.text)
    name = result.architecture[4]
    assert f"In 1 of {len(ARCHITECTURES) * 6} settings ({name}) even the best start ends above" in said
    rising = result.architecture[5]
    d = next(text for text in chapter.text if text.startswith("D = 2"))
    assert f" {rising}," not in d
    assert sum(len(part.figures) for part in chapter.parts) == 12
    assert [len(table.rows) for table in chapter.tables] == 2 * [len(ARCHITECTURES)]


def test_the_summary_counts_and_names(result: Comparison) -> None:
    lines = list(comparison_summary(result))
    counts = [int(measured.split()[0]) for label, measured, _ in lines if label.endswith("than at 1")]
    assert counts == [int(result.rises[:, index].sum()) for index in (0, 1)]
    row, column, _ = np.unravel_index(result.relative_loss[:, 0].argmin(), result.relative_loss[:, 0].shape)
    lowest = next(measured for label, measured, _ in lines if "lowest loss" in label)
    assert result.architecture[row] in lowest
    assert f"p = {result.probability[column]:.2g}" in lowest
