"""The part on single features says what the numbers say, whichever way they come out."""

from dataclasses import replace

import pytest
import torch

from made_one_by_one import CONFIG, made_one_by_one
from polysem.reports._discussion_one_by_one import summary, written
from polysem.studies import OneByOneResult, TreatedModel, Treatment


@pytest.fixture(scope="module")
def result() -> OneByOneResult:
    return made_one_by_one()


def with_errors(result: OneByOneResult, **errors: float) -> OneByOneResult:
    """The result with these choice errors, in units of the price, everywhere; 0 for all other treatments."""

    def treated(model: TreatedModel, each: Treatment) -> Treatment:
        error = errors.get(each.name.replace(" ", "_"), 0.0)
        loss = torch.full_like(each.loss, model.best + error * model.price)
        return replace(each, loss=loss, n_impure=torch.zeros_like(each.n_impure))

    def of(model: TreatedModel) -> TreatedModel:
        model = replace(model, best=3.0, free=1.0)
        return replace(model, treatments=tuple(treated(model, each) for each in model.treatments))

    return OneByOneResult(*(of(model) for model in result.models))


def text(result: OneByOneResult) -> str:
    return " ".join(written(CONFIG, result).text)


def test_flattening_one_by_one_against_all_at_once(result: OneByOneResult) -> None:
    worse = text(with_errors(result, flatten_1=0.5))
    assert "chooses worse in 3 of 3 models" in worse
    assert "its median choice error is 0.5 times the price, that of all at once 0," in worse
    assert "chooses worse in 0 of 3 models" in text(with_errors(result, flatten=0.5))


def test_masking_against_the_shortcut(result: OneByOneResult) -> None:
    assert "So it is no better than the shortcut." in text(with_errors(result))
    assert "So it is better than the shortcut." in text(with_errors(result, keep_gain=1.0))
    other = text(with_errors(result, mask_benefit=1.0, mask_importance=1.0))
    assert "So it is not as good as the shortcut." in other
    assert "reaches the best set from 0% / 0% / 0% of the starts" in other
    assert "Masking by importance alone does so from 0% / 0% / 0%." in other


def test_tables_and_summary(result: OneByOneResult) -> None:
    made = with_errors(result, flatten_1=0.5)
    chapter = written(CONFIG, made)
    for part in chapter.parts:
        (table,) = part.tables
        assert [row[0] for row in table.rows][:3] == [
            "flatten, all at once",
            "flatten, 1 a round",
            "flatten, 4 a round",
        ]
        assert table.rows[1][1:5] == ("4", "0.50", "0%", "0")
        assert table.rows[0][1:5] == ("3", "0.00", "100%", "0")
        assert [name for name, _ in part.figures] == ["rounds", "choice"]
    lines = list(summary(CONFIG, made))
    assert lines[0][1] == "0.50, 0.00"
    assert lines[1][1] == "100%, 100%"
