import dataclasses
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose
from scipy.interpolate import PchipInterpolator
from scipy.stats import kendalltau
from torch.testing import assert_close

from polysem.features import geometric
from polysem.measure import FeatureClass
from polysem.returns import curve
from polysem.studies import (
    ARCHITECTURES,
    BASELINES,
    LINEAR,
    PATTERNS,
    SPENT,
    TOLERANCE,
    WHOLE,
    Prediction,
    PredictionConfig,
    architecture,
    prediction,
    prediction_cells,
    prediction_grid,
    read_prediction,
)
from polysem.studies._prediction_cells import _curves, _owned
from polysem.sweeps import Stack
from polysem.training import fit
from polysem.zoo import UntiedAutoencoder

SMALL = PredictionConfig(
    architectures=("quadratic", "tied identity", "untied identity", "tied relu", "hidden relu |x|"),
    n_features=6,
    d_hidden=2,
    decay=0.8,
    probabilities=(1.0, 0.4, 0.05),
    restarts=4,
    adam_steps=80,
    batch_size=64,
    n_grid=17,
    n_samples=256,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prediction") / "store.zarr"
    prediction(SMALL, path)
    return path


@pytest.fixture(scope="module")
def result(store: Path) -> Prediction:
    return read_prediction(xr.open_zarr(store))


def of(result: Prediction, name: str) -> int:
    return result.architecture.index(name)


def test_the_quadratic_model_is_predicted_exactly(result: Prediction) -> None:
    row = of(result, "quadratic")
    for name in (*PATTERNS, "quadratic"):
        for total in (SPENT, WHOLE):
            assert_allclose(result.predicted[name][row, :, total], result.capacity[row], rtol=0, atol=1e-6)
    for name in PATTERNS:
        assert_allclose(result.predicted_loss[name][row, :, WHOLE], result.loss[row], rtol=1e-7)
    assert (result.capacity[row, 0] > 0.999).sum() == 2  # p = 1: whole features
    assert (result.capacity[row, -1] < 0.7).all()  # p = 0.05: none
    assert result.error("equal")[row].min() > TOLERANCE
    assert result.predicts("spread")[row].all()
    assert not result.linear[row]


def test_linear_autoencoders_hold_the_whole_features_that_straight_curves_predict(result: Prediction) -> None:
    whole = [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    for name in ("tied identity", "untied identity"):
        row = of(result, name)
        assert result.linear[row]
        for values in (result.capacity[row], *(result.predicted[one][row, :, WHOLE] for one in PATTERNS)):
            assert_allclose(values, np.tile(whole, (3, 1)), rtol=0, atol=1e-6)
        assert_allclose(result.predicted_loss["spread"][row, :, WHOLE], result.loss[row], rtol=1e-6)
        assert_allclose(result.ordered("network")[row], 1)


def test_curves_of_hidden_layers_predict_whole_features_whatever_the_neurons_do(result: Prediction) -> None:
    row = of(result, "hidden relu |x|")
    for cell, spent in enumerate(result.capacity[row].sum(-1)):
        by_importance = np.clip(spent - np.arange(6), 0, 1)
        for name in PATTERNS:
            assert_allclose(result.predicted[name][row, cell, SPENT], by_importance, rtol=0, atol=1e-5)


def test_predictions_share_out_their_total(result: Prediction) -> None:
    spent = result.capacity.sum(-1)
    assert set(result.predicted) == {*PATTERNS, *BASELINES}
    for name, C in result.predicted.items():
        assert ((C >= 0) & (C <= 1)).all(), name
        assert (C[..., WHOLE, :].sum(-1) <= 2 + 1e-9).all(), name
        assert (C[..., SPENT, :].sum(-1) <= spent + 1e-9).all(), name
    assert_allclose(result.predicted["equal"][..., SPENT, :], np.repeat(spent[..., None] / 6, 6, -1))
    assert_allclose(result.predicted["equal"][..., WHOLE, :], 1 / 3)
    for loss in result.predicted_loss.values():
        assert ((loss >= 0) & (loss <= 1 + 1e-9)).all()


def test_no_other_division_costs_less_on_the_same_curves(result: Prediction) -> None:
    """The curves measured again, at other weights, which a pattern that is known before training does not see."""
    chosen, row, cell, importance = architecture("tied relu"), of(result, "tied relu"), 2, geometric(6, SMALL.decay)
    model = chosen.model(6, 2, 3, torch.Generator().manual_seed(9))
    features = chosen.features(torch.tensor(SMALL.probabilities, dtype=torch.float64)[:, None].expand(-1, 6))
    C = torch.linspace(0, 1, 17, dtype=torch.float64)
    all_alike = -torch.ones(6, 6, dtype=torch.float64)
    losses = curve(model, features, importance, C=C, pattern=all_alike, n_samples=256).losses[cell]
    one = (losses / importance[:, None]).mean(0)
    cost = PchipInterpolator(C[1:], one[1:])  # the curve jumps at 0

    def total(capacity: np.ndarray) -> float:
        at = np.where(capacity >= C[1].item(), cost(np.maximum(capacity, C[1].item())), one[0].item())
        return float(at @ importance.numpy())

    ignored = float(importance.sum() * chosen.target_variance(features)[cell, 0])
    best = total(result.predicted["spread"][row, cell, WHOLE])
    assert_allclose(best / ignored, result.predicted_loss["spread"][row, cell, WHOLE], rtol=1e-6)
    for drawn in np.random.default_rng(0).dirichlet(np.ones(6), 500) * 2:
        assert total(np.minimum(drawn, 1)) >= best


def test_the_best_start_counts_and_the_second_best_stands_beside_it() -> None:
    grid = prediction_grid(dataclasses.replace(SMALL, adam_steps=20))
    settings = {"architecture": "tied relu", "d_hidden": 2}
    stack = Stack({"feature_probability": np.array([0.4, 0.1]), **settings}, grid.fixed, np.array([3, 4]))
    found, again = (prediction_cells(stack) for _ in range(2))
    assert all((values == again[name]).all() for name, values in found.items())
    chosen, generator = architecture("tied relu"), torch.Generator().manual_seed(3)
    p = torch.tensor([0.4, 0.4, 0.4, 0.4, 0.1, 0.1, 0.1, 0.1], dtype=torch.float64)
    done = fit(
        chosen.model(6, 2, 8, generator),
        chosen.features(p[:, None].expand(-1, 6)),
        geometric(6, SMALL.decay),
        chosen.fit_config(20, 64),
        generator=generator,
    )
    C = chosen.capacity(done.model, chosen.features(p[:, None].expand(-1, 6)), generator)[0]
    for cell in range(2):
        order = sorted(range(4 * cell, 4 * cell + 4), key=lambda k: float(done.loss[k]))
        assert found["loss"][cell] == done.loss[order[0]]
        assert_close(found["capacity"][cell], C[order[0]], rtol=1e-6, atol=0)
        assert_close(found["second"][cell], C[order[1]], rtol=1e-6, atol=0)


def test_a_response_of_no_size_owns_nothing() -> None:
    """Its direction alone would have given it half a dimension."""
    model = UntiedAutoencoder(3, 2, dtype=torch.float64)
    with torch.no_grad():
        model.W.copy_(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]]))
        model.V.copy_(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1e-7, 1e-7]]]))
    chosen = ARCHITECTURES["untied identity"]
    features = chosen.features(torch.full((1, 3), 0.1, dtype=torch.float64))
    by_direction, _ = chosen.capacity(model, features, torch.Generator())
    C, kind = _owned(chosen, model, features, torch.Generator())
    assert by_direction[0, 2] > 0.3
    assert C[0].tolist() == [*by_direction[0, :2].tolist(), 0.0]
    assert kind[0, 2] == FeatureClass.IGNORED


def test_the_trained_networks_interference_counts_where_it_has_any() -> None:
    chosen, importance = architecture("tied relu"), geometric(4, 0.7)
    model = chosen.model(4, 2, 1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.W[:, 2] *= 1e-6  # not quite 0, as training leaves what it ignores
    features = chosen.features(torch.full((1, 4), 0.2, dtype=torch.float64))
    _, kind = _owned(chosen, model, features, torch.Generator())
    grid, (_, antipodal, network) = _curves(chosen, model, kind, features, importance, 9, 128)
    own, partner = (
        curve(model, features, importance, C=grid, pattern=pattern, n_samples=128).losses
        for pattern in ("network", "antipodal")
    )
    assert kind[0].tolist() == [1, 1, 0, 1]
    assert_close(antipodal, partner, rtol=1e-9, atol=0)
    assert_close(network[0, [0, 1, 3]], own[0, [0, 1, 3]], rtol=0, atol=0)
    assert_close(network[0, 2], partner[0, 2], rtol=1e-9, atol=0)
    assert ((network - antipodal)[0, [0, 1, 3]].abs().amax(-1) > 1e-4).all()


def test_measures_of_agreement_against_loops(result: Prediction) -> None:
    for name in (*PATTERNS, *BASELINES):
        error, ordered, same = (getattr(result, one)(name) for one in ("error", "ordered", "same_class"))
        for row, cell in np.ndindex(result.loss.shape):
            trained, guess = result.capacity[row, cell], result.predicted[name][row, cell, SPENT]
            assert_allclose(error[row, cell], sum(abs(a - b) for a, b in zip(trained, guess, strict=True)) / 6)
            right = []
            for i, j in combinations(range(6), 2):
                if abs(trained[i] - trained[j]) > TOLERANCE:
                    product = (trained[i] - trained[j]) * (guess[i] - guess[j])
                    right.append(0.5 if abs(guess[i] - guess[j]) <= 1e-9 else float(product > 0))
            assert_allclose(ordered[row, cell], sum(right) / len(right) if right else np.nan)
            classes = [0 if c < 0.05 else 2 if c > 0.95 else 1 for c in guess]
            kinds = result.kind[row, cell]
            assert_allclose(same[row, cell], sum(a == b for a, b in zip(classes, kinds, strict=True)) / 6)


def test_order_is_kendalls_where_nothing_is_tied(result: Prediction) -> None:
    rng = np.random.default_rng(0)
    trained, guess = rng.permutation(np.linspace(0, 1, 7)), rng.uniform(size=7)
    drawn = dataclasses.replace(
        result, capacity=trained[None, None], predicted={"spread": np.stack([guess, guess])[None, None]}
    )
    assert_allclose(drawn.ordered("spread"), (kendalltau(trained, guess).statistic + 1) / 2)


def test_a_prediction_that_an_equal_split_equals_predicts_nothing(result: Prediction) -> None:
    C = np.array([0.4, 0.4, 0.4, 0.4, 0.2, 0.2])
    equal, close, far = np.full(6, 2 / 6), C + 0.01, C[::-1]
    for guess, predicts in ((equal, False), (close, True), (far, False)):
        drawn = dataclasses.replace(
            result,
            capacity=C[None, None],
            predicted={"spread": guess[None, None, None], "equal": equal[None, None, None]},
        )
        assert drawn.predicts("spread").tolist() == [[predicts]]


def test_stuck_are_impure_features_at_a_polytopes_capacity(result: Prediction) -> None:
    C = np.tile([0.0, 1.0, 0.5, 0.41, 0.3, 0.9], (5, 3, 1))  # 0.5 and 0.41 of four
    guess = np.stack([C[..., ::-1], np.full_like(C, 0.2)], -2)
    drawn = dataclasses.replace(result, capacity=C, predicted={"spread": guess, "equal": guess[..., ::-1, :]})
    assert [drawn.stuck("tied"), drawn.stuck("tied", "spread"), drawn.stuck("tied", "equal")] == [0.5, 0.5, 0.0]


def test_settings_without_a_result_are_nan(store: Path) -> None:
    data = xr.open_zarr(store).load()
    for name in ("loss", "capacity", "second", "predicted", "predicted_loss", "quadratic", "loss_ignored"):
        data[name][1, 0, 2] = np.nan
    data["kind"][1, 0, 2] = -1
    result = read_prediction(data)
    assert result.n_failed == 1
    for values in (result.error("spread"), result.ordered("spread"), result.same_class("spread"), result.noise):
        assert np.argwhere(np.isnan(values)).tolist() == [[1, 2]]
    assert not result.predicts("spread")[1, 2]


def test_architectures_are_grouped_by_family_but_for_the_linear_ones(result: Prediction) -> None:
    names = {group: [result.architecture[row] for row in rows] for group, rows in result.groups.items()}
    assert names == {
        "quadratic": ["quadratic"],
        LINEAR: ["tied identity", "untied identity", "hidden relu |x|"],
        "tied": ["tied relu"],
    }


def test_all_architectures_are_predicted_by_default() -> None:
    grid = prediction_grid()
    assert (grid.dims, grid.shape) == (("architecture", "d_hidden", "feature_probability"), (36, 1, 3))


@pytest.mark.bad_input
def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="architecture must be .*, got 'transformer'"):
        prediction(PredictionConfig(("transformer",)), tmp_path / "store.zarr")
