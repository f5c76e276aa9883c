"""Features in recorded states against networks whose features are known."""

import builtins
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from polysem.measure import capacity, leverage, report
from polysem.networks import (
    DirectionsNull,
    FeatureDirections,
    features_from_dictionary,
    features_from_inputs,
    features_from_labels,
    features_from_probes,
    record,
)
from polysem.returns import layers, reading
from polysem.zoo import TiedAutoencoder


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def present(n: int, p: float, n_features: int, seed: int = 0) -> Tensor:
    return torch.rand(n, n_features, generator=torch.Generator().manual_seed(seed)) < p


def test_every_outcome_of_a_linear_network_gives_its_rows_and_leverage() -> None:
    W = drawn(5, 3)
    x = torch.cartesian_prod(*5 * [torch.tensor([0.0, 1.0], dtype=torch.float64)])
    found = reading(x @ W, x, ridge=0, held_out=False)
    torch.testing.assert_close(found.embedding, W / 2)  # sd of a fair coin
    exact = reading(x @ W, x, held_out=False, standardise=False)
    torch.testing.assert_close(exact.embedding, W)
    torch.testing.assert_close(found.explained, leverage(W))
    torch.testing.assert_close(features(found.embedding, found.readout).capacity, leverage(W))


def features(W: Tensor, V: Tensor) -> FeatureDirections:
    zero = torch.zeros(len(W), dtype=W.dtype)
    return FeatureDirections(tuple(map(str, range(len(W)))), W, V, zero, zero.expand(2, -1), DirectionsNull.TURNED)


def test_reading_is_what_layers_measures_in_the_network() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU()).double()
    x = drawn(500, 6)
    (layer,) = layers(model, x, lambda y, x: y.square().sum(-1), ["1"])
    with record(model, ["1"]) as seen:
        model(x)
    found = reading(seen["1"], x)
    for name in ("embedding", "readout", "origin", "explained"):
        torch.testing.assert_close(getattr(found, name), getattr(layer, name))


def test_labels_are_contrasts_of_means() -> None:
    f = present(4000, 0.2, 3)
    h = f.double() @ drawn(3, 5) + 0.3 * drawn(4000, 5, seed=1)
    found = features_from_labels(h, f, draws=2)
    for j in range(3):
        contrast = h[f[:, j]].mean(0) - h[~f[:, j]].mean(0)
        # All samples here, a random half there.
        torch.testing.assert_close(found.embedding[j], contrast * 0.4, rtol=0, atol=0.05)
    assert found.null_kind is DirectionsNull.PERMUTED
    assert bool((found.explained > 0.5).all())


def test_strings_numbers_and_indicators_are_the_same_labels() -> None:
    number = torch.arange(300) % 3
    h = torch.eye(3)[number] @ drawn(3, 4).float()
    words = [("ant", "bee", "cat")[k] for k in number.tolist()]
    by_word = features_from_labels(h, words, draws=2)
    by_number = features_from_labels(h, number, names=["ant", "bee", "cat"], draws=2)
    by_bool = features_from_labels(h, number[:, None] == torch.arange(3), draws=2)
    assert by_word.names == by_number.names == ("ant", "bee", "cat")
    assert by_bool.names == ("0", "1", "2")
    for other in (by_number, by_bool):
        torch.testing.assert_close(other.capacity, by_word.capacity, rtol=0, atol=0)
        torch.testing.assert_close(other.null, by_word.null, rtol=0, atol=0)


@pytest.mark.parametrize("n", [2, 4, 10])
def test_classes_told_apart_have_what_the_absence_of_the_others_leaves(n: int) -> None:
    label = torch.arange(n).repeat(400)
    found = reading(torch.eye(n, dtype=torch.float64)[label], torch.eye(n)[label], held_out=False)
    C = features(found.embedding, found.readout).capacity
    torch.testing.assert_close(C, torch.full((n,), 1 - 1 / n, dtype=torch.float64), rtol=1e-5, atol=0)


def test_a_random_half_sees_classes_that_come_in_turn() -> None:
    label = torch.arange(1000) % 4  # samples 0, 2, 4, ... show two of them
    found = features_from_labels(torch.eye(4)[label], label)
    torch.testing.assert_close(found.capacity, torch.full((4,), 0.75, dtype=torch.float64), rtol=0, atol=0.03)


@pytest.mark.parametrize("kind", ["labels", "probes"])
def test_features_that_are_not_there_are_within_the_null(kind: str) -> None:
    h = drawn(3000, 8)
    there, absent = (present(3000, 0.5, 6, seed=seed) for seed in (1, 2))
    h[:, :4] += 3 * there[:, :4]
    both = torch.cat([there[:, :4], absent[:, :4]], -1)
    found = features_from_labels(h, both) if kind == "labels" else features_from_probes(h, both.double())
    assert bool((found.p_value[:4] == 1 / 21).all())
    assert bool((found.explained[:4] > 0.6).all())
    assert bool((found.capacity[:4] > 0.8).all())
    assert float(found.p_value[4:].min()) > 1 / 21
    assert float(found.explained[4:].max()) < 0.01
    low, high = features_from_labels(h, absent[:, :4]).interval
    assert low < features_from_labels(h, absent[:, :4]).total < high < found.total


def test_probes_are_those_of_scikit_learn_with_a_penalty_for_each_feature() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    h, noise = drawn(100, 8), drawn(100, 2, seed=1)
    f = torch.stack([h[:, 0], h[:, 1]], -1) + noise * torch.tensor([0.01, 5.0])
    found = features_from_probes(h, f, draws=2, seed=3)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(3))
    fitted, rest = order[::2], order[1::2]
    unit = 50 * float(h[fitted].var(0, correction=0).mean())
    chosen = []
    for j in range(2):
        scores = {}
        for k in range(-6, 5):
            ridge, left = linear_model.Ridge(alpha=10.0**k * unit), 0.0
            for one in range(50):
                others = fitted[torch.arange(50) != one]
                guess = ridge.fit(h[others], f[others, j]).predict(h[fitted[one]][None])
                left += float((f[fitted[one], j] - guess[0]) ** 2)
            scores[k] = left
        chosen.append(min(scores, key=scores.__getitem__))
        ridge = linear_model.Ridge(alpha=10.0 ** chosen[j] * unit).fit(h[fitted], f[fitted, j])
        torch.testing.assert_close(found.readout[j], torch.from_numpy(ridge.coef_))
        assert float(found.explained[j]) == pytest.approx(ridge.score(h[rest], f[rest, j]))
    assert chosen[1] > chosen[0] + 1


def test_latents_of_the_true_dictionary_have_the_capacities_of_its_rows() -> None:
    W = drawn(6, 4)
    latents = torch.rand(3000, 6, generator=torch.Generator().manual_seed(0)) * present(3000, 0.1, 6)
    latents[:, 5] = 0  # never active
    scale = latents.std(0, correction=0).double()
    found = features_from_dictionary(latents.double() @ W, latents, encoder=3 * W, decoder=W)
    torch.testing.assert_close(found.embedding, scale[:, None] * W)
    expected = capacity(scale[:, None] * W)
    # Readouts may have any scale of their own, but not another one for each entry.
    torch.testing.assert_close(found.capacity, expected)
    assert float(found.capacity[5]) == float(found.explained[5]) == 0


def test_layers_prices_what_was_found() -> None:
    decoder, encoder = drawn(6, 4), drawn(6, 4, seed=1)
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)).double()
    h = drawn(500, 4, seed=2)
    with record(network, ["0"]) as seen:
        network(h)
    latents = (seen["0"] @ encoder.mT).relu()
    found = features_from_dictionary(seen["0"], latents, encoder=encoder, decoder=decoder)
    (layer,) = layers(
        network,
        h,
        lambda y, h: y.square().sum(-1),
        ["0"],
        features=latents,
        embedding={"0": decoder},
        readout={"0": found.readout},
        held_out=False,
    )
    torch.testing.assert_close(layer.embedding, found.embedding)
    torch.testing.assert_close(layer.capacity, found.capacity)
    torch.testing.assert_close(layer.explained, found.explained)


def test_single_inputs_of_an_autoencoder_give_its_rows() -> None:
    model = TiedAutoencoder(7, 3, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Linear(7, 3, bias=False), nn.Linear(3, 7))
    network[0].load_state_dict({"weight": model.W.detach()[0].mT})
    with record(network, ["0"]) as seen:
        network(torch.cat([torch.zeros(1, 7), torch.eye(7)]).to(network[0].weight))
    found = features_from_inputs(seen["0"][1:], baseline=seen["0"][0])
    W = model.W.detach()[0].double()
    torch.testing.assert_close(found.embedding, W, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.capacity, capacity(W), rtol=1e-5, atol=1e-6)
    scale = torch.arange(1.0, 8.0)
    scaled = features_from_inputs(seen["0"][1:], baseline=seen["0"][0], scale=scale)
    torch.testing.assert_close(scaled.capacity, capacity(W, scale=scale.double()), rtol=1e-5, atol=1e-6)
    own = features_from_inputs(seen["0"][1:])
    torch.testing.assert_close(own.embedding, W - W.mean(0), rtol=1e-5, atol=1e-6)
    x, z = torch.eye(7, dtype=torch.float64), (W - W.mean(0)) @ (W - W.mean(0)).mT
    correlation = [float(torch.corrcoef(torch.stack([z[i], x[i]]))[0, 1]) ** 2 for i in range(7)]
    torch.testing.assert_close(own.explained, torch.tensor(correlation, dtype=torch.float64), rtol=1e-5, atol=1e-6)


@given(n=st.integers(2, 8), d=st.integers(2, 8), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_turning_keeps_norms_and_own_responses(n: int, d: int, seed: int) -> None:
    from polysem.networks import _directions

    seen: list[tuple[Tensor, Tensor]] = []
    original: Callable[..., Tensor] = _directions.response_capacity

    def spy(W: Tensor, V: Tensor) -> Tensor:
        seen.append((W, V))
        return original(W, V)

    W, V = drawn(n, d, seed=seed), drawn(n, d, seed=seed + 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_directions, "response_capacity", spy)
        _directions.turned(W, V, 2, seed)
    for turned_W, turned_V in seen:
        torch.testing.assert_close(turned_W.norm(dim=-1), W.norm(dim=-1))
        torch.testing.assert_close(turned_V.norm(dim=-1), V.norm(dim=-1))
        torch.testing.assert_close((turned_W * turned_V).sum(-1), (W * V).sum(-1))
    assert not torch.equal(seen[0][0], seen[1][0])


def test_of_rows_that_read_themselves_the_null_is_that_of_the_report() -> None:
    W = drawn(60, 20) * torch.linspace(0.5, 2, 60)[:, None]
    found = features_from_inputs(W, baseline=torch.zeros(20), draws=40)
    low, high = report(W, draws=40).interval
    assert float(found.null.sum(-1).mean()) == pytest.approx((low + high) / 2, rel=0.01)
    assert found.interval[1] - found.interval[0] == pytest.approx(high - low, rel=0.5)
    assert found.says.startswith(f"capacity {found.total:.2f} of 60 features in 20 dimensions (directions at random: ")


def test_positions_count_as_samples_and_are_dealt_out_together() -> None:
    h, f = drawn(200, 3, 4), drawn(200, 3, 2, seed=1)
    flat = reading(h.flatten(0, 1), f.flatten(0, 1), held_out=False)
    apart = reading(h, f, held_out=False)
    torch.testing.assert_close(apart.readout, flat.readout)
    assert features_from_probes(h, f, draws=3).null.shape == (3, 2)


def test_without_scikit_learn_probes_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def missing(name: str, *args: Any, **keywords: Any) -> Any:
        if name.startswith("sklearn"):
            raise ModuleNotFoundError(name)
        return imported(name, *args, **keywords)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ModuleNotFoundError, match='probes need scikit-learn: pip install "polysem\\[studies\\]"'):
        features_from_probes(drawn(10, 2), drawn(10, 1))


@pytest.mark.bad_input
def test_bad_input() -> None:
    h, label = drawn(20, 3), torch.arange(20) % 2
    cases: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: features_from_labels([1.0], label), TypeError, "states must be a torch.Tensor, got list"),
        (lambda: features_from_labels(h[:3], label[:3]), ValueError, "number of states must be at least 4, got 3"),
        (lambda: features_from_labels(h / 0, label), ValueError, "states must be finite"),
        (lambda: features_from_labels(h, label[:9]), ValueError, "shape of labels must be \\(20,\\), as states"),
        (lambda: features_from_labels(h, label - 1), ValueError, "labels must be classes from 0 on, got -1"),
        (lambda: features_from_labels(h, label.float()), TypeError, "labels must be whole numbers or bool, got torch"),
        (lambda: features_from_labels(h, [1] * 20), TypeError, "labels must be a tensor of whole numbers or bool, or"),
        (lambda: features_from_labels(h, label, names=["a"]), ValueError, "number of names must be .* 2, got 1"),
        (lambda: features_from_labels(h, label, draws=1), ValueError, "draws must be a whole number of at least 2"),
        (
            lambda: features_from_probes(h, h[:5]),
            ValueError,
            "shape of targets must be \\(20,\\), as states, got \\(5,",
        ),
        (lambda: features_from_probes(h, h, penalties=[0]), ValueError, "penalties must be positive and finite"),
        (
            lambda: features_from_dictionary(h, h, encoder=h[:3], decoder=h[:2]),
            ValueError,
            "shape of embedding must be \\(3, 3\\), got \\(2, 3\\)",
        ),
        (lambda: features_from_inputs(h[:2, None]), ValueError, "shape of states must be .*, at one position"),
        (lambda: features_from_inputs(h, baseline=h[0, :2]), ValueError, "shape of baseline must be \\(3,\\)"),
        (lambda: features_from_inputs(h, scale=-h[:, 0].abs()), ValueError, "scale must be non-negative"),
        (lambda: reading(h, h[:4]), ValueError, "shape of features must be \\[20, n_features\\] as the state"),
        (lambda: reading(h, h, ridge=-1), ValueError, "ridge must be non-negative, got -1"),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            call()
