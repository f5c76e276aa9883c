"""The study of the whole procedure: what is known of quadratic models, and what is measured of pixels."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from polysem.studies import Treating, TreatingConfig, treating
from polysem.studies import _treating as module

SMALL: dict[str, Any] = {
    "n_features": 3,
    "d_hidden": 1,
    "seeds": 2,
    "n_samples": 2000,
    "steps": 60,
    "restarts": 3,
    "search_steps": 25,
    "digits_hidden": 8,
    "digits_steps": 30,
    "digits_rounds": 1,
    "digits_directions": 2,
    "digits_samples": 150,
}


@pytest.fixture(scope="module")
def found() -> Treating:
    return treating(TreatingConfig(**SMALL))


def test_what_is_found_is_treated_as_well_as_what_is_known(found: Treating) -> None:
    ways = {way.name: way for way in found.ways}
    assert ways["trained"].n_monosemantic == 0
    for name in ("search, flatten", "search, mask", "known, flatten", "known, mask"):
        assert ways[name].n_monosemantic == 2
        assert (ways[name].n_true == ways[name].n_treated).all()
        assert (ways[name].loss > 0.97 * found.floor).all()
    assert_close(ways["search, mask"].loss, torch.full((2,), found.floor, dtype=torch.float64), rtol=0.03, atol=0)


def test_directions_of_pixels_are_described_by_what_is_measured(found: Treating) -> None:
    pytest.importorskip("sklearn")
    assert found.digits is not None
    assert [one.name for one in found.digits.found] == ["diminishing", "non_gaussian"]
    for one in found.digits.found:
        assert_close(one.directions.square().sum(-1), torch.ones(2).double())
        assert (one.directions.amax(-1) == one.directions.abs().amax(-1)).all()
        largest = one.directions.square().sort(-1).values[:, -8:].sum(-1)
        assert_close(one.local, largest)
    done = found.digits.treated
    assert done.loss.shape == (2, 1)
    assert 0 < found.digits.relative_loss < 1
    assert found.digits.control <= float(done.loss[0, 0])


def test_without_scikit_learn_pixels_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setattr(module, "_quadratic", lambda *_: ())
    assert treating(TreatingConfig(**SMALL)).digits is None


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"steps": 0}, "steps must be a whole number"),
        ({"digits_samples": 1}, "digits_samples must be a whole number of at least 2"),
        ({"d_hidden": 8}, "n_features must be above d_hidden = 8"),
        ({"kurtosis": 3.0}, "kurtosis must be above 3 and finite"),
        ({"decay": 0.0}, r"decay must be in \(0, 1\]"),
    ],
)
@pytest.mark.bad_input
def test_bad_settings(setting: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TreatingConfig(**setting)
