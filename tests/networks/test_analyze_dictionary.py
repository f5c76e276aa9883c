"""What is measured of a dictionary, against loops over its matrices."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import reference
from polysem.measure import leverage, report
from polysem.networks import DictionaryAnalysis, analyze_dictionary, dictionary

D, N = 6, 20


def made(folder: Path, decoder: Tensor, encoder: Tensor | None = None, name: str = "params") -> Path:
    """A dictionary as Gemma Scope stores it."""
    path = folder / f"{name}.npz"
    encoder = decoder if encoder is None else encoder
    b_dec = np.zeros(decoder.shape[1])
    np.savez(path, W_enc=encoder.T.numpy(), W_dec=decoder.numpy(), b_enc=np.zeros(len(decoder)), b_dec=b_dec)
    return path


def gaussian(seed: int, n: int = N, d: int = D) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


W, V = gaussian(0), gaussian(1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> DictionaryAnalysis:
    return analyze_dictionary(made(tmp_path_factory.mktemp("sae"), W, V), draws=3)


def test_capacities(measured: DictionaryAnalysis) -> None:
    assert_close(measured.report.capacity, reference.capacity(W))
    assert measured.response is not None
    assert_close(measured.response, reference.response_capacity(W, V))
    assert measured.alignment is not None
    assert_close(measured.alignment, torch.nn.functional.cosine_similarity(W, V, dim=1))
    assert measured.encoder_norm is not None
    assert_close(measured.encoder_norm, V.norm(dim=1))
    expected = report(W, draws=3)
    assert_close(measured.report.isotropic.totals, expected.isotropic.totals, rtol=0, atol=0)
    lines = dict(measured.table())
    assert lines["total of the best linear readout (leverage)"] == f"{float(leverage(W).sum()):.4f}"


def test_unit_norms_and_scales(tmp_path: Path) -> None:
    unit, scale = torch.nn.functional.normalize(W, dim=1), torch.linspace(0.5, 2, N, dtype=torch.float64)
    path = made(tmp_path, W, V)
    for options, rows in (
        ({"norm": "unit"}, unit),
        ({"scale": scale}, W * scale[:, None]),
        ({"norm": "unit", "scale": scale}, unit * scale[:, None]),
    ):
        found = analyze_dictionary(path, draws=2, **options)
        assert_close(found.report.capacity, reference.capacity(rows))
        assert found.response is not None
        assert_close(found.response, reference.response_capacity(rows, V))


def test_nearest_latents_and_duplicates(tmp_path: Path) -> None:
    rows = torch.cat([W, W[3:5], -2 * W[7:8]])
    found = analyze_dictionary(made(tmp_path, rows), draws=2)
    assert found.duplicated.tolist() == [3, 4, 7, 20, 21, 22]
    pairs = dict(zip(found.nearest.feature.tolist(), found.nearest.index.tolist(), strict=True))
    assert (pairs[3], pairs[20], pairs[7], pairs[22]) == (20, 3, 22, 7)
    assert found.nearest.cosine[7] == pytest.approx(-1)
    lines = dict(found.table())
    assert lines["duplicated (|cosine| ≥ 0.95)"] == "6 of 23 searched (26.1%)"
    some = analyze_dictionary(made(tmp_path, rows, name="some"), draws=2, search=4)
    assert some.nearest.feature.tolist() == [0, 5, 11, 17]
    assert some.nearest.index.tolist() == [pairs[latent] for latent in (0, 5, 11, 17)]
    assert some.of_searched.tolist() == [0, 5, 11, 17]
    none = analyze_dictionary(made(tmp_path, rows, name="none"), draws=2, search=0)
    assert none.searched == 0
    assert not any("duplicated" in label for label, _ in none.table())


def test_a_duplicate_halves_capacity(tmp_path: Path) -> None:
    orthogonal = torch.eye(4, dtype=torch.float64)
    rows = torch.cat([orthogonal, orthogonal[1:2]])
    found = analyze_dictionary(made(tmp_path, rows), draws=2)
    assert_close(found.report.capacity, torch.tensor([1, 0.5, 1, 1, 0.5], dtype=torch.float64))
    cosine = analyze_dictionary(made(tmp_path, W, V, "bound"), draws=2, norm="unit").nearest.cosine
    unit = torch.nn.functional.normalize(W, dim=1)
    assert bool((reference.capacity(unit) <= 1 / (1 + cosine.square()) + 1e-12).all())


def test_dead_latents_are_left_out(tmp_path: Path) -> None:
    decoder, encoder = W.clone(), V.clone()
    decoder[2] = 0
    encoder[5] = 0
    path = made(tmp_path, decoder, encoder)
    found = analyze_dictionary(path, draws=2)
    assert found.dead.zero_decoder.tolist() == [2]
    assert found.dead.zero_encoder.tolist() == [5]
    assert found.dead.silent is None
    assert "cannot be told from weights" in found.dead.says
    firing = torch.ones(N)
    firing[[5, 9]] = torch.tensor([0.0, 1e-6])
    told = analyze_dictionary(path, draws=2, firing=firing, silent_below=1e-5)
    assert told.dead.silent is not None
    assert told.dead.silent.tolist() == [5, 9]
    assert told.dead.all.tolist() == [2, 5, 9]
    kept = [i for i in range(N) if i not in (2, 5, 9)]
    assert told.latents.tolist() == kept
    assert_close(told.report.capacity, reference.capacity(W[kept]))
    assert told.response is not None
    assert_close(told.response, reference.response_capacity(W[kept], V[kept]))
    assert set(told.nearest.index.tolist()) <= set(kept)
    assert "2 silent by the frequencies given" in told.dead.says


def test_frequencies_that_the_file_carries(tmp_path: Path) -> None:
    frequency = torch.ones(N)
    frequency[4] = 0
    state = {"pre_bias": torch.zeros(D), "latent_bias": torch.zeros(N), "latents_activation_frequency": frequency}
    torch.save(state | {"encoder.weight": V.float(), "decoder.weight": W.float().T}, tmp_path / "a.pt")
    found = analyze_dictionary(tmp_path / "a.pt", draws=2)
    assert found.dead.all.tolist() == [4]
    assert "in the file or beside it" in found.dead.says
    assert found.to_dict()["n_silent"] == 1


def test_a_transcoder_has_no_response(tmp_path: Path) -> None:
    path = made(tmp_path, W, V)
    found = analyze_dictionary(dictionary(path, transcoder=True), draws=2)
    assert found.response is None
    assert found.alignment is None
    assert "another space" in dict(found.table())["response capacity"]
    assert_close(found.report.capacity, reference.capacity(W))


def test_all_dead(tmp_path: Path) -> None:
    found = analyze_dictionary(made(tmp_path, torch.zeros(4, 3, dtype=torch.float64)), draws=2)
    assert not len(found.latents)
    assert found.report.total == 0
    assert dict(found.table())["decoder norms"] == "none"


def test_the_same_whatever_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path, W, V)
    whole = analyze_dictionary(path, draws=2)
    monkeypatch.setattr("polysem.measure._rows.LARGEST_BLOCK_BYTES", 3 * 8 * D)
    parts = analyze_dictionary(path, draws=2)
    assert_close(parts.report.capacity, whole.report.capacity)
    assert_close(parts.response, whole.response)
    assert parts.nearest.index.tolist() == whole.nearest.index.tolist()


@pytest.mark.bad_input
def test_bad_arguments(tmp_path: Path) -> None:
    path = made(tmp_path, W, V)
    with pytest.raises(ValueError, match=r"firing must be one number a latent, of shape \(20,\)"):
        analyze_dictionary(path, firing=torch.ones(3))
    with pytest.raises(ValueError, match="duplicate_above must be above 0 and at most 1"):
        analyze_dictionary(path, duplicate_above=1.5)
    with pytest.raises(ValueError, match="search must be a whole number of at least 0"):
        analyze_dictionary(path, search=-1)
    bad = W.clone()
    bad[3, 1] = torch.nan
    with pytest.raises(ValueError, match="decoder must be finite, got NaN or infinity in row 3"):
        analyze_dictionary(made(tmp_path, bad, V, "bad"))


def test_real_dictionaries(sae_rf_folder: Path) -> None:
    found = analyze_dictionary(sae_rf_folder / "sae_seed0.pt")
    assert not len(found.dead.all)
    assert found.report.rank == 128
    assert found.report.total < found.report.isotropic.interval[0]
    assert found.report.total > found.report.covariance.interval[1]
    assert len(found.duplicated) == 0
