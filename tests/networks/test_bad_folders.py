"""Folders, indexes and shards that contradict each other, or lead elsewhere, are refused in one line."""

import json
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from polysem.networks import WeightFileError, load

pytestmark = pytest.mark.bad_input

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tensors a and b in shard 1, c in shard 2."""
    folder = tmp_path / "model"
    folder.mkdir()
    safetensors.torch.save_file({"a": torch.ones(2, 2), "b": torch.ones(3)}, folder / "1.safetensors")
    safetensors.torch.save_file({"c": torch.ones(2, 2)}, folder / "2.safetensors")
    index(folder)
    return folder


def index(folder: Path, **shards: str | None) -> None:
    """An index that is right but for these tensors; None leaves one out."""
    right = {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}
    weight_map = {name: shard for name, shard in (right | shards).items() if shard is not None}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def problem(folder: Path, about: str = INDEX) -> str:
    """The one line that is said of a file in the folder."""
    with pytest.raises(WeightFileError) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{folder / about}: ")
    return message.removeprefix(f"{folder / about}: ")


def test_the_folder_is_sound(folder: Path) -> None:
    assert list(load(folder)) == ["a", "c"]


def test_shards_that_disagree_with_their_index(folder: Path) -> None:
    index(folder, d="2.safetensors")
    assert problem(folder, "2.safetensors") == f"has no 'd', which {INDEX} attributes to it"
    index(folder, b=None)
    assert problem(folder, "1.safetensors") == f"holds 'b', which {INDEX} does not list"
    index(folder, a="2.safetensors")
    assert problem(folder, "1.safetensors") == f"holds 'a', which {INDEX} attributes to 2.safetensors"
    index(folder, d="3.safetensors")
    assert problem(folder, "3.safetensors") == "no such file"
    torch.save({"d": torch.ones(1)}, folder / "3.bin")
    index(folder, d="3.bin")
    assert problem(folder) == "its shards are of different formats (safetensors, torch)"
    (folder / "2.safetensors").write_bytes((folder / "2.safetensors").read_bytes()[:-1])
    assert "damaged or truncated" in problem(folder, "2.safetensors")


@pytest.mark.parametrize(
    "name", ["../w.safetensors", "/etc/passwd", "a/../../w", "..", ".", "", "..\\w", "w\0", "C:\\w"]
)
def test_shards_named_outside_the_folder(name: str, folder: Path) -> None:
    safetensors.torch.save_file({"d": torch.ones(2, 2)}, folder.parent / "w.safetensors")
    index(folder, d=name)
    assert problem(folder) == f"it names the file {name!r}, which is no path beneath its folder"


def test_links(folder: Path, tmp_path: Path) -> None:
    leaves = "a link that leaves the folder; open the file itself, or copy it here"
    (folder / "2.safetensors").rename(folder / "moved")
    (folder / "2.safetensors").symlink_to("moved")
    assert list(load(folder)) == ["a", "c"]
    (folder / "moved").rename(tmp_path / "moved")
    (folder / "2.safetensors").unlink()
    (folder / "2.safetensors").symlink_to(tmp_path / "moved")
    assert problem(folder, "2.safetensors") == leaves
    (folder / "out").symlink_to(tmp_path)
    index(folder, c="out/moved")
    assert problem(folder, "out/moved") == leaves
    (folder / INDEX).rename(tmp_path / INDEX)
    (folder / INDEX).symlink_to(tmp_path / INDEX)
    assert problem(folder) == leaves


def test_links_beside_the_cache_of_the_hub(folder: Path, tmp_path: Path) -> None:
    """Only what lies in `models--owner--name/blobs` is the hub's."""
    snapshot = tmp_path / "models--us--toy" / "snapshots" / "0"
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    (snapshot / "2.safetensors").rename(tmp_path / "2")
    (snapshot / "2.safetensors").symlink_to("../../blobs/2")
    (snapshot.parents[1] / "blobs").symlink_to(tmp_path)
    assert "leaves the folder" in problem(snapshot, "2.safetensors")
    (snapshot.parents[1] / "blobs").unlink()
    (snapshot.parents[1] / "blobs").mkdir()
    (tmp_path / "2").rename(snapshot.parents[1] / "blobs" / "2")
    assert list(load(snapshot)) == ["a", "c"]


def test_loops_of_links(folder: Path) -> None:
    (folder / "2.safetensors").unlink()
    (folder / "2.safetensors").symlink_to("3.safetensors")
    (folder / "3.safetensors").symlink_to("2.safetensors")
    assert "cannot be read (" in problem(folder, "2.safetensors")
    (folder / INDEX).unlink()
    (folder / INDEX).symlink_to(INDEX)
    assert "cannot be read (" in problem(folder)


def test_what_is_no_regular_file(folder: Path) -> None:
    (folder / "2.safetensors").unlink()
    os.mkfifo(folder / "2.safetensors")
    assert problem(folder, "2.safetensors") == "not a regular file"
    (folder / INDEX).unlink()
    os.mkfifo(folder / INDEX)
    assert problem(folder) == "not a regular file"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "a damaged or truncated index"),
        ('{"weight_map": {"a": "1.safe', "a damaged or truncated index"),
        ("[" * 100_000, "a damaged or truncated index"),
        ('{"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}}', "two entries have the name 'a'"),
        ('{"weight_map": {}, "weight_map": {"a": "1.safetensors"}}', "two entries have the name 'weight_map'"),
        (b'{"weight_map": "\xff"}', "a damaged or truncated index"),
        ("1" * 10_000, "a damaged or truncated index"),
        *(
            (content, "an index must have a 'weight_map'")
            for content in (
                "[]",
                "3",
                "null",
                "{}",
                '{"weight_map": {}}',
                '{"weight_map": ["a"]}',
                '{"weight_map": "a"}',
                '{"weight_map": {"a": 3}}',
                '{"weight_map": {"a": ["1.safetensors"]}}',
            )
        ),
    ],
)
def test_indexes_that_are_none(content: str | bytes, said: str, folder: Path) -> None:
    (folder / INDEX).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert said in problem(folder)


def test_an_index_of_any_size_is_not_read(folder: Path) -> None:
    with (folder / INDEX).open("wb") as file:
        file.truncate(2**40)
    assert problem(folder) == "an index of 1099511627776 bytes, where at most 16777216 are read"


def test_metadata_of_any_type(folder: Path) -> None:
    content = json.loads((folder / INDEX).read_text())
    for metadata, expected in ((None, {}), ([1], {}), ({"a": [1], "b": "c"}, {"a": "[1]", "b": "c"})):
        (folder / INDEX).write_text(json.dumps(content | {"metadata": metadata}))
        assert load(folder).metadata == expected
