"""Interventions and architectures against the best monosemantic allocation."""

from pathlib import Path
from typing import Any

import pytest
from torch.testing import assert_close

from polysem import theory
from polysem.features import geometric
from polysem.studies import Pareto, ParetoConfig, pareto

CONFIG = ParetoConfig(
    n_features=4,
    d_hidden=2,
    architectures=("tied identity", "tied relu"),
    restarts=2,
    n_shares=2,
    adam_steps=300,
    round_steps=100,
    batch_size=32,
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Pareto:
    return pareto(CONFIG, Path(tmp_path_factory.mktemp("pareto")) / "store.zarr")


def test_the_quadratic_model_meets_its_closed_forms(found: Pareto) -> None:
    v, F = geometric(4, 0.9), 20.0
    floor = float((F - 1) * v[2:].square().sum())
    points = {point.name: point for point in found.quadratic}
    best = float(theory.allocate(v, F, 2).loss) / floor
    assert_close(found.optimum, best, rtol=1e-3, atol=0)
    assert_close(float(points["no intervention"].loss.mean), best, rtol=1e-3, atol=0)
    assert_close(float(points["mask at once"].loss.mean), 1.0, rtol=1e-3, atol=0)
    assert float(points["penalty, 1 κ"].polysemanticity.mean) < 0.01
    assert all(float(point.loss.mean) >= best * 0.999 for point in found.quadratic)
    assert all(float(p.loss.mean) >= 0.999 for p in found.quadratic if float(p.polysemanticity.mean) < 1e-3)


def test_the_autoencoder_stands_beside_architectures(found: Pareto) -> None:
    points = {point.name: point for point in found.relu}
    assert float(points["no intervention"].polysemanticity.mean) > 0.5
    assert float(points["mask at once"].polysemanticity.mean) < 0.01
    assert_close(float(points["mask at once"].loss.mean), 1.0, rtol=0.02, atol=0)
    assert [point.name for point in found.relu if point.kind == "architecture"] == list(CONFIG.architectures)
    assert_close(float(points["tied identity"].loss.mean), 1.0, rtol=1e-6, atol=0)
    assert float(points["tied relu"].loss.mean) < 0.5


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"d_hidden": 8}, "n_features must be above d_hidden = 8, got 8"),
        ({"architectures": ("quadratic",)}, 'architectures must be without "quadratic"'),
        ({"feature_probability": 1.0}, r"feature_probability must be in \(0, 1\), got 1.0"),
        ({"kurtosis": 3.0}, "kurtosis must be above 3 and finite, got 3.0"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParetoConfig(**settings)
