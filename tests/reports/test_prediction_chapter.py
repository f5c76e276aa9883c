"""The chapter of predicted capacities: its numbers are those of the result, its words follow them."""

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polysem.plots import prediction_figures, prediction_maps
from polysem.reports._prediction import prediction_chapter, prediction_summary
from polysem.studies import ARCHITECTURES, BASELINES, LINEAR, PATTERNS, SPENT, WHOLE, Prediction, architecture

N, D = 4, 2


@pytest.fixture(scope="module")
def result() -> Prediction:
    """Every architecture at two probabilities; numbers at random, but that the quadratic model is predicted."""
    rng = np.random.default_rng(0)
    shape = (len(ARCHITECTURES), 2)
    C = rng.uniform(size=(*shape, N))
    C *= D / C.sum(-1, keepdims=True)
    predicted = {name: rng.uniform(size=(*shape, 2, N)) for name in (*PATTERNS, *BASELINES)}
    row = list(ARCHITECTURES).index("quadratic")
    for name in PATTERNS:
        predicted[name][row] = C[row][:, None]
    predicted["equal"][:] = D / N
    straight = [architecture(name).activation == "identity" or "tied" not in name for name in ARCHITECTURES]
    straight[row] = False
    kind = np.where(C < 0.05, 0, np.where(C > 0.95, 2, 1))
    return Prediction(
        architecture=tuple(ARCHITECTURES),
        probability=np.array([1.0, 0.1]),
        d_hidden=D,
        linear=np.array(straight),
        capacity=C,
        second=rng.permuted(C, axis=-1),
        kind=kind,
        loss=rng.uniform(0.2, 0.9, shape),
        predicted=predicted,
        predicted_loss={name: rng.uniform(0.2, 0.9, (*shape, 2)) for name in PATTERNS},
    )


def test_every_feature_of_every_setting_is_drawn_once(result: Prediction) -> None:
    figures = dict(prediction_figures(result))
    assert list(figures) == [*PATTERNS, "loss"]
    for name in PATTERNS:
        *traces, diagonal = figures[name].data
        assert [trace.name for trace in traces] == [LINEAR, "quadratic", "tied", "untied"]
        assert list(diagonal.x) == list(diagonal.y) == [0, 1]
        shown = {}
        for trace in traces:
            shown.update(zip(trace.text, zip(trace.x, trace.y, trace.marker.symbol, strict=True), strict=True))
        assert len(shown) == result.capacity.size
        for row, column, feature in np.ndindex(result.capacity.shape):
            text = f"{result.architecture[row]}, p = {result.probability[column]:g}, feature {feature + 1}"
            x, y, symbol = shown[text]
            assert x == result.capacity[row, column, feature]
            assert y == result.predicted[name][row, column, SPENT, feature]
            assert symbol == ("circle", "square")[column]


def test_losses_are_drawn_where_readouts_are_not_linear(result: Prediction) -> None:
    *traces, diagonal = dict(prediction_figures(result))["loss"].data
    rows = ~result.linear
    for trace, name in zip(traces, PATTERNS, strict=True):
        assert_allclose(trace.x, result.loss[rows].ravel())
        assert_allclose(trace.y, result.predicted_loss[name][rows][..., SPENT].ravel())
    assert diagonal.x[1] == max(max(*trace.x, *trace.y) for trace in traces)


def test_maps_hold_the_errors_of_curves_baselines_and_the_second_start(result: Prediction) -> None:
    figures = prediction_maps(result)
    assert [name for name, _ in figures] == ["error-0", "error-1"]
    for column, (_, figure) in enumerate(figures):
        (trace,) = figure.data
        assert list(trace.y) == list(result.architecture)
        errors = [result.error(name)[:, column] for name in (*PATTERNS, *BASELINES)]
        assert_allclose(trace.z, np.stack([*errors, result.noise[:, column]], -1))
        assert list(trace.x)[3:] == ["equal split", "quadratic", "second start"]


def test_the_text_names_who_is_predicted_and_who_is_not(result: Prediction) -> None:
    predicted = {name: values.copy() for name, values in result.predicted.items()}
    row = result.architecture.index("untied tanh")
    predicted["spread"][row, 1, SPENT] = result.capacity[row, 1] + 0.01
    chapter = prediction_chapter("title", replace(result, predicted=predicted))
    (dense,) = (text for text in chapter.text if text.startswith("p = 1,"))
    (sparse,) = (text for text in chapter.text if text.startswith("p = 0.1,"))
    assert "split, for none of them;" in dense
    assert "split, for 1 of them (untied tanh);" in sparse
    rows = [k for k, name in enumerate(result.architecture) if "tied" in name and not result.linear[k]]
    error, equal = (result.error(name)[rows, 0] for name in ("spread", "equal"))
    worse = [result.architecture[k] for k, a, b in zip(rows, error, equal, strict=True) if a >= b]
    assert f"as well or better for {len(worse)} of them ({', '.join(worse)})." in dense
    assert f"mean error {error.mean():.3f} with all others alike" in dense
    assert f"{result.noise[rows, 0].mean():.3f} for the second best start" in dense


def test_tables_hold_the_means_of_groups_and_the_error_of_every_architecture(result: Prediction) -> None:
    chapter = prediction_chapter("title", result)
    (means,), (errors,) = chapter.tables, chapter.parts[0].tables
    assert [row[0] for row in means.rows] == [
        f"{group}, p = {p}" for group in ("quadratic", LINEAR, "tied", "untied") for p in ("1", "0.1")
    ]
    tied = next(row for row in means.rows if row[0] == "tied, p = 0.1")
    members = [k for k, name in enumerate(result.architecture) if name.startswith("tied") and not result.linear[k]]
    expected = [
        *(result.error(name)[members, 1].mean() for name in (*PATTERNS, *BASELINES)),
        result.noise[members, 1].mean(),
        np.nanmean(result.ordered("spread")[members, 1]),
        result.same_class("spread")[members, 1].mean(),
        result.predicted_loss["spread"][members, 1, SPENT].mean(),
        result.loss[members, 1].mean(),
    ]
    assert list(tied[1:]) == [f"{value:.3f}" for value in expected]
    assert [row[0] for row in errors.rows] == list(ARCHITECTURES)
    a, b = result.error("spread")[5, 1], result.error("equal")[5, 1]
    assert errors.rows[5][2] == f"{a:.3f} ({b:.3f})"


def test_an_untied_autoencoder_worse_than_a_tied_one_is_named(result: Prediction) -> None:
    loss = np.full_like(result.loss, 0.5)
    loss[result.architecture.index("untied gelu"), 1] = 0.6
    (said,) = (text for text in prediction_chapter("title", replace(result, loss=loss)).text if "can do what" in text)
    assert said.endswith("poor network: untied gelu at p = 0.1.")


def test_dimensions_that_are_not_spent_are_named(result: Prediction) -> None:
    assert not any("spends less" in text for text in prediction_chapter("title", result).text)
    C, row = result.capacity.copy(), result.architecture.index("hidden topk")
    C[row, 0] = [0.5, 0.5, 0, 0]
    lazy = replace(result, capacity=C)
    (said,) = (text for text in prediction_chapter("title", lazy).text if "spends less" in text)
    assert said.startswith("In 1 of 72 settings")
    before, after = (lazy.error("spread", total)[row, 0] for total in (SPENT, WHOLE))
    assert said.endswith(f"from {before:.3f} to {after:.3f}.")


def test_settings_without_a_result_are_counted(result: Prediction) -> None:
    C, loss = result.capacity.copy(), result.loss.copy()
    C[3, 1], loss[3, 1] = np.nan, np.nan
    chapter = prediction_chapter("title", replace(result, capacity=C, loss=loss))
    assert "1 of 72 settings have no result; they are left out of all means." in chapter.text
    assert not any(re.search(r"\bnan\b", text) for text in chapter.text)


def test_the_summary(result: Prediction) -> None:
    exact, curved, straight = prediction_summary(result)
    assert exact == ("Prediction: quadratic model, largest |trained − predicted| capacity", "0.0e+00", "0")
    for (label, measured, goal), rows in ((curved, ~result.linear), (straight, result.linear)):
        right = result.predicts("spread")[rows]
        assert measured == f"{right.sum()} of {right.size} (mean error {result.error('spread')[rows].mean():.2f})"
        assert goal == f"all (equal split {result.error('equal')[rows].mean():.2f})"
        assert label.endswith("readouts linear") == (rows is result.linear)
