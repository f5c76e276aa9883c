"""Published dictionaries are read as their libraries hold them, and never the wrong way round."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.measure import RowBlocks
from polysem.networks import (
    DICTIONARY_LAYOUTS,
    Dictionary,
    DictionaryLayout,
    WeightFileError,
    dictionary,
    holds_dictionary,
)

PUBLISHED = Path(__file__).parent / "published"
FOLDERS = sorted(path.parent for path in PUBLISHED.glob("*/*/expected.json"))
D_IN, D_SAE = 6, 16


def rows(source: RowBlocks | None) -> Tensor:
    assert source is not None
    return torch.cat(list(source.blocks()))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


E, W = random(D_SAE, D_IN), random(D_SAE, D_IN, seed=1)
B_ENC, B_DEC = random(D_SAE, seed=2), random(D_IN, seed=3)


def published(found: Dictionary, name: str) -> None:
    assert found.layout.name == name
    assert (found.d_in, found.d_out, found.d_sae) == (D_IN, D_IN, D_SAE)
    assert not found.transcoder
    assert_close(rows(found.decoder), W, rtol=0, atol=0)
    if found.encoder is not None:
        assert_close(rows(found.encoder), E, rtol=0, atol=0)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_a_library_wrote_is_read_as_it_holds_it(folder: Path) -> None:
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    assert holds_dictionary(folder)
    found = dictionary(folder)
    assert found.layout.name == folder.parent.name
    assert (found.d_in, found.d_out, found.d_sae) == tuple(expected[name] for name in ("d_in", "d_out", "d_sae"))
    assert found.transcoder == ("transcoder" in folder.name)
    assert any(".json" in check for check in found.checked)

    decoder = rows(found.decoder)
    assert_close(decoder, torch.tensor(expected["decoded"]))
    assert_close(decoder.norm(dim=1), torch.tensor(expected["decoder_norm"]))
    x = torch.tensor(expected["x"])
    encoder = decoder if found.encoder is None else rows(found.encoder)
    assert (found.encoder is None) == (folder.name == "matching-pursuit")
    assert_close(x @ encoder.T, torch.tensor(expected["pre_activation"]))
    assert found.decoder_bias is not None
    assert_close(found.decoder_bias, torch.tensor(expected["decoder_bias"]))
    if "encoder_bias" in expected:
        assert found.encoder_bias is not None
        assert_close(found.encoder_bias, torch.tensor(expected["encoder_bias"]))
    if "output" in expected and folder.name != "jumprelu":
        assert found.encoder_bias is not None
        centred = x if folder.parent.name == "saelens" else x - found.decoder_bias
        active = (centred @ encoder.T + found.encoder_bias).relu()
        if folder.name in ("topk", "sae"):
            active = torch.where(active >= active.topk(3).values[:, -1:], active, 0.0)
        assert_close(active @ decoder + found.decoder_bias, torch.tensor(expected["output"]))


def test_every_library_is_there() -> None:
    assert {folder.parent.name for folder in FOLDERS} == {"saelens", "dictionary-learning", "sparsify"}
    assert len(FOLDERS) == 16


def gemma_scope(path: Path) -> None:
    np.savez(path / "params.npz", W_enc=E.T, W_dec=W, b_enc=B_ENC, b_dec=B_DEC, threshold=B_ENC.abs())


def gemma_scope_2(path: Path) -> None:
    tensors = {"w_enc": E.T.contiguous(), "w_dec": W, "b_enc": B_ENC, "b_dec": B_DEC, "threshold": B_ENC.abs()}
    safetensors.torch.save_file(tensors, path / "params.safetensors")


def openai(path: Path) -> None:
    state = {
        "pre_bias": B_DEC,
        "latent_bias": B_ENC,
        "stats_last_nonzero": torch.ones(D_SAE, dtype=torch.long),
        "latents_activation_frequency": B_ENC.abs(),
        "latents_mean_square": B_ENC.abs(),
        "encoder.weight": E,
        "decoder.weight": W.T,
        "activation": "TopK",
        "activation_state_dict": {"k": 32, "postact_fn": "ReLU"},
    }
    torch.save(state, path / "v5_32k.pt")


def openai_tied(path: Path) -> None:
    torch.save(
        {"pre_bias": B_DEC, "latent_bias": B_ENC, "encoder.weight": W, "decoder.linear.weight": W}, path / "tied.pt"
    )


def circuit_tracer(path: Path) -> None:
    safetensors.torch.save_file({"W_enc": E, "W_dec": W, "b_enc": B_ENC, "b_dec": B_DEC}, path / "layer_0.safetensors")


def qwen_scope(path: Path) -> None:
    torch.save({"W_enc": E, "W_dec": W.T, "b_enc": B_ENC, "b_dec": B_DEC}, path / "layer0.sae.pt")


def linear(path: Path) -> None:
    state = {"encoder.weight": E, "encoder.bias": B_ENC, "decoder.weight": W.T, "decoder.bias": B_DEC}
    torch.save({"state_dict": state, "config": {"d_in": D_IN}, "mean": random(1, D_IN)}, path / "sae.pt")


def goodfire(path: Path) -> None:
    names = {"encoder_linear.weight": E, "decoder_linear.weight": W.T, "encoder_linear.bias": B_ENC}
    torch.save(names | {"decoder_linear.bias": B_DEC}, path / "layer.pth")


SAVED: dict[str, tuple[str, Callable[[Path], None]]] = {
    save.__name__: (name, save)
    for name, save in (
        ("gemma-scope", gemma_scope),
        ("saelens", gemma_scope_2),
        ("openai", openai),
        ("openai", openai_tied),
        ("circuit-tracer", circuit_tracer),
        ("qwen-scope", qwen_scope),
        ("linear", linear),
        ("linear", goodfire),
    )
}


@pytest.mark.parametrize("case", SAVED)
def test_layouts_that_no_library_writes_here(case: str, tmp_path: Path) -> None:
    name, save = SAVED[case]
    save(tmp_path)
    assert holds_dictionary(tmp_path)
    found = dictionary(tmp_path)
    published(found, name)
    assert (found.encoder is None) == (case == "openai_tied")
    assert found.encoder_bias is not None
    assert found.decoder_bias is not None
    assert_close(found.encoder_bias, B_ENC, rtol=0, atol=0)
    assert_close(found.decoder_bias, B_DEC, rtol=0, atol=0)
    assert (found.mean is not None) == (case == "linear")
    assert (found.firing is not None) == (case == "openai")


def test_frequencies_beside_the_weights(tmp_path: Path) -> None:
    gemma_scope_2(tmp_path)
    frequency = torch.linspace(0, 0.5, D_SAE)
    safetensors.torch.save_file({"sparsity": torch.log10(frequency + 1e-10)}, tmp_path / "sparsity.safetensors")
    found = dictionary(tmp_path).firing
    assert found is not None
    assert found[0] < 1e-15
    assert_close(found, frequency.double(), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(
    ("folder", "which"),
    [
        pytest.param(folder, which, id=f"{folder.parent.name}-{folder.name}-{which}")
        for folder in FOLDERS
        for which in ("encoder", "decoder", "both")
        if (folder.name, which) != ("matching-pursuit", "encoder")  # it has none
    ],
)
def test_a_transposed_matrix_is_refused(folder: Path, which: str, tmp_path: Path) -> None:
    """Whichever library's configuration lies beside it."""
    source = next(path for path in folder.iterdir() if path.suffix in (".pt", ".safetensors"))
    safe = source.suffix == ".safetensors"
    tensors = safetensors.torch.load_file(source) if safe else torch.load(source, weights_only=True)
    turned = [name for name in tensors if tensors[name].ndim == 2 and (which == "both" or which[:3] in name.lower())]
    assert turned
    tensors |= {name: tensors[name].T.contiguous() for name in turned}
    target = tmp_path / source.name
    safetensors.torch.save_file(tensors, target) if safe else torch.save(tensors, target)
    config = next(path for path in folder.glob("*.json") if path.name != "expected.json")
    (tmp_path / config.name).write_text(config.read_text())
    with pytest.raises(WeightFileError, match="do not lie as known dimensions say"):
        dictionary(tmp_path)


@pytest.mark.parametrize("case", ["gemma_scope", "openai", "linear"])
@pytest.mark.parametrize("which", ["E", "W", "both"])
def test_a_transposed_matrix_is_refused_by_the_biases(
    case: str, which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("E", "W") if which == "both" else (which,):
        monkeypatch.setitem(globals(), name, globals()[name].T.contiguous())
    SAVED[case][1](tmp_path)
    with pytest.raises(WeightFileError, match="do not lie as known dimensions say"):
        dictionary(tmp_path)


def test_a_configuration_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    gemma_scope_2(tmp_path)
    (tmp_path / "cfg.json").write_text(json.dumps({"d_in": D_IN, "d_sae": D_SAE + 1}))
    with pytest.raises(WeightFileError, match=r"d_sae would be 16, but d_sae = 17 in cfg.json"):
        dictionary(tmp_path)
    (tmp_path / "cfg.json").write_text(json.dumps({"d_in": D_IN, "d_sae": D_SAE, "d_out": D_IN + 1}))
    with pytest.raises(WeightFileError, match=r"d_out would be 6, but d_out = 7 in cfg.json"):
        dictionary(tmp_path)


def test_nothing_to_check_against(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"encoder.weight": E, "decoder.weight": W.T.contiguous()}, path)
    with pytest.raises(WeightFileError, match=r"nothing tells .* \(d_in=6\), or the other way round \(d_in=16\)"):
        dictionary(path)
    published(dictionary(path, d_in=D_IN), "linear")
    published(dictionary(path, d_sae=D_SAE), "linear")
    published(dictionary(path, layout="linear"), "linear")
    with pytest.raises(WeightFileError, match="d_in would be 6, but d_in=16 as given"):
        dictionary(path, d_in=16)


def test_two_readings_are_named(tmp_path: Path) -> None:
    """Without biases `W_enc` and `W_dec` of one shape each are those of two layouts."""
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"W_enc": E.T.contiguous(), "W_dec": W}, path)
    with pytest.raises(WeightFileError, match="d_in=") as error:
        dictionary(path)
    assert "latents are the columns of W_enc and the rows of W_dec" in str(error.value)
    published(dictionary(path, d_in=D_IN), "saelens")

    square = random(5, 5)
    safetensors.torch.save_file({"W_enc": square, "W_dec": square.T.contiguous(), "b_dec": torch.zeros(5)}, path)
    with pytest.raises(WeightFileError, match="square") as error:
        dictionary(path, d_in=5)
    for reading in ("layout='saelens'", "layout='circuit-tracer'", "layout='qwen-scope'"):
        assert reading in str(error.value)
    assert_close(rows(dictionary(path, layout="saelens").encoder), square.T, rtol=0, atol=0)
    assert_close(rows(dictionary(path, layout="circuit-tracer").encoder), square, rtol=0, atol=0)


def test_a_square_matrix_of_one_layout(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"encoder.weight": random(5, 5), "decoder.weight": random(5, 5), "encoder.bias": torch.zeros(5)}, path)
    with pytest.raises(WeightFileError, match="square .* or the other way round"):
        dictionary(path)
    mine = DictionaryLayout("turned", "encoder.weight", "columns", "decoder.weight", "rows")
    assert_close(rows(dictionary(path, layout=mine).decoder), random(5, 5), rtol=0, atol=0)
    assert_close(rows(dictionary(path, layout="linear").decoder), random(5, 5).T, rtol=0, atol=0)


def test_a_library_s_own_configuration_declares_a_square_matrix(tmp_path: Path) -> None:
    W_enc = random(5, 5)
    safetensors.torch.save_file({"W_enc": W_enc, "W_dec": W_enc.clone()}, tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"d_in": 5, "d_sae": 5}))
    assert_close(rows(dictionary(tmp_path).encoder), W_enc.T, rtol=0, atol=0)


def test_several_dictionaries_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "all.pt"
    one = {"encoder.weight": E, "decoder.weight": W.T, "encoder.bias": B_ENC}
    torch.save({f"layers.{i}.{name}": tensor * (i + 1) for i in range(2) for name, tensor in one.items()}, path)
    with pytest.raises(WeightFileError, match=r"2 dictionaries; choose one with prefix=: 'layers.0', 'layers.1'"):
        dictionary(path)
    assert_close(rows(dictionary(path, prefix="layers.1").decoder), 2 * W, rtol=0, atol=0)


def test_transcoders(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    other = random(D_SAE, 4)
    safetensors.torch.save_file({"W_enc": E, "W_dec": other, "b_enc": B_ENC, "b_dec": torch.zeros(4)}, path)
    found = dictionary(path)
    assert found.transcoder
    assert (found.d_in, found.d_out) == (D_IN, 4)
    assert "from 6 dimensions to 4" in found.says
    circuit_tracer(tmp_path)
    assert dictionary(tmp_path / "layer_0.safetensors", transcoder=True).transcoder


def test_a_dictionary_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `load` downloads, a folder here, is read as any other."""
    asked = []

    def local(path: str) -> Path:
        asked.append(path)
        return PUBLISHED / "saelens" / "standard"

    monkeypatch.setattr("polysem.networks._sae_files.local", local)
    assert dictionary("hf://owner/name/layer_6@main").d_sae == D_SAE
    assert holds_dictionary("hf://owner/name/layer_6@main")
    assert asked == 2 * ["hf://owner/name/layer_6@main"]


def test_what_is_no_dictionary(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", W=np.ones((3, 4)))
    assert not holds_dictionary(tmp_path)
    assert not holds_dictionary(tmp_path / "absent")
    assert not holds_dictionary("a\0b")
    with pytest.raises(WeightFileError, match="no known layout of a dictionary; its matrices are w"):
        dictionary(tmp_path)
    with pytest.raises(WeightFileError, match=r"no matrices encoder.weight and W_dec, which layout 'sparsify' has"):
        dictionary(tmp_path, layout="sparsify")
    np.savez(tmp_path / "n.npz", W=np.ones((3, 4)))
    with pytest.raises(WeightFileError, match=r"2 weight files \(m.npz, n.npz\)"):
        dictionary(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightFileError, match="0 weight files"):
        dictionary(tmp_path / "empty")


@pytest.mark.parametrize("content", ["{", "[" * 10_000, '{"d_in": "6", "d_sae": [1]}', "[1]", "null"])
def test_hostile_configurations(content: str, tmp_path: Path) -> None:
    gemma_scope_2(tmp_path)
    (tmp_path / "cfg.json").write_text(content)
    try:
        published(dictionary(tmp_path), "saelens")  # as if there were none
    except WeightFileError as error:
        assert "not a JSON file" in str(error)  # noqa: PT017


def test_a_configuration_without_end(tmp_path: Path) -> None:
    gemma_scope_2(tmp_path)
    (tmp_path / "cfg.json").write_text(" " * (2**20 + 1))
    with pytest.raises(WeightFileError, match="more than 1048576 bytes"):
        dictionary(tmp_path)


@pytest.mark.bad_input
def test_bad_arguments(tmp_path: Path) -> None:
    gemma_scope(tmp_path)
    with pytest.raises(ValueError, match="layout must be one of saelens, openai"):
        dictionary(tmp_path, layout="mine")
    with pytest.raises(ValueError, match="d_in must be a whole number of at least 1, got 0"):
        dictionary(tmp_path, d_in=0)
    with pytest.raises(TypeError, match="path must be"):
        dictionary(3)  # type: ignore[arg-type]


def test_the_table_names_each_matrix_once() -> None:
    keys = [(known.name, known.encoder, known.decoder) for known in DICTIONARY_LAYOUTS]
    assert len(set(keys)) == len(keys)


def test_real_dictionaries(sae_rf_folder: Path) -> None:
    for seed in range(5):
        found = dictionary(sae_rf_folder / f"sae_seed{seed}.pt")
        assert (found.layout.name, found.d_in, found.d_sae) == ("linear", 256, 128)
        state = torch.load(found.path, map_location="cpu", weights_only=True)
        assert_close(rows(found.decoder), state["state_dict"]["decoder.weight"].T, rtol=0, atol=0)
        assert_close(rows(found.encoder), state["state_dict"]["encoder.weight"], rtol=0, atol=0)
        assert found.mean is not None
        assert_close(found.mean, state["mean"][0], rtol=0, atol=0)
