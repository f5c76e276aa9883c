"""Large networks layer by layer, in small: what training does to capacities and prices, and what is reported of it."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from polysem.measure import FeatureClass
from polysem.returns import Prices, equal_returns
from polysem.studies import Deep, Layers, LayersConfig, State, by_rank, layers, rank_edges

SMALL = LayersConfig(
    n_features=64, d_hidden=12, d_mlp=12, n_layers=2, feature_probability=0.04, adam_steps=400, samples=6000
)


@pytest.fixture(scope="module")
def result() -> Layers:
    return layers(SMALL)


def test_states_are_those_of_both_networks(result: Layers) -> None:
    streams = ["embedding", "block 1", "block 2"]
    assert [state.name for state in result.reconstruct.states] == [*streams, "outputs"]
    assert {state.signal for state in result.reconstruct.states} == {"x"}
    assert [(state.name, state.signal) for state in result.compute.states] == [
        *((name, "x") for name in streams),
        *((name, "|x|") for name in [*streams, "outputs"]),
    ]
    assert (result.reconstruct.target, result.compute.target) == ("x", "|x|")
    assert [state.name for state in result.compute.of("x")] == streams
    assert_close(result.importance, 1 / torch.arange(1, 65).double())


def test_capacities_are_bounded_by_the_dimension(result: Layers) -> None:
    for network in result.networks:
        for state in (*network.states, network.start):
            assert state.capacity.shape == (64,)
            assert 0 <= state.capacity.min() <= state.capacity.max() <= 1
            assert state.capacity.sum() <= 12
            assert ((state.explained >= 0) & (state.explained <= 1)).all()


def test_training_spends_capacity_by_importance_at_about_one_price(result: Layers) -> None:
    network = result.reconstruct
    trained, start = network.states[-1], network.start
    assert network.relative_loss < network.monosemantic
    assert trained.capacity[:8].mean() > 1.5 * trained.capacity[-32:].mean()
    assert_close(start.capacity[:8].mean(), start.capacity[-32:].mean(), rtol=0.2, atol=0)
    ratio = [
        float(state.test.benefit[:4].mean() / state.test.benefit[16:][state.test.benefit[16:] != 0].mean())
        for state in (trained, start)
    ]
    assert ratio[0] < 3
    assert ratio[1] > 10
    assert trained.test.prices.value < 0.6 < 0.8 < start.test.prices.value
    assert network.null.median() > 0.75


def test_the_whole_loss_has_little_to_gain_inside_a_trained_network(result: Layers) -> None:
    network = result.reconstruct
    assert network.states[0].whole_share < 0.3
    assert network.start.whole_share > 0.6


def test_absolute_values_come_into_being_on_the_way(result: Layers) -> None:
    first, *_, last = (float(state.capacity[:8].mean()) for state in result.compute.of("|x|"))
    assert first < 0.1
    assert last > first + 0.1
    inputs = [float(state.capacity.sum()) for state in result.compute.of("x")]
    assert inputs == sorted(inputs, reverse=True)


def test_slopes_point_where_jacobians_do(result: Layers) -> None:
    for network in result.networks:
        for state in network.states:
            assert (state.jacobian is None) == (state.signal == "|x|")
            assert state.jacobian is None or 0.9 < state.jacobian <= 1


def test_the_same_seed_gives_the_same_bits(result: Layers) -> None:
    quick = dataclasses.replace(SMALL, n_features=20, n_layers=1, adam_steps=2, samples=100)
    first, again, other = (layers(dataclasses.replace(quick, seed=seed)) for seed in (1, 1, 2))
    assert_close(again.compute.states[-1].test.benefit, first.compute.states[-1].test.benefit, rtol=0, atol=0)
    assert (other.reconstruct.states[0].capacity != first.reconstruct.states[0].capacity).any()


def state(benefit: list[float], whole: list[float], stderr: float = 0.0) -> State:
    n = len(benefit)
    found = Prices(
        -torch.tensor(benefit, dtype=torch.float64),
        torch.zeros(n).double(),
        torch.full((n,), 0.5).double(),
        torch.tensor([FeatureClass.IMPURE if value else FeatureClass.IGNORED for value in benefit]),
    )
    errors = torch.full((n,), stderr).double()
    return State(
        "outputs", "x", equal_returns(found), torch.ones(n).double(), torch.tensor(whole).double(), errors, None
    )


def test_share_of_the_whole_loss_by_hand() -> None:
    assert_close(state([2.0, 4.0, 0.0], [0.3, -0.3, 9.0]).whole_share, 0.1)
    assert_close(state([2.0, 4.0], [0.5, -0.5], stderr=0.4).whole_share, 0.1)
    assert state([2.0, 4.0], [0.3, -0.3], stderr=0.4).whole_share == 0
    assert state([0.0, 0.0], [1.0, 1.0]).whole_share == 0


def test_ratio_of_mean_prices_by_hand() -> None:
    assert_close(state([2.0, 4.0, 0.0], [0.0] * 3).price_ratio, 2.0)
    assert state([2.0, -4.0], [0.0] * 2).price_ratio == float("inf")
    assert state([0.0, 0.0], [0.0] * 2).price_ratio == 1.0


@pytest.mark.parametrize("n", [1, 5, 64, 1024])
def test_bins_hold_every_feature_once(n: int) -> None:
    edges = rank_edges(n)
    assert (edges[0], edges[-1]) == (0.5, n + 0.5)
    assert (np.diff(edges) >= 1).all()
    values = torch.rand(n, generator=torch.Generator().manual_seed(0)).double()
    means = by_rank(values).numpy()
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = [values[i].item() for i in range(n) if low < i + 1 < high]
        assert_close(means[k].item(), sum(inside) / len(inside))
    counted = values > 0.5
    few = by_rank(values, counted)
    assert_close(few.isnan(), by_rank(counted.double()) == 0)
    assert (few[~few.isnan()] > 0.5).all()


def test_a_large_network_is_as_crowded() -> None:
    small = LayersConfig()
    large = small.large("cuda:1")
    assert (large.n_features, large.d_hidden, large.device) == (16_384, 1024, "cuda:1")
    active = [config.n_features * config.feature_probability / config.d_hidden for config in (small, large)]
    assert active[0] == active[1]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"n_features": 128}, "n_features must be above d_hidden = 128, got 128"),
        ({"d_hidden": 0}, "d_hidden must be a whole number of at least 1"),
        ({"n_layers": 0}, "n_layers must be a whole number of at least 1"),
        ({"d_mlp": 1.5}, "d_mlp must be a whole number"),
        ({"adam_steps": 0}, "adam_steps must be a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"samples": 1}, "samples must be a whole number of at least 2"),
        ({"passes": 1025}, "passes must be at most n_features = 1024, got 1025"),
        ({"passes": 0}, "passes must be a whole number of at least 1"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"exponent": -1.0}, "exponent must be non-negative"),
        ({"feature_probability": 0.0}, r"feature_probability must be in \(0, 1\]"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
    ],
)
def test_nonsense_is_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayersConfig(**setting)


def test_networks_are_named(result: Layers) -> None:
    assert all(isinstance(network, Deep) for network in result.networks)
    assert [network.task for network in result.networks] == ["reconstruct", "compute"]
