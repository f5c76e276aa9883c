"""Treatments of features one by one: best sets against a search over all sets, prices against the closed form."""

from itertools import combinations

import pytest
import torch
from torch.testing import assert_close

from made_one_by_one import CONFIG, made_one_by_one
from polysem import theory
from polysem.features import geometric
from polysem.interventions import MASK_RULES
from polysem.studies import OneByOneConfig, OneByOneResult


@pytest.fixture(scope="module")
def result() -> OneByOneResult:
    return made_one_by_one()


def test_best_sets_and_prices(result: OneByOneResult) -> None:
    v = geometric(4, CONFIG.decay)
    gain = v.square() * (CONFIG.kurtosis - 1)
    model = result.quadratic
    assert model.best == pytest.approx(min(float(gain[list(out)].sum()) for out in combinations(range(4), 2)))
    assert model.free == pytest.approx(float(theory.allocate(v, CONFIG.kurtosis, 2).loss))
    assert_close(model.trained, torch.full((2,), model.free, dtype=torch.float64), rtol=1e-6, atol=0)
    assert (model.n_impure == 4).all()
    assert model.price == model.best - model.free > 0
    assert_close(model.relative_error("flatten"), (model.one("flatten").loss - model.best) / model.price)
    variance = 0.05 / 3 - 0.05**2 / 4
    assert result.relu.best == pytest.approx(variance * 0.9, rel=1e-6)


def test_all_treatments_of_all_models(result: OneByOneResult) -> None:
    names = ["flatten", "flatten 1", "flatten 4", *(f"mask {by}" for by in MASK_RULES), "keep gain"]
    for model in result.models:
        assert [each.name for each in model.treatments] == names
        for each in model.treatments[3:]:
            assert (each.n_impure == 0).all()
            assert (each.loss >= model.best * (1 - 1e-6)).all()
        assert (model.one("keep gain").n_rounds <= 1).all()
        assert (model.one("flatten 4").n_rounds <= model.one("flatten 1").n_rounds).all()


def test_the_best_set_by_gain(result: OneByOneResult) -> None:
    for model in (result.quadratic, result.mixed):
        for name in ("mask gain", "mask benefit", "keep gain"):
            assert model.share_best(name) == 1
            assert_close(model.choice_error(name), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-6)
    assert result.mixed.best != result.quadratic.best


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 4}, "n_features must be a whole number of at least 5, got 4"),
        ({"kurtosis": 3.0}, "kurtosis must be above 3, got 3.0"),
        ({"decay": 0.0}, "decay must be in"),
        ({"at_once": ()}, "at_once must be at least one number"),
        ({"at_once": (0,)}, "at_once must be a whole number of at least 1, got 0"),
        ({"restarts": 0}, "restarts must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_settings(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OneByOneConfig(**options)  # type: ignore[arg-type]
