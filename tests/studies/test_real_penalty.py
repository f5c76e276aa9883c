"""The penalty on networks that read digits, in small: what features are, what is measured, and what the words say."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from polysem.measure import capacity
from polysem.reports._discussion_real_penalty import real_penalty_part, written
from polysem.reports._settings import ReproduceConfig, Sweeping
from polysem.studies import Penalised, RealPenalty, RealPenaltyConfig, real_penalty
from polysem.studies._digits import Images, NarrowClassifier, TiedAutoencoder, WideClassifier, load_digits

SMALL = RealPenaltyConfig(
    hidden=24, kappa=(0.1, 30.0), starts=3, steps=60, batch_size=32, curve_images=32, null_draws=4
)


@pytest.fixture(scope="module")
def result() -> RealPenalty:
    return real_penalty(SMALL)


@pytest.fixture(scope="module")
def images() -> tuple[Images, Images]:
    return load_digits(2, torch.Generator().manual_seed(0))


def test_splits_share_no_image_and_differ_between_starts(images: tuple[Images, Images]) -> None:
    train, test = images
    assert train.label.shape[1] + test.label.shape[1] == 1797
    for x in (torch.cat([train.x[k], test.x[k]]) for k in range(2)):
        assert len(x.unique(dim=0)) == 1797
    assert not torch.equal(train.x[0], train.x[1])
    assert 0 <= train.x.min() <= train.x.max() == 1


def test_classes_are_read_against_the_other_classes() -> None:
    reader = NarrowClassifier(torch.ones(1, 3), 4, 5)
    generator = torch.Generator().manual_seed(0)
    m, v = torch.randn((2, 6, 4), generator=generator, dtype=torch.float64)
    R = reader.response(m, v)
    z = v @ m.mT
    for i in range(6):
        others = torch.cat([z[i, :i], z[i, i + 1 :]])
        assert_close(R[i], z[i] - others.mean())
    assert_close(reader.response(m, torch.zeros_like(v)), torch.zeros(6, 6).double())


def test_pixels_of_the_wide_classifier_are_its_input_weights(images: tuple[Images, Images]) -> None:
    train, _ = images
    reader = WideClassifier(train.x.std(-2), 16, 16)
    weights = reader.start(torch.Generator().manual_seed(0))
    rows, same = reader.frame(weights, train)
    assert rows is same
    assert_close(rows[0, 1, 7], weights["embed"][0, 1, 7] * train.x[1, :, 7].std())


def test_outputs_moved_by_a_pixel_by_a_loop(images: tuple[Images, Images]) -> None:
    _, test = images
    few = Images(test.x[:1, :20], test.label[:1, :20])
    reader = TiedAutoencoder(few.x.std(-2), 3, 3)
    weights = reader.start(torch.Generator().manual_seed(0))
    before = reader.outputs(weights, few.x).relu()
    numbers, energies = [], []
    for k in range(few.x.shape[-1]):
        other = few.x.clone()
        other[..., k] = few.x.roll(1, -2)[..., k]
        moved = (reader.outputs(weights, other).relu() - before).square().mean(-2)[0, 0]
        energies.append(float(moved.sum()))
        numbers.append(float(moved.sum() ** 2 / moved.square().sum()) if moved.any() else 0.0)
    expected = np.average(numbers, weights=energies)
    assert_close(float(reader.count(weights, few)), float(expected), rtol=1e-4, atol=0)


def test_a_pure_code_moves_one_output(images: tuple[Images, Images]) -> None:
    _, test = images
    n = test.x.shape[-1]
    reader = TiedAutoencoder(test.x.std(-2), 5, 5)
    rows = torch.eye(n)[:, 20:25].expand(1, 2, n, 5)
    weights = {"read": rows, "bias": torch.zeros(1, 2, n)}
    assert_close(reader.count(weights, test), torch.ones(1, 2))
    assert_close(capacity(rows)[0, 0, 20:25], torch.ones(5))
    kept = reader.ignoring(test)[:, 20:25].sum(-1)
    fallen = reader.ignoring(test).sum(-1) * (1 - reader.scores(reader.outputs(weights, test.x), test))
    missing = test.x.square().mean(-2).sum(-1) - test.x[..., 20:25].square().mean(-2).sum(-1)
    assert_close(fallen, missing[None])
    assert (kept > 0).all()


def test_the_penalty_lowers_the_index_and_the_control_feels_nothing(result: RealPenalty) -> None:
    assert [one.name for one in result.networks] == [
        "wide classifier",
        "tied autoencoder",
        "untied autoencoder",
        "narrow classifier",
    ]
    for one in result.networks:
        index = one.penalised.polysemanticity
        assert index.shape == (4 if one.measured else 3, 3)
        assert (one.kappa[0] == 0).all()
        assert index[2].mean() < index[0].mean() - 0.1
        assert (one.penalised.number.sum(-1) == one.n_features).all()
        assert (one.penalised.loss[0] < 1).all()
    assert result.networks[1].monosemantic is not None
    assert result.networks[0].monosemantic is None


def test_the_same_seed_gives_the_same_numbers() -> None:
    short = replace(SMALL, steps=4)
    first, again, other = (real_penalty(replace(short, seed=seed)).networks[-1].penalised.loss for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).all()


def test_weakest_is_the_weakest_that_surely_halves(result: RealPenalty) -> None:
    one = made(result, np.array([0.8, 0.5, 0.1, 0.3]))
    assert one.weakest == 3  # κ 5, which stands last
    assert made(result, np.array([0.8, 0.5, 0.6, 0.5])).weakest is None


def test_words_follow_the_numbers(result: RealPenalty) -> None:
    one = made(result, np.array([0.8, 0.5, 0.1, 0.3]))
    chapter, ((_, measured, _),) = written(replace(result, networks=(one,)), SMALL)
    says = " ".join(chapter.text)
    assert "κ = 5 takes polysemanticity from 0.80 to 0.30" in says
    assert "outputs moved by a pixel rises (1 to 4); at the strongest κ it rises (1 to 3)" in says
    assert measured.startswith("0.80 to 0.30")
    for table in chapter.tables:
        assert {len(row) for row in table.rows} == {len(table.header)}
    none = made(result, np.array([0.8, 0.8, 0.8, 0.8]))
    assert "surely halves" in " ".join(written(replace(result, networks=(none,)), SMALL)[0].text)


def made(result: RealPenalty, index: np.ndarray) -> Penalised:
    """The tied autoencoder with other numbers, κ 0, 1, 10, 5."""
    one = result.networks[1]
    each = np.ones((4, 3))
    count = np.arange(1.0, 5)[:, None] * each
    reading = replace(one.penalised, polysemanticity=index[:, None] * each, count=count)
    return replace(one, kappa=np.array([0.0, 1, 10, 5])[:, None] * each, penalised=reading, removed=reading)


def test_without_scikit_learn_the_part_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    chapter, summary = real_penalty_part(ReproduceConfig.of(quick=True), Sweeping())
    assert chapter.text == ("Left out: handwritten digits need scikit-learn: install polysem[studies].",)
    assert (chapter.figures, summary) == ((), ())


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("name", "value"),
    [("bottleneck", 10), ("kappa", (1.0, 1.0)), ("kappa", ()), ("starts", 1), ("learning_rate", 0.0), ("steps", 2)],
)
def test_bad_settings(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        RealPenaltyConfig(**{name: value})
