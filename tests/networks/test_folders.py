"""Folders and shards are read as the one model that they hold."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.testing import assert_close

from polysem.networks import WeightFile, WeightFileError, load

TENSORS = {
    "embed.weight": torch.arange(20.0).reshape(5, 4),
    "layer.1.weight": torch.ones(2, 3, dtype=torch.bfloat16),
    "layer.0.weight": torch.arange(6.0).reshape(3, 2),
    "layer.0.bias": torch.arange(3.0),
    "conv": torch.arange(120.0).reshape(2, 3, 4, 5),
}
SHARD_OF = {"embed.weight": 2, "layer.1.weight": 1, "layer.0.weight": 2, "layer.0.bias": 1, "conv": 1}


def save(tensors: dict[str, Tensor], path: Path) -> None:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path)


def save_sharded(folder: Path, model: str = "model.safetensors") -> Path:
    """The index of `TENSORS` in two shards, named as transformers names them."""
    stem, suffix = model.split(".")
    names = {name: f"{stem}-0000{shard}-of-00002.{suffix}" for name, shard in SHARD_OF.items()}
    for shard in set(names.values()):
        save({name: TENSORS[name] for name, where in names.items() if where == shard}, folder / shard)
    index = folder / f"{model}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 712, "by": "us"}, "weight_map": names}))
    return index


def assert_whole(file: WeightFile) -> None:
    assert list(file) == ["embed.weight", "layer.1.weight", "layer.0.weight"]
    assert file.skipped == {"layer.0.bias": "1-D of shape (3,)", "conv": "4-D of shape (2, 3, 4, 5)"}
    for name, expected in TENSORS.items():
        assert_close(file.tensor(name), expected, rtol=0, atol=0)


@pytest.mark.parametrize("model", ["model.safetensors", "pytorch_model.bin"])
def test_shards_are_one_file_in_the_order_of_their_index(model: str, tmp_path: Path) -> None:
    index = save_sharded(tmp_path, model)
    for path in (tmp_path, index, str(index)):
        file = load(path)
        assert_whole(file)
        assert file.path == Path(path)
        assert file.format == ("safetensors" if model == "model.safetensors" else "torch")
        assert file.metadata == {"total_size": "712", "by": "us"}
        columns = torch.cat(list(file["embed.weight"].rows_of("columns").blocks()))
        assert_close(columns, TENSORS["embed.weight"].T, rtol=0, atol=0)


def test_any_index_stands_for_its_folder(tmp_path: Path) -> None:
    save_sharded(tmp_path, "vit.safetensors")
    assert_whole(load(tmp_path))


def test_what_stands_for_a_folder(tmp_path: Path) -> None:
    """Each file that is added comes before all that were there."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "checkpoint-1").mkdir()
    np.savez(tmp_path / "ae.npz", W=np.ones((2, 2)))
    assert load(tmp_path).path == tmp_path / "ae.npz"
    torch.save({"step": 3}, tmp_path / "optimizer.pt")
    with pytest.raises(WeightFileError, match=r"a folder; the weight files in it are ae.npz, optimizer.pt$"):
        load(tmp_path)
    save_sharded(tmp_path, "pytorch_model.bin")
    assert load(tmp_path).path == tmp_path
    assert load(tmp_path).format == "torch"
    save({"W": torch.ones(2, 2)}, tmp_path / "pytorch_model.bin")
    assert load(tmp_path).path == tmp_path / "pytorch_model.bin"
    save_sharded(tmp_path)
    assert load(tmp_path).path == tmp_path
    assert load(tmp_path).format == "safetensors"
    save({"W": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    assert load(tmp_path).path == tmp_path / "model.safetensors"


def test_two_indexes_of_no_standard_name(tmp_path: Path) -> None:
    for model in ("unet.safetensors", "text.safetensors"):
        save_sharded(tmp_path, model)
    with pytest.raises(WeightFileError, match=r"in it are text\.safetensors\.index\.json, unet\.safet.*and 1 more$"):
        load(tmp_path)
    save_sharded(tmp_path)
    assert_whole(load(tmp_path))


def test_a_snapshot_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    """There all files are links to blobs beside the snapshot."""
    blobs, snapshot = tmp_path / "models--us--toy" / "blobs", tmp_path / "models--us--toy" / "snapshots" / "0" / "a"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    save_sharded(blobs)
    for number, path in enumerate(sorted(blobs.iterdir())):
        (snapshot / path.name).symlink_to(path.rename(blobs / str(number)))
    assert_whole(load(snapshot))


@pytest.mark.parametrize(
    ("suffix", "order"), [("safetensors", "C"), ("pt", "C"), ("npy", "C"), ("npy", "F"), ("npz", "C"), ("npz", "F")]
)
@pytest.mark.parametrize("shape", [(), (5,), (1, 4), (2, 0, 3), (4, 3, 2, 5)])
@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
def test_tensors_of_any_rank(suffix: str, order: str, shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    array = np.asarray(np.random.default_rng(0).normal(size=shape).astype(dtype), order=order)
    expected = torch.from_numpy(np.ascontiguousarray(array.astype(dtype.replace(">", "<"))).reshape(shape))
    path = tmp_path / f"W.{suffix}"
    if suffix == "npy":
        np.save(path, array)
    elif suffix == "npz":
        np.savez_compressed(path, W=array)
    else:
        save({"W": expected}, path)
    found = load(path).tensor("W")
    assert_close(found, expected, rtol=0, atol=0)
    found.zero_()  # what is handed out is the caller's own
    assert_close(load(path).tensor("W"), expected, rtol=0, atol=0)


@pytest.mark.bad_input
def test_names_that_are_no_tensor(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"kernel": torch.ones(2, 2, 2), "ids": torch.ones(2, 2, dtype=torch.int64), "epoch": 3}, path)
    file = load(path)
    for name, said in {
        "kernal": "no tensor 'kernal' in the file; close to it: 'kernel'",
        "ids": "'ids' is no tensor of floating-point numbers: int64",
        "epoch": "'epoch' is no tensor of floating-point numbers: int",
    }.items():
        with pytest.raises(WeightFileError) as caught:
            file.tensor(name)
        assert str(caught.value) == f"{path}: {said}"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(WeightFileError, match="the file has changed since it was loaded"):
        file.tensor("kernel")


def test_metadata(tmp_path: Path) -> None:
    safetensors.torch.save_file({"W": torch.ones(2, 2)}, tmp_path / "w.safetensors", {"format": "pt", "who": "wir"})
    assert load(tmp_path / "w.safetensors").metadata == {"format": "pt", "who": "wir"}
    torch.save({"W": torch.ones(2, 2)}, tmp_path / "w.pt")
    assert load(tmp_path / "w.pt").metadata == {}
