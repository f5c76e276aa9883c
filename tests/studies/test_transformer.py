"""Transformers of several activations: what is stored, what is made of it, and that it can come out either way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose
from scipy import stats

from polysem.measure import FeatureClass
from polysem.returns import Prices, Verdict, equal_returns
from polysem.studies import (
    TransformerConfig,
    Transformers,
    over_starts,
    read_transformers,
    transformer_cells,
    transformer_grid,
    transformers,
)
from polysem.studies._transformer import answers, new_transformer, train
from polysem.sweeps import Stack
from polysem.zoo import SequenceTask, SequenceTransformer

SMALL = TransformerConfig(
    activations=("relu", "bilinear"),
    n_features=4,
    feature_probability=0.2,
    n_positions=3,
    d_model=4,
    d_mlp=6,
    starts=2,
    steps=150,
    batch_size=32,
    n_test=1024,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transformer") / "store.zarr"
    transformers(SMALL, path)
    return path


@pytest.fixture(scope="module")
def result(store: Path) -> Transformers:
    return read_transformers(xr.open_zarr(store))


def stack(config: TransformerConfig, activation: str, seed: int) -> Stack:
    return Stack({"activation": activation}, transformer_grid(config).fixed, np.array([seed]))


def test_shapes_and_places(result: Transformers) -> None:
    assert result.activation == ("relu", "bilinear")
    assert (result.places[0], result.places[4], result.places[-1]) == (
        "blocks.0.hook_resid_pre",
        "blocks.1.hook_resid_post",
        "blocks.1.mlp.hook_post",
    )
    assert (len(result.places), result.n_stream, result.n_failed) == (7, 5, 0)
    assert result.capacity.shape == result.kind.shape == result.price.shape == (2, 2, 7, 4, 4)
    assert result.per_neuron.shape == (2, 2, 3, 2, 6)
    assert np.isnan(result.per_neuron[1, ..., 4:]).all()  # bilinear neurons are two thirds as many
    assert not np.isnan(result.per_neuron[1, ..., :4]).any()
    assert not np.isnan(result.per_neuron[0]).any()
    assert_allclose(result.importance, 0.9 ** np.arange(4))


def test_losses_are_shares_of_ignoring_everything(result: Transformers, store: Path) -> None:
    data = xr.open_zarr(store)
    ignored = SequenceTask([0.2] * 4, 3).ignored_loss(result.importance)
    here, before = float(ignored[:4].sum()), float(ignored[4:].sum())
    losses = data.loss.values
    assert_allclose(result.target_loss[..., 0], losses[..., 0] / here)
    assert_allclose(result.loss, losses.sum(-1) / (here + before))
    assert_allclose(result.monosemantic, sum(sorted(ignored.tolist())[:4]) / (here + before))
    assert (result.target_loss[..., 0] < 0.9).all()


def test_a_network_made_again_loses_as_much_as_was_stored(result: Transformers) -> None:
    """On sequences of its own, so that measuring on those of training would show."""
    config = replace(SMALL, starts=1)
    generator = torch.Generator().manual_seed(11)
    setting = stack(config, "relu", 11)
    found = transformer_cells(setting)
    model, task = new_transformer(setting, generator), SequenceTask([0.2] * 4, 3)
    train(model, task, torch.from_numpy(result.importance), setting, generator)
    x = task.sample(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    losses = task.losses(model(x), x, torch.from_numpy(result.importance)).sum(-1)
    spread = float(losses.std()) * (1 / 1024 + 1 / 20_000) ** 0.5
    assert abs(float(losses.mean()) - float(found["loss"].sum())) < 4 * spread
    assert spread < 0.05 * float(losses.mean())


def test_what_the_stream_can_hold_where(result: Transformers) -> None:
    """The embedding holds values, and neither magnitudes nor what was before: it has neither neurons nor attention."""
    C = result.capacity.mean(1)
    value, magnitude = 0, 1
    assert (C[:, 0, value].mean(-1) > 0.3).all()
    assert (C[:, 0, magnitude:] < 0.05).all()
    assert (C[:, 1, magnitude] < 0.1).all()  # attention alone makes none
    assert (C[:, 2, magnitude].mean(-1) > 0.1).all()
    assert (C[..., : result.n_stream, :, :].sum((-2, -1)) < SMALL.d_model + 0.05).all()


def test_polysemanticity_and_neurons_equal_loops(result: Transformers) -> None:
    for a in range(2):
        for s in range(2):
            spent = [
                [
                    4 * result.capacity[a, s, place, v, i] * (1 - result.capacity[a, s, place, v, i])
                    for v in range(4)
                    for i in range(4)
                    if result.kind[a, s, place, v, i] != FeatureClass.IGNORED
                ]
                for place in range(7)
            ]
            index = [sum(values) / len(values) for values in spent]
            assert_allclose(result.polysemanticity[a, s], index)
            assert_allclose(result.in_stream[a, s], sum(index[:5]) / 5)
            assert_allclose(result.at_end[a, s], index[4])
            for stage in range(3):
                alive = [n for n in result.per_neuron[a, s, stage].ravel() if n > 0]
                assert_allclose(result.features_per_neuron[a, s, stage], sum(alive) / len(alive))


def test_dead_neurons_are_no_monosemantic_ones(result: Transformers) -> None:
    values = result.per_neuron.copy()
    values[0, 0, 2] = 0
    values[0, 0, 2, 0, :2] = [1.0, 3.0]
    assert replace(result, per_neuron=values).features_per_neuron[0, 0, 2] == 2
    values[0, 0, 2] = 0
    assert np.isnan(replace(result, per_neuron=values).features_per_neuron[0, 0, 2])


def test_answers_of_neurons_that_were_built_by_hand() -> None:
    """Of four neurons one reads feature 1, one its negative, one both features alike, and one nothing."""
    model = SequenceTransformer(2, 2, n_positions=2, n_outputs=4, d_mlp=4, n_layers=1, n_heads=1)
    state = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    state["W_E"] = torch.eye(2)
    state["blocks.0.mlp.W_in"] = torch.tensor([[1.0, -1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    state["b_U"] += 1
    model.load_state_dict(state)
    task = SequenceTask([0.1, 0.1], 2)
    x = task.sample(20_000, generator=torch.Generator().manual_seed(0))
    found = answers(model, x, task.variables(x), 5)
    assert found.shape == (3, 1, 5)
    assert found[:, 0, 4].isnan().all()
    assert_allclose(found[0, 0, :4].tolist(), [1, 1, 2, 0], atol=0.01)
    assert_allclose(found[2, 0, :4].tolist(), [1, 1, 2, 0], atol=0.05)  # a one-sided neuron counts a feature once
    assert (found[1] == found[2])[0, :4].all()


def test_the_equal_returns_test_is_that_of_the_stored_prices(result: Transformers) -> None:
    at = (1, 0, 4)
    price, stderr, capacity, kind = (
        torch.from_numpy(values[at].ravel())
        for values in (result.price, result.price_stderr, result.capacity, result.kind)
    )
    test, direct = result.test(*at), equal_returns(Prices(price, stderr, capacity, kind))
    assert test.says == direct.says
    assert int((kind == FeatureClass.IMPURE).sum()) == int(test.n_impure) > 2
    flat = replace(result, price=np.where(result.kind == FeatureClass.IMPURE, -1.0, 0.0), price_stderr=0 * result.price)
    assert int(flat.test(*at).verdict) == Verdict.EQUAL
    assert np.isnan(flat.correlations["benefit with capacity"]).all()


def test_rank_correlations_are_those_of_scipy(result: Transformers) -> None:
    for a in range(2):
        for s in range(2):
            impure = result.kind[a, s, 4] == FeatureClass.IMPURE
            benefit, C = -result.price[a, s, 4][impure], result.capacity[a, s, 4][impure]
            importance = [0.9**i for v in range(4) for i in range(4) if impure[v, i]]
            pairs = {
                "benefit with capacity": (benefit, C),
                "benefit with importance": (benefit, importance),
                "capacity with importance": (C, importance),
            }
            assert list(result.correlations) == list(pairs)
            for name, pair in pairs.items():
                assert_allclose(result.correlations[name][a, s], stats.spearmanr(*pair).statistic)
    pure = replace(result, kind=np.full_like(result.kind, FeatureClass.PURE))
    assert all(np.isnan(values).all() for values in pure.correlations.values())


def test_networks_without_a_result_are_left_out(store: Path) -> None:
    data = xr.open_zarr(store).load()
    for name in ("loss", "capacity", "price", "features_per_neuron", "loss_monosemantic", "loss_ignored", "importance"):
        data[name][{"activation": 0, "seed": 1}] = np.nan
    data["kind"][{"activation": 0, "seed": 1}] = -1
    found = read_transformers(data)
    assert found.n_failed == 1
    ranks = found.correlations["benefit with capacity"]
    for values in (found.loss, found.in_stream, found.at_end, found.features_per_neuron[..., 2], ranks):
        assert np.isnan(values).tolist() == [[False, True], [False, False]]
        assert not np.isnan(over_starts(values).mean).any()
    assert np.isfinite(found.monosemantic)


def test_solu_differs_before_and_after_its_layer_norm() -> None:
    found = transformer_cells(stack(replace(SMALL, steps=20), "solu", 0))["features_per_neuron"][0]
    _, middle, post = found
    assert not torch.allclose(middle, post)
    assert ((found >= 1) & (found <= 8)).all()


def test_the_same_cell_gives_the_same_bits() -> None:
    first, second = (transformer_cells(stack(replace(SMALL, steps=5, n_test=64), "gelu", 3)) for _ in range(2))
    for name, values in first.items():
        assert torch.equal(values.nan_to_num(), second[name].nan_to_num()), name


def test_all_activations_are_compared_by_default() -> None:
    grid = transformer_grid()
    assert (grid.dims, grid.shape) == (("activation", "seed"), (4, 5))
    assert grid.axes["activation"] == ("relu", "gelu", "solu", "bilinear")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activations": ("relu", "swish")}, r"activations must be at least one of relu, .*, got \('relu', 'swish'\)"),
        ({"activations": ()}, "activations must be at least one of"),
        ({"d_mlp": 16}, "d_mlp must be a multiple of 3, got 16"),
        ({"n_heads": 5}, "n_heads must be a divisor of d_model = 12, got 5"),
        ({"n_positions": 1}, "n_positions must be a whole number of at least 2, got 1"),
        ({"n_test": 1}, "n_test must be a whole number of at least 2, got 1"),
        ({"starts": 0}, "starts must be a whole number of at least 1, got 0"),
        ({"feature_probability": 0.0}, r"feature_probability must be in \(0, 1\], got 0.0"),
        ({"decay": 1.5}, r"decay must be in \(0, 1\], got 1.5"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_nonsense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**options)
