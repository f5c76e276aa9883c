"""The configuration refuses what it does not know, survives JSON, and does not wait for torch."""

import math
import subprocess
import sys

import pytest

from polysem.training import FitConfig


def test_json_round_trip() -> None:
    config = FitConfig(adam_steps=7, learning_rate=0.1, newton_steps=3, gradient_tolerance=1e-6, record_every=2)
    assert FitConfig.from_json(config.to_json()) == config
    assert config != FitConfig()
    sampled = FitConfig(
        loss="sampled", stratified=True, compile=True, schedule="constant", warmup_steps=9, batch_size=8
    )
    assert FitConfig.from_json(sampled.to_json()) == sampled
    assert FitConfig.from_json("{}") == FitConfig()


@pytest.mark.bad_input
def test_unknown_settings_are_refused() -> None:
    with pytest.raises(TypeError, match="adam_stepz"):
        FitConfig.from_json('{"adam_stepz": 3}')


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("adam_steps", [-1, 1.5, True, "3"]),
        ("newton_steps", [-1, 2.0]),
        ("record_every", [0]),
        ("learning_rate", [0.0, -1.0, math.inf, math.nan, "fast"]),
        ("gradient_tolerance", [0.0, math.nan]),
        ("warmup_steps", [-1, 301]),
        ("batch_size", [0]),
        ("lbfgs_steps", [-1]),
        ("checkpoint_every", [0]),
        ("loss", ["exactly", None, 1]),
        ("schedule", ["linear"]),
        ("polish", ["adam", None]),
        ("stratified", [True, 1]),
        ("compile", [True, "yes"]),
        ("record_capacities", [1]),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"{name} must be"):
            FitConfig(**{name: value})


@pytest.mark.bad_input
def test_names_of_choices_are_listed() -> None:
    with pytest.raises(ValueError, match='polish must be "newton" or "lbfgs" or "none", got \'adam\''):
        FitConfig(polish="adam")
    with pytest.raises(ValueError, match='stratified must be False unless loss="sampled", got True'):
        FitConfig(stratified=True)


def test_needs_no_torch() -> None:
    code = "import sys; from polysem.training import FitConfig; FitConfig(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
