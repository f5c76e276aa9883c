"""Capacity while a network trains: every number beside loops, and training the same to the bit."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from torch.testing import assert_close

import reference
from polysem.networks import CapacityMonitor, _watched

LOSS = nn.CrossEntropyLoss()


def language_model() -> nn.Sequential:
    """With dropout, an embedding with a row of zeros, and layers whose features outnumber their dimensions."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(12, 5, padding_idx=0), nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 12)
    )


def train(
    network: nn.Module,
    steps: int,
    each: Callable[[], object] = lambda: None,
    optimizer: torch.optim.Optimizer | None = None,
    first: int = 0,
) -> None:
    optimizer = optimizer or torch.optim.AdamW(network.parameters(), lr=0.05)
    for step in range(first, first + steps):
        torch.manual_seed(step) if step % 3 == 0 else None
        tokens = torch.randint(12, (16,))
        optimizer.zero_grad()
        LOSS(network(tokens), tokens.flip(0)).backward()
        optimizer.step()
        each()


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_numbers_are_those_of_loops() -> None:
    network, weights = language_model(), {}
    with CapacityMonitor(
        network, {"0.weight": "rows", "4.weight": "columns"}, every=4, follow={"0.weight": [3, 0]}
    ) as monitor:
        weights[0] = state(network)

        def each() -> None:
            monitor.step()
            weights[monitor.steps] = state(network)

        train(network, 10, each)
    history = monitor.history
    assert history.step.values.tolist() == [0, 4, 8, 10]
    assert history.matrix.values.tolist() == ["0.weight", "4.weight"]
    assert history.kind.values.tolist() == ["embedding", "linear"]
    assert history.features.values.tolist() == ["rows", "columns"]
    for step in history.step.values.tolist():
        for name, W in (("0.weight", weights[step]["0.weight"]), ("4.weight", weights[step]["4.weight"].mT)):
            at = history.sel(step=step, matrix=name)
            n, d = W.shape
            assert (int(at.n_features), int(at.d_hidden)) == (n, d)
            C = reference.capacity(W)
            a = W.double().square().sum(1)
            M = W.double().T @ W.double()
            assert float(at.total) == pytest.approx(float(C.sum()), rel=1e-5)
            assert float(at.total_per_dimension) == pytest.approx(float(C.sum()) / d, rel=1e-5)
            null = sum(a[i] / (a[i] + (a.sum() - a[i]) / d) for i in range(n) if a[i] > 0)
            assert float(at.null_per_dimension) == pytest.approx(float(null) / d, rel=1e-5)
            assert float(at.effective_rank) == pytest.approx(float(M.trace() ** 2 / (M @ M).trace()), rel=1e-5)
            ignored = [bool(C[i] < 0.05 or a[i] < 1e-3 * a.max()) for i in range(n)]
            pure = [bool(C[i] > 0.95 and not ignored[i]) for i in range(n)]
            assert [int(at[f"n_{kind}"]) for kind in ("ignored", "impure", "pure")] == [
                sum(ignored),
                n - sum(ignored) - sum(pure),
                sum(pure),
            ]
            for q in (0.05, 0.25, 0.5, 0.75, 0.95):
                assert float(at.capacity.sel(quantile=q)) == pytest.approx(float(C.quantile(q)), rel=1e-4, abs=1e-6)
        C = reference.capacity(weights[step]["0.weight"])
        assert_close(torch.from_numpy(history.followed_capacity.sel(step=step).values), C[[3, 0]], rtol=1e-5, atol=1e-7)
    assert history.followed_feature.values.tolist() == [3, 0]
    assert history.followed_matrix.values.tolist() == ["0.weight", "0.weight"]


@pytest.mark.parametrize("by", ["step", "optimizer"])
def test_training_is_the_same_to_the_bit(by: str) -> None:
    plain, watched = language_model(), language_model()
    train(plain, 12)
    after_plain = torch.get_rng_state()
    optimizer = torch.optim.AdamW(watched.parameters(), lr=0.05)
    with CapacityMonitor(watched, every=1, optimizer=optimizer if by == "optimizer" else None) as monitor:
        train(watched, 12, monitor.step if by == "step" else lambda: None, optimizer)
    assert monitor.history.sizes["step"] == 13
    assert torch.equal(torch.get_rng_state(), after_plain)
    for name, value in plain.state_dict().items():
        assert torch.equal(watched.state_dict()[name], value), name
    for one, other in zip(plain.parameters(), watched.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


@pytest.mark.bad_input  # the shape checker itself draws random numbers
def test_measuring_touches_nothing() -> None:
    network = language_model().train()
    network[1].eval()
    before, modes = state(network), [module.training for module in network.modules()]
    numbers = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), torch.autocast("cpu", dtype=torch.bfloat16):
            CapacityMonitor(network).measure()
            assert torch.is_grad_enabled() is enabled
    assert torch.equal(torch.get_rng_state(), numbers[0])
    assert random.getstate() == numbers[1]
    assert np.random.get_state()[1].tolist() == numbers[2]  # noqa: NPY002
    assert [module.training for module in network.modules()] == modes
    for name, parameter in network.named_parameters():
        assert parameter.grad is None
        assert parameter.requires_grad
        assert torch.equal(parameter, before[name])


def test_measured_at_the_start_when_due_and_at_the_end() -> None:
    network = language_model()
    for steps, expected in ((0, [0]), (2, [0, 2]), (3, [0, 3]), (7, [0, 3, 6, 7])):
        with CapacityMonitor(network, every=3) as monitor:
            for _ in range(steps):
                monitor.step()
        assert monitor.history.step.values.tolist() == expected


def test_counts_of_a_trainer_may_jump() -> None:
    monitor = CapacityMonitor(language_model(), every=10)
    monitor.start(4)
    for count in (4, 9, 9, 12, 12, 19, 31):
        monitor.step(count)
    monitor.stop()
    assert monitor.history.step.values.tolist() == [4, 12, 31]
    with pytest.raises(ValueError, match=r"number must be a whole number of at least 31, got 30"):
        monitor.step(30)


def test_the_optimizer_counts_inside_the_block_only() -> None:
    network = language_model()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with CapacityMonitor(network, every=2, optimizer=optimizer) as monitor:
        train(network, 5, optimizer=optimizer)
        with pytest.raises(RuntimeError, match=r"the optimizer given to this monitor counts its steps"):
            monitor.step()
    train(network, 5, optimizer=optimizer)
    assert monitor.steps == 5
    assert monitor.history.step.values.tolist() == [0, 2, 4, 5]
    with monitor:
        train(network, 3, optimizer=optimizer)
    assert monitor.history.step.values.tolist() == [0, 2, 4, 5, 6, 8]


def test_an_error_in_the_block_ends_the_watch_and_is_passed_on() -> None:
    network = language_model()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    monitor = CapacityMonitor(network, every=2, optimizer=optimizer)

    def fail() -> None:
        if monitor.steps == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), monitor:
        train(network, 4, fail, optimizer)
    train(network, 3, optimizer=optimizer)
    assert monitor.history.step.values.tolist() == [0, 2]


def test_what_is_watched() -> None:
    network = nn.ModuleDict(
        {
            "embed": nn.Embedding(6, 4),
            "conv": nn.Conv1d(4, 3, 2),
            "up": nn.Linear(4, 5),
            "down": nn.Linear(5, 4),
            "head": nn.Linear(4, 6),
        }
    )
    network["head"].weight = network["embed"].weight
    network.register_parameter("W_dec", nn.Parameter(torch.randn(8, 4)))
    network.register_parameter("bias", nn.Parameter(torch.randn(8)))

    def found(matrices: dict[str, str] | None) -> dict[str, tuple[str, int, int]]:
        history = CapacityMonitor(network, matrices).history
        sides = history.features.values, history.n_features.values.tolist(), history.d_hidden.values.tolist()
        return dict(zip(history.matrix.values, zip(*sides, strict=True), strict=True))

    up, down = ("rows", 5, 4), ("rows", 4, 5)
    assert found(None) == {"embed.weight": ("rows", 6, 4), "up.weight": up, "down.weight": down}
    assert found({"head.weight": "rows"}) == {"embed.weight": ("rows", 6, 4)}
    assert found({"W_dec": "rows", "conv.weight": "columns"}) == {
        "W_dec": ("rows", 8, 4),
        "conv.weight": ("columns", 4, 6),
    }
    assert found({"W_dec": "columns"}) == {"W_dec": ("columns", 4, 8)}
    assert found({"up.*": "columns", "*p.weight": "rows", "d*": "rows"}) == {
        "up.weight": ("columns", 4, 5),
        "down.weight": down,
    }
    assert list(found({"*": "rows"})) == [
        "embed.weight",
        "conv.weight",
        "up.weight",
        "down.weight",
        "W_dec",
    ]


def test_large_matrices_are_watched_only_if_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watched, "MOST_WORK", 2 * 12 * 5**2 + 2 * 5**3)
    network = language_model()  # 2 · 12 · 7² + 2 · 7³ at the head
    with pytest.warns(UserWarning, match=r"not watched: 4.weight \(2e\+03 multiply-adds\)"):
        monitor = CapacityMonitor(network)
    assert monitor.history.matrix.values.tolist() == ["0.weight", "1.weight"]
    assert CapacityMonitor(network, {"4.weight": "rows"}).history.matrix.values.tolist() == ["4.weight"]


def test_weights_that_are_not_finite_do_not_stop_training() -> None:
    network = language_model()
    with CapacityMonitor(network, every=1, follow={"1.weight": [2]}) as monitor:
        with torch.no_grad():
            network[1].weight[3, 1] = torch.nan
        with pytest.warns(RuntimeWarning, match=r"1.weight at step 1: W must be finite, got NaN or infinity in row 3"):
            monitor.step()
        with torch.no_grad():
            network[1].weight[3, 1] = 0
        monitor.step()
    history = monitor.history.sel(matrix="1.weight")
    assert history.total.isnull().values.tolist() == [False, True, False]
    assert history.n_impure.values.tolist()[1] == 0
    assert bool(history.capacity.isnull()[1].all())
    assert history.followed_capacity.isnull().values[:, 0].tolist() == [False, True, False]
    assert not monitor.history.sel(matrix="4.weight").total.isnull().any()


def test_the_norm_policy() -> None:
    W = torch.randn(9, 4) * torch.logspace(-3, 0, 9)[:, None]
    layer = nn.Embedding.from_pretrained(W)
    for norm, rows in (("raw", W), ("unit", nn.functional.normalize(W))):
        monitor = CapacityMonitor(layer, norm=norm)
        numbers = monitor.measure()
        C = reference.capacity(rows)
        assert numbers["capacity/weight/total"] == pytest.approx(float(C.sum()), rel=1e-5)
        small = rows.square().sum(1) < 1e-3 * rows.square().sum(1).max()
        assert numbers["capacity/weight/n_ignored"] == int((small | (C < 0.05)).sum())
        assert monitor.history.attrs["norm"] == norm


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_any_precision(dtype: torch.dtype) -> None:
    layer = nn.Linear(4, 9, dtype=dtype)
    total = CapacityMonitor(layer).measure()["capacity/weight/total"]
    assert total == pytest.approx(float(reference.capacity(layer.weight.detach()).sum()), rel=1e-5)


def test_few_features_in_many_dimensions() -> None:
    layer = nn.Linear(40, 6)
    with torch.no_grad():
        layer.weight *= torch.tensor([1e-5, 1e-3, 1, 1, 1, 0])[:, None]
    W = layer.weight.detach()
    for norm, rows in (("raw", W), ("unit", nn.functional.normalize(W.double()))):
        monitor = CapacityMonitor(layer, norm=norm, follow={"weight": range(6)})
        numbers = monitor.measure()
        found = torch.from_numpy(monitor.history.followed_capacity.values[0])
        assert_close(found, reference.capacity(rows), rtol=1e-6, atol=1e-12)
        M = rows.double().T @ rows.double()
        assert numbers["capacity/weight/effective_rank"] == pytest.approx(float(M.trace() ** 2 / (M @ M).trace()))
        assert numbers["capacity/weight/total_per_dimension"] == pytest.approx(float(found.sum()) / 40)
    with torch.no_grad():
        layer.weight[2, 7] = torch.inf
    with pytest.warns(RuntimeWarning, match=r"NaN or infinity in row 2 \(1 such rows\)"):
        monitor.measure()


def test_a_layer_of_zeros() -> None:
    layer = nn.Linear(4, 9)
    nn.init.zeros_(layer.weight)
    numbers = CapacityMonitor(layer).measure()
    assert numbers["capacity/weight/total"] == numbers["capacity/weight/effective_rank"] == 0
    assert numbers["capacity/weight/null_per_dimension"] == 0
    assert numbers["capacity/weight/n_ignored"] == 9


def test_what_is_logged_is_what_is_kept() -> None:
    logged: dict[int, dict[str, float]] = {}
    network = language_model()
    with CapacityMonitor(network, every=2, follow={"4.weight": [5]}, log=logged.__setitem__) as monitor:
        train(network, 3, monitor.step)
    history = monitor.history
    assert list(logged) == history.step.values.tolist() == [0, 2, 3]
    for step, numbers in logged.items():
        for name in history.matrix.values:
            at = history.sel(step=step, matrix=name)
            prefix = f"capacity/{name}/"
            mine = {key.removeprefix(prefix): value for key, value in numbers.items() if key.startswith(prefix)}
            expected = {key: float(at[key]) for key in at.data_vars if not at[key].ndim}
            expected |= {f"quantile_{q}": float(at.capacity.sel(quantile=q)) for q in at["quantile"].values.tolist()}
            if name == "4.weight":
                expected["feature_5"] = float(history.followed_capacity.sel(step=step)[0])
            assert mine == expected


def test_a_history_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    whole, network = language_model(), language_model()
    with CapacityMonitor(whole, every=3, follow={"0.weight": [1]}) as expected:
        train(whole, 10, expected.step)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05)
    with CapacityMonitor(network, every=3, follow={"0.weight": [1]}) as first:
        train(network, 6, first.step, optimizer)
    torch.save(first.state_dict(), tmp_path / "monitor.pt")
    second = CapacityMonitor(network, every=3, follow={"0.weight": [1]})
    second.load_state_dict(torch.load(tmp_path / "monitor.pt", weights_only=True))
    xr.testing.assert_identical(second.history, first.history)
    with second:
        train(network, 4, second.step, optimizer, first=6)
    xr.testing.assert_identical(second.history, expected.history)
    second.start(3)  # an earlier checkpoint: what came after it was given up
    assert second.history.step.values.tolist() == [0, 3]


def test_a_history_can_be_stored(tmp_path: Path) -> None:
    monitor = CapacityMonitor(language_model(), follow={"0.weight": [1]})
    assert monitor.history.sizes == {"step": 0, "matrix": 3, "quantile": 5, "followed": 1}
    monitor.measure()
    monitor.history.to_zarr(tmp_path / "history.zarr", consolidated=False)
    xr.testing.assert_equal(xr.open_zarr(tmp_path / "history.zarr", consolidated=False).load(), monitor.history)


@pytest.mark.bad_input
def test_mistakes() -> None:
    network = language_model()
    for arguments, message in (
        ({"every": 0}, r"every must be a whole number of at least 1, got 0"),
        ({"norm": "none"}, r"norm must be 'raw' or 'unit', got 'none'"),
        ({"matrices": {}}, r"matrices must be a mapping with at least one entry"),
        ({"matrices": {"7.weight": "rows"}}, r"matrices must be a name or pattern of 0.weight, 1.weight, .*'7.weight'"),
        ({"matrices": {"0.weight": "columns"}}, r"features must be 'rows' for an embedding, got 'columns'"),
        ({"matrices": {"1.weight": "row"}}, r"matrices\['1.weight'\] must be 'rows' or 'columns', got 'row'"),
        ({"matrices": {"1.bias": "rows"}}, r"matrices must be a name or pattern of .*'1.bias'"),
        ({"follow": {"2.weight": [0]}}, r"follow must be one of the matrices watched, 0.weight, 1.weight, 4.weight"),
        ({"follow": {"1.weight": [7]}}, r"follow\['1.weight'\] must be below 7, its number of features, got 7"),
        ({"follow": {"1.weight": [-1]}}, r"follow\['1.weight'\] must be a whole number of at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            CapacityMonitor(network, **arguments)
    with pytest.raises(ValueError, match=r"module must be a network with embeddings or linear layers"):
        CapacityMonitor(nn.ReLU())
    with pytest.raises(TypeError, match=r"module must be a torch.nn.Module, got list"):
        CapacityMonitor([network])
    other = CapacityMonitor(network, {"1.weight": "rows"})
    other.measure()
    with pytest.raises(ValueError, match=r"records must be of this monitor's matrices and followed features"):
        CapacityMonitor(network).load_state_dict(other.state_dict())
