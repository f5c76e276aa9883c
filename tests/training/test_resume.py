"""A fit that was killed and resumed equals one that was not, bit for bit; checkpoints of others are refused."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.testing import assert_close

from polysem.features import SparseFeatures, SparseGaussian, SparseSign, SparseUniform
from polysem.training import Fit, FitConfig, fit
from polysem.zoo import QuadraticModel, TiedAutoencoder, ToyModel, UntiedAutoencoder

V = [1.0, 0.8, 0.6, 0.4]
STEPS = 40


class KilledError(Exception):
    pass


class Ramp(nn.Module):
    """A penalty that grows with every call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, model: ToyModel) -> Tensor:
        self.calls += 1
        return 0.01 * self.calls * model.embedding.square().sum((-2, -1))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quadratic() -> tuple[ToyModel, SparseFeatures]:
    return QuadraticModel(4, 2, n_inst=3, generator=seeded(0)), SparseSign([0.1] * 4, standardise=True)


def tied() -> tuple[ToyModel, SparseFeatures]:
    model = TiedAutoencoder(4, 2, n_inst=3, generator=seeded(0), dtype=torch.float32)
    return model, SparseUniform([[0.2] * 4, [0.1] * 4, [0.5] * 4])


def killer(at: int) -> object:
    def stop(step: int) -> None:
        if step == at:
            raise KilledError

    return stop


def assert_same(first: Fit, second: Fit) -> None:
    for name, value in first.model.state_dict().items():
        assert_close(second.model.state_dict()[name], value, rtol=0, atol=0)
    for name in ("loss", "stderr", "gradient_norm", "status", "n_steps", "history"):
        assert_close(getattr(second, name), getattr(first, name), rtol=0, atol=0)
    assert (first.capacities is None) == (second.capacities is None)
    if first.capacities is not None:
        assert_close(second.capacities, first.capacities, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "config", "arguments"),
    [
        (quadratic, FitConfig(), {}),
        (quadratic, FitConfig(polish="lbfgs", warmup_steps=15, record_capacities=True), {"mask": [False] * 3 + [True]}),
        (quadratic, FitConfig(schedule="constant"), {"penalties": Ramp}),
        (tied, FitConfig(loss="sampled", record_capacities=True), {}),
        (tied, FitConfig(loss="sampled", stratified=True, warmup_steps=5), {"penalties": Ramp}),
    ],
)
def test_resumed_equals_uninterrupted(
    make: object, config: FitConfig, arguments: dict[str, object], tmp_path: Path
) -> None:
    config = replace(config, adam_steps=STEPS, record_every=3, checkpoint_every=7, batch_size=32)

    def run(**more: object) -> tuple[Fit, Tensor]:
        model, features = make()
        given = {**arguments, **more}
        if "penalties" in given:
            given["penalties"] = [given["penalties"]()]
        generator = seeded(1) if config.loss == "sampled" else None
        done = fit(model, features, V, config, generator=generator, **given)
        return done, torch.zeros(()) if generator is None else generator.get_state()

    whole, state = run()
    kept, state_kept = run(resume=tmp_path / "whole")  # writing checkpoints changes nothing
    assert_same(whole, kept)
    assert_close(state_kept, state, rtol=0, atol=0)
    path = tmp_path / "fit.safetensors"
    steps = sorted(Random(repr(config)).sample(range(1, STEPS + 1), 3))
    for at in steps:
        with pytest.raises(KilledError):
            run(resume=path, progress=killer(at))
        assert path.exists() == (at >= 7)
    resumed, state_resumed = run(resume=str(path))
    assert_same(whole, resumed)
    assert_close(state_resumed, state, rtol=0, atol=0)
    again, _ = run(resume=path)  # from the end of Adam
    assert_same(whole, again)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fit.safetensors", "whole"]  # no temporary file stays


def test_progress_counts_on_from_the_checkpoint(tmp_path: Path) -> None:
    model, features = quadratic()
    config, seen = FitConfig(adam_steps=20, checkpoint_every=5), []
    with pytest.raises(KilledError):
        fit(model, features, V, config, resume=tmp_path / "a", progress=killer(13))
    fit(model, features, V, config, resume=tmp_path / "a", progress=seen.append)
    assert seen == list(range(11, 21))


def test_settings_are_readable_json(tmp_path: Path) -> None:
    model, features = quadratic()
    fit(model, features, V, FitConfig(adam_steps=3), resume=tmp_path / "a")
    with safe_open(tmp_path / "a", framework="pt") as file:
        metadata = file.metadata()
    settings = json.loads(metadata["settings"])
    assert (settings["config.adam_steps"], metadata["step"]) == (3, "3")
    assert "QuadraticModel" in settings["model"]


@pytest.mark.bad_input
def test_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    path, config = tmp_path / "a", FitConfig(adam_steps=5, loss="sampled", batch_size=8)
    model, features = tied()
    start = {"model": model, "features": features, "importance": V, "config": config}

    def run(**changes: object) -> None:
        given = {**start, **changes}
        fit(**given, generator=seeded(1), resume=path)

    run()
    run(config=replace(config, checkpoint_every=1))  # changes nothing that is computed
    narrow, _ = tied()
    with torch.no_grad():
        narrow.W[0, 0, 0] += 1e-3
    tanh = TiedAutoencoder(4, 2, n_inst=3, activation="tanh", generator=seeded(0), dtype=torch.float32)
    untied = UntiedAutoencoder(4, 2, n_inst=3, generator=seeded(0), dtype=torch.float32)
    for changes, difference in (
        ({"config": replace(config, learning_rate=0.1)}, r"config\.learning_rate = 0\.05, not 0\.1"),
        ({"config": replace(config, adam_steps=6)}, r"config\.adam_steps = 5, not 6"),
        ({"config": replace(config, stratified=True)}, r"config\.stratified = False, not True"),
        ({"model": untied}, "model = TiedAutoencoder .*, not UntiedAutoencoder"),
        ({"model": tied()[0].double()}, "model = .*float32.*, not .*float64"),
        ({"model": narrow}, "other values of the starting W of the model"),
        ({"model": tanh}, "other values of losses of the model on probe inputs"),
        ({"features": SparseUniform([0.2] * 4)}, "other values of features"),
        ({"features": SparseGaussian(features.feature_probability)}, "other values of features"),
        ({"importance": [1.0, 0.8, 0.6, 0.5]}, "other values of importance"),
        ({"mask": [False, False, False, True]}, "other values of mask"),
        ({"penalties": [Ramp()]}, r"penalties = \[\], not \['Ramp'\]"),
    ):
        with pytest.raises(
            ValueError, match=f"resume must be a checkpoint of this fit, got .*, written with {difference}"
        ):
            run(**changes)
    run()  # a refusal leaves the file as it was


@pytest.mark.bad_input
def test_bad_paths_and_files_are_refused(tmp_path: Path) -> None:
    model, features = quadratic()
    config = FitConfig(adam_steps=2)
    for path in (tmp_path, tmp_path / "no" / "a"):
        with pytest.raises(ValueError, match="resume must be the path of a file in a directory that exists"):
            fit(model, features, V, config, resume=path)
    path = tmp_path / "a"
    fit(model, features, V, config, resume=path)
    whole = path.read_bytes()
    for content in (b"", b"junk" * 100, whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="resume must be a checkpoint of a fit, got"):
            fit(model, features, V, config, resume=path)
        assert path.read_bytes() == content


def test_failed_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, features = quadratic()
    path, config = tmp_path / "a", FitConfig(adam_steps=10, checkpoint_every=5)
    with pytest.raises(KilledError):
        fit(model, features, V, config, resume=path, progress=killer(5))
    whole, write = path.read_bytes(), Path.write_bytes

    def full_disk(self: Path, data: bytes) -> int:
        write(self, data[:100])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space left"):
        fit(model, features, V, config, resume=path)
    monkeypatch.undo()
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
