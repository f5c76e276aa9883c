"""Dictionaries compared: planted matches are found, and nothing is where nothing was planted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr, ttest_ind
from torch import Tensor
from torch.testing import assert_close

import reference
from polysem.networks import DictionaryComparison, compare_dictionaries, compare_seeds

N, D = 60, 12


def made(folder: Path, name: str, decoder: Tensor, b_dec: Tensor | None = None) -> Path:
    """A dictionary as Gemma Scope stores it."""
    path = folder / f"{name}.npz"
    bias = torch.zeros(decoder.shape[1]) if b_dec is None else b_dec
    np.savez(path, W_enc=decoder.T.numpy(), W_dec=decoder.numpy(), b_enc=np.zeros(len(decoder)), b_dec=bias.numpy())
    return path


def gaussian(seed: int, n: int = N, d: int = D) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


FIRST = gaussian(0)
SECOND = torch.cat([gaussian(1)[:20], -3 * FIRST[:35]])  # 35 of the 60 are there, turned round and longer


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> DictionaryComparison:
    folder = tmp_path_factory.mktemp("pair")
    return compare_dictionaries(made(folder, "a", FIRST), made(folder, "b", SECOND), shared_above=0.999, draws=6)


def cosines(first: Tensor, second: Tensor) -> Tensor:
    return torch.tensor([[float(a @ b / a.norm() / b.norm()) for b in second] for a in first], dtype=torch.float64)


def test_best_matches_are_those_of_all_pairs(compared: DictionaryComparison) -> None:
    every = cosines(FIRST, SECOND)
    assert compared.forward.index.tolist() == every.abs().argmax(1).tolist()
    assert compared.backward.index.tolist() == every.abs().argmax(0).tolist()
    assert_close(compared.forward.cosine.abs(), every.abs().amax(1))
    assert compared.forward.mean == pytest.approx(float(every.abs().amax(1).mean()))
    assert compared.forward.index[:35].tolist() == list(range(20, 55))
    assert float(compared.forward.cosine[:35].max()) < -0.999
    assert compared.shared == (pytest.approx(35 / 60), pytest.approx(35 / 55))


def test_pairs_are_those_of_the_best_assignment(compared: DictionaryComparison) -> None:
    assert compared.matched is not None
    assert compared.matched_cosine is not None
    assert len(compared.matched) == 55
    pairs = dict(compared.matched.tolist())
    assert len(set(pairs.values())) == 55
    assert all(pairs[i] == 20 + i for i in range(35))
    every = cosines(FIRST, SECOND)
    assert_close(compared.matched_cosine, every[compared.matched[:, 0], compared.matched[:, 1]], rtol=0, atol=1e-6)


def test_capacity_of_shared_latents(compared: DictionaryComparison) -> None:
    capacity = reference.capacity(FIRST)
    assert_close(compared.forward.capacity, capacity)
    test = ttest_ind(capacity[:35].numpy(), capacity[35:].numpy(), equal_var=False)
    low, high = test.confidence_interval(0.95)
    found = compared.forward.capacity_difference(0.999)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.value == pytest.approx(float(capacity[:35].mean() - capacity[35:].mean()))
    other = reference.capacity(SECOND)
    expected = spearmanr(capacity[:35].numpy(), other[20:].numpy()).statistic
    assert compared.matched_capacities.value == pytest.approx(expected)
    assert compared.matched_capacities.low < expected < compared.matched_capacities.high


def test_intervals_of_rank_correlations_cover(tmp_path: Path) -> None:
    """Where capacity and counterparts have nothing to do with each other, nearly all intervals say so."""
    covered = 0
    for seed in range(12):
        paths = [made(tmp_path, f"{seed}-{k}", gaussian(1000 + 2 * seed + k, 40, 8)) for k in range(2)]
        found = compare_dictionaries(*paths, draws=2).forward.capacity_and_cosine
        covered += found.low <= 0 <= found.high
    assert covered >= 9


def test_unrelated_dictionaries_are_found_by_chance(tmp_path: Path) -> None:
    paths = [made(tmp_path, str(k), gaussian(30 + k, 200, 20), gaussian(70 + k, 1, 20)[0]) for k in range(2)]
    found = compare_dictionaries(*paths, draws=8)
    for way in (found.forward, found.backward):
        for null in (way.isotropic, way.covariance):
            low, high = null.interval
            assert low <= way.mean <= high
            assert len(null.cosines) == 8 * 200
    assert "no better than random directions" in found.verdict
    assert found.centres is not None
    assert abs(found.centres) < 0.5
    assert "different networks" in found.verdict


def test_shared_second_moments_are_no_shared_latents(tmp_path: Path) -> None:
    """Both crowd into the same few directions, independently: more than isotropic chance, and no more than that."""
    spread = torch.logspace(0, -2, 20, dtype=torch.float64)
    paths = [made(tmp_path, str(k), gaussian(7 + k, 300, 20) * spread) for k in range(2)]
    found = compare_dictionaries(*paths, draws=8)
    for way in (found.forward, found.backward):
        assert way.mean > way.isotropic.interval[1]
        assert way.covariance.interval[0] <= way.mean <= way.covariance.interval[1]
    assert "no better than the second moments explain" in found.verdict


def test_related_dictionaries(compared: DictionaryComparison) -> None:
    assert "beyond chance, second moments taken into account" in compared.verdict
    rows = {label: (one, other) for label, one, other in compared.table()}
    assert rows["shared (|cosine| ≥ 0.999)"] == ("58.3%", "63.6%")
    assert rows["matched one to one, shared"][0] == "35 of 55 pairs"


def test_equal_seeds_equal_draws(tmp_path: Path) -> None:
    paths = [made(tmp_path, str(k), gaussian(k)) for k in range(2)]
    one, again, other = (compare_dictionaries(*paths, seed=seed, draws=2) for seed in (3, 3, 4))
    assert_close(one.forward.isotropic.means, again.forward.isotropic.means, rtol=0, atol=0)
    assert not torch.equal(one.forward.isotropic.means, other.forward.isotropic.means)


def test_dead_latents_are_left_out(tmp_path: Path) -> None:
    firing = torch.ones(N)
    firing[:30] = 0
    paths = [made(tmp_path, "a", FIRST), made(tmp_path, "b", SECOND)]
    found = compare_dictionaries(*paths, firing=(firing, None), draws=2)
    assert found.forward.latents.tolist() == list(range(30, 60))
    assert int(found.backward.shared(0.999).sum()) == 5
    assert found.matched is not None
    assert int(found.matched[:, 0].min()) == 30


def test_large_dictionaries_are_not_matched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polysem.networks._compare_dictionaries.MOST_MATCHED", 54)
    found = compare_dictionaries(made(tmp_path, "a", FIRST), made(tmp_path, "b", SECOND), draws=2)
    assert found.matched is None
    assert "matched" not in " ".join(label for label, _, _ in found.table())


def test_seeds(tmp_path: Path) -> None:
    shared = gaussian(0, 30)
    parts = [torch.cat([shared, gaussian(10 + k, 10 * k)]) for k in range(3)]
    found = compare_seeds([made(tmp_path, str(k), rows) for k, rows in enumerate(parts)], draws=2, shared_above=0.999)
    expected = torch.tensor([[1, 1, 1], [30 / 40, 1, 30 / 40], [30 / 50, 30 / 50, 1]], dtype=torch.float64)
    assert_close(found.shared, expected)
    for (i, j), way in found.ways.items():
        assert_close(way.cosine.abs(), cosines(parts[i], parts[j]).abs().amax(1))
        assert found.best[i, j] == way.mean
        assert found.chance[i, j] == way.covariance.mean
    assert_close(found.total, torch.stack([reference.capacity(rows).sum() / D for rows in parts]))
    excess = {
        place: way.capacity_and_cosine.value - float(way.covariance.correlations.mean())
        for place, way in found.ways.items()
    }
    each = [np.mean([excess[i, j] for j in range(3) if j != i]) for i in range(3)]
    middle, half = np.mean(each), 4.302653 * np.std(each, ddof=1) / 3**0.5
    replication = found.replication
    assert replication.value == pytest.approx(middle, rel=1e-6)
    assert (replication.low, replication.high) == (pytest.approx(middle - half), pytest.approx(middle + half))


@pytest.mark.bad_input
def test_bad_arguments(tmp_path: Path) -> None:
    a, b = made(tmp_path, "a", FIRST), made(tmp_path, "b", gaussian(0, 20, 5))
    with pytest.raises(ValueError, match="second must be of the first's length of decoder rows, 12, got 5"):
        compare_dictionaries(a, b)
    with pytest.raises(ValueError, match="shared_above must be above 0"):
        compare_dictionaries(a, a, shared_above=0)
    with pytest.raises(ValueError, match="draws must be a whole number of at least 2"):
        compare_dictionaries(a, a, draws=1)
    with pytest.raises(ValueError, match="sources must be at least three dictionaries"):
        compare_seeds([a, a])


def test_real_dictionaries_are_of_different_networks(sae_rf_folder: Path) -> None:
    """Each seed trained its own classifier: neither directions nor activation means have anything in common."""
    found = compare_seeds([sae_rf_folder / f"sae_seed{seed}.pt" for seed in range(5)], draws=2)
    assert max(abs(pair.centres or 0.0) for pair in found.pairs) < 0.2
    assert float((found.best - found.chance).nan_to_num().abs().max()) < 0.01
    assert float(found.shared.sum()) == 5
    assert "different networks" in found.verdict
