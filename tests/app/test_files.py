"""Files that are meant to harm: names and links that lead elsewhere, code, and what would never end or fit."""

import asyncio
import json
import os
import pickle
import shutil
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
import torch
from onnx import TensorProto, helper
from starlette.testclient import TestClient

from polysem.app import ExploreConfig, _shelf, access_of, create_app
from polysem.app._shelf import MOST_ARRIVING, MOST_UPLOADS, Shelf
from polysem.sweeps import run
from sweep_stores import GRID, TASK
from unprivileged import as_nobody, public_folder

W = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
SECRET = "feature-of-somebody-else"


class Creates:
    """Unpickling it creates a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What may be opened, beside what may not."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    (outside / "deeper").mkdir(parents=True)
    inside.mkdir()
    for place in (outside, outside / "deeper", inside):
        safetensors.numpy.save_file({SECRET: W}, place / "w.safetensors")
    (outside / "words.txt").write_text(f"{SECRET}\n" * 12)
    return inside


def pages(models: Path | None, **settings: int) -> TestClient:
    config = ExploreConfig(models=models, **settings)
    return TestClient(create_app(config, access_of(config)), base_url="http://127.0.0.1:8765")


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    with pages(folder) as browser:
        yield browser


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("sweep") / "s.zarr"
    run(GRID, TASK, store)
    return store


def error_of(client: TestClient, path: str, **parameters: object) -> str:
    """What is wrong, said before the work or at its end."""
    answer = client.get(path, params=parameters)
    assert SECRET not in answer.text
    assert answer.status_code in (200, 400)
    return json.loads(answer.text.splitlines()[-1])["error"]


def errors_of(client: TestClient, name: str) -> set[str]:
    """What all that opens files says of a name, which is left out."""
    asked: list[tuple[str, dict[str, object]]] = [
        ("/api/models/matrices", {"file": name}),
        ("/api/models/measure", {"file": name, "tensor": SECRET}),
        ("/api/models/measure", {"file": "w.safetensors", "tensor": SECRET, "labels": name or "."}),
        ("/api/models/partners", {"file": name, "tensor": SECRET, "feature": 0}),
        ("/api/models/features.csv", {"file": name, "tensor": SECRET}),
        ("/api/sweeps", {"file": name}),
    ]
    said = [error_of(client, path, **parameters) for path, parameters in asked]
    return {one.replace(repr(name), "").replace("'.'", "") for one in said}


def listed(client: TestClient) -> list[str]:
    return [one["name"] for one in client.get("/api/models/files").json()["numbers"]["files"]]


def brought(client: TestClient, name: str, content: bytes) -> str:
    """The name that an upload gets, or what is wrong with it."""
    answer = client.post("/api/models/upload", params={"name": name}, content=content).json()
    return answer.get("error") or answer["numbers"]["name"]


def kept(client: TestClient) -> list[Path]:
    """What lies in the folder of uploads, also of those that failed."""
    place = client.app.state.shelf._place
    return sorted(place.iterdir()) if place else []


NAMES = [
    "../outside/w.safetensors",
    "../outside/absent.safetensors",
    "../outside",
    "..",
    ".",
    "",
    "/",
    "/etc/passwd",
    "x/../../outside/w.safetensors",
    "..\\outside\\w.safetensors",
    "%2e%2e%2foutside%2fw.safetensors",
    "%252e%252e%252foutside%252fw.safetensors",
    "..%2foutside%2fw.safetensors",
    "\uff0e\uff0e/outside/w.safetensors",
    "w.safetensors\0.txt",
    "\0",
    "file:///etc/passwd",
    "~/w.safetensors",
    "hf://owner/name",
    "x" * 900,
    "a/" * 450,
]


@pytest.mark.bad_input
def test_names_that_lead_elsewhere(client: TestClient, folder: Path) -> None:
    """One answer for all of them: it does not tell what there is outside."""
    names = [*NAMES, str(folder.parent / "outside" / "w.safetensors"), str(folder.parent / "absent")]
    said = set().union(*(errors_of(client, name) for name in names))
    assert said == {f"file must be a path below {folder}, which links do not lead out of, got "}
    of_uploads = set().union(*(errors_of(client, f"upload:{name}") for name in ("../w.safetensors", "x", "")))
    assert len(of_uploads) == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "encoded",
    ["%2e%2e%2foutside%2fw.safetensors", "%252e%252e%252foutside/w.safetensors", "..%5coutside%5cw.safetensors"],
)
def test_encoded_names_in_an_address(client: TestClient, encoded: str) -> None:
    answer = client.get(f"/api/models/matrices?file={encoded}")
    assert answer.status_code == 400
    assert "must be a path below" in answer.json()["error"]


@pytest.mark.bad_input
def test_links_that_lead_elsewhere(client: TestClient, folder: Path) -> None:
    outside = folder.parent / "outside"
    (folder / "file.safetensors").symlink_to(outside / "w.safetensors")
    (folder / "relative.safetensors").symlink_to("../outside/w.safetensors")
    (folder / "words.txt").symlink_to(outside / "words.txt")
    (folder / "absent.safetensors").symlink_to(outside / "absent")
    (folder / "folder").symlink_to(outside)
    (folder / "circle.npy").symlink_to("circle.npy")
    (folder / "round").symlink_to(".")
    (outside / "back.safetensors").symlink_to(folder / "w.safetensors")
    assert listed(client) == ["w.safetensors"]
    names = [path.name for path in folder.iterdir() if path.is_symlink() and path.name != "round"]
    names += ["folder/w.safetensors", "folder/deeper", "folder/deeper/w.safetensors", "folder/back.safetensors"]
    said = set().union(*(errors_of(client, name) for name in names))
    assert said == {f"file must be a path below {folder}, which links do not lead out of, got "}
    (folder / "inner.safetensors").symlink_to("w.safetensors")
    assert listed(client) == ["inner.safetensors", "w.safetensors"]
    assert client.get("/api/models/matrices", params={"file": "inner.safetensors"}).status_code == 200


@pytest.mark.bad_input
def test_links_that_come_later(client: TestClient, folder: Path) -> None:
    """Once listed, and once measured."""
    asked = {"file": "w.safetensors", "tensor": SECRET}
    assert listed(client) == ["w.safetensors"]
    assert "verdict" in client.get("/api/models/measure", params=asked).text
    safetensors.numpy.save_file({SECRET: W}, folder / "other.safetensors")
    (folder / "w.safetensors").rename(folder.parent / "outside" / "moved")  # the same bytes, time and inode
    (folder / "w.safetensors").symlink_to(folder.parent / "outside" / "moved")
    for path in ("measure", "partners", "features.csv"):
        answer = client.get(f"/api/models/{path}", params=asked | {"feature": 0})
        assert "which links do not lead out of" in answer.json()["error"] if path == "features.csv" else answer.text
        assert "share" not in answer.text
    assert listed(client) == ["other.safetensors"]


@pytest.mark.bad_input
@pytest.mark.parametrize("shard", ["../outside/w.safetensors", "/etc/passwd", "link.safetensors", "sub/w.safetensors"])
def test_indexes_whose_shards_lie_elsewhere(client: TestClient, folder: Path, shard: str) -> None:
    (folder / "link.safetensors").symlink_to(folder.parent / "outside" / "w.safetensors")
    (folder / "sub").symlink_to(folder.parent / "outside")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {SECRET: shard}}))
    said = error_of(client, "/api/models/matrices", file="model.safetensors.index.json")
    assert "no path beneath its folder" in said or "a link that leaves the folder" in said
    name = brought(client, "model.safetensors.index.json", (folder / "model.safetensors.index.json").read_bytes())
    assert name.startswith("model.safetensors.index.json: ") or "no such file" in name
    assert kept(client) == []


@pytest.mark.bad_input
@pytest.mark.parametrize("location", ["../outside/w.safetensors", "link.bin", "/etc/passwd", "sub/w.safetensors"])
def test_onnx_whose_numbers_lie_elsewhere(client: TestClient, folder: Path, location: str) -> None:
    (folder / "link.bin").symlink_to(folder.parent / "outside" / "w.safetensors")
    (folder / "sub").symlink_to(folder.parent / "outside")
    made = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[2, 2], data_location=TensorProto.EXTERNAL)
    made.external_data.add(key="location", value=location)
    graph = helper.make_graph([], "g", [], [], [made])
    (folder / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert onnx.load(folder / "m.onnx", load_external_data=False).graph.name == "g"
    said = error_of(client, "/api/models/matrices", file="m.onnx")
    assert "no path beneath its folder" in said or "a link that leaves the folder" in said
    name = brought(client, "m.onnx", (folder / "m.onnx").read_bytes())
    assert name.startswith("m.onnx: ") or "no such file" in name
    assert kept(client) == []


@pytest.mark.bad_input
def test_a_snapshot_whose_files_the_cache_keeps_elsewhere(tmp_path: Path) -> None:
    """`load` follows its links for the user; a page may only open what lies below the folder that was given."""
    snapshot, blobs = (tmp_path / "models--a--b" / part for part in ("snapshots/rev", "blobs"))
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    safetensors.numpy.save_file({"W": W}, blobs / "0123")
    (blobs / "4567").write_text(json.dumps({"weight_map": {"W": "w.safetensors"}}))
    (blobs / "89ab").write_text(json.dumps({f"word {k}": k for k in range(12)}))
    for name, blob in (("w.safetensors", "0123"), ("model.safetensors.index.json", "4567"), ("vocab.json", "89ab")):
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    with pytest.raises(ValueError, match="models must be the folder above `snapshots`"):
        ExploreConfig(models=snapshot)
    with pages(tmp_path) as client:
        found = [f"models--a--b/snapshots/rev/{name}" for name in sorted(path.name for path in snapshot.iterdir())]
        assert listed(client) == found
        for name in (found[0], found[2]):
            assert client.get("/api/models/matrices", params={"file": name}).json()["numbers"]["matrices"]
        asked = {"file": found[2], "tensor": "W", "labels": found[1], "feature": "word 3"}
        assert '"word 3"' in client.get("/api/models/partners", params=asked).text


@pytest.mark.bad_input
def test_names_that_are_not_what_they_seem(client: TestClient, folder: Path) -> None:
    names = ["a\nb.npy", "<img src=x onerror=alert(1)>.npy", "\u202eypn.exe.npy", "'\"{}.npy", "\udcff.npy", "ü.npy"]
    for name in names:
        np.save(folder / name, W)
    answer = client.get("/api/models/files")
    assert answer.headers["content-type"] == "application/json"
    assert set(listed(client)) == {*names, "w.safetensors"}
    for name in names[:4] + names[5:]:
        (matrix,) = client.get("/api/models/matrices", params={"file": name}).json()["numbers"]["matrices"]
        asked = {"file": name, "tensor": matrix["name"], "feature": 1}
        code = json.loads(client.get("/api/models/partners", params=asked).text.splitlines()[-1])["code"]
        assert repr(str(folder / name)) in code
        assert "\u202e" not in code
        compile(code, "<copied>", "exec")


def test_folders_that_are_odd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe.txt")
    os.mkfifo(folder / "pipe.npy")
    (folder / "folder.npy").mkdir()
    place = os.open(folder, os.O_RDONLY)
    for _ in range(1100):  # deeper than calls may nest, and than a path may be long
        os.mkdir("deep", dir_fd=place)
        deeper = os.open("deep", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = deeper
    os.close(place)
    with pages(folder) as client:
        assert listed(client) == ["w.safetensors"]
        for name in ("pipe.txt", "pipe.npy"):
            assert len(errors_of(client, name)) == 1
        monkeypatch.setattr(_shelf, "MOST_VISITED", 100)
        assert client.get("/api/models/files").json()["numbers"]["left_out"]
        monkeypatch.setattr(_shelf, "MOST_LISTED", 0)
        assert listed(client) == []
    subprocess.run(["rm", "-r", folder / "deep"], check=True)  # Python's own way is not that deep


def test_folders_that_may_not_be_read() -> None:
    with public_folder() as folder, pages(folder) as client:
        for mode in (0o000, 0o444, 0o111):
            inner = folder / f"mode {mode:o}"
            (inner / "store").mkdir(parents=True)
            np.save(inner / "w.npy", W)
            (inner / "store" / "zarr.json").touch()
            inner.chmod(mode)
        np.save(folder / "w.npy", W)
        with as_nobody():
            assert listed(client) == ["w.npy"]


def pickled(kind: str, created: Path) -> bytes:
    code = Creates(created)
    place = created.with_name("made")
    if kind == "raw":
        return pickle.dumps(code)
    with place.open("wb") as file:
        if kind in ("zip", "legacy"):
            torch.save({"W": torch.ones(3, 2), "x": code}, file, _use_new_zipfile_serialization=kind == "zip")
        elif kind == "npy":
            np.save(file, np.array([[code]], dtype=object), allow_pickle=True)
        else:
            np.savez(file, W=np.array([[code]], dtype=object), allow_pickle=True)
    content = place.read_bytes()
    place.unlink()
    return content


@pytest.mark.bad_input
@pytest.mark.parametrize("kind", ["raw", "zip", "legacy", "npy", "npz"])
def test_code_in_files_is_never_run(client: TestClient, folder: Path, kind: str, tmp_path: Path) -> None:
    content, created = pickled(kind, tmp_path / "created"), tmp_path / "created"
    for suffix in (".pt", ".pth", ".bin", ".npy", ".npz", ".safetensors", ".onnx", ".txt", ".json"):
        (folder / f"m{suffix}").write_bytes(content)
        for path, more in (("matrices", {}), ("measure", {"tensor": "W"}), ("measure", {"tensor": "x"})):
            answer = client.get(f"/api/models/{path}", params={"file": f"m{suffix}", **more})
            assert "error" in answer.text or answer.json()["numbers"]["matrices"] == []
        name = brought(client, f"m{suffix}", content)
        assert "upload:" not in name or suffix == ".npz"  # which lists no matrix
        assert not created.exists()
    if kind == "raw":
        pickle.loads(content)
        assert created.exists()


@pytest.mark.bad_input
def test_uploads_that_are_not_taken(client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = (folder / "w.safetensors").read_bytes()
    monkeypatch.setattr(_shelf, "LARGEST_LABELS", 1000)
    nested = b'{"a":' * 150 + b"1" + b"}" * 150
    for name, content, said in (
        ("w.safetensors", sound[:-8], "w.safetensors: a damaged or truncated"),
        ("w.safetensors", b"", "the content is empty"),
        ("w.npy", sound, "w.npy: "),
        ("w.exe", sound, "name must be"),
        ("", sound, "name must be"),
        ("...", sound, "name must be"),
        (".safetensors", sound, "name must be"),
        ("\0", sound, "name must be"),
        ("w.txt", b"word\n" * 500, "size in bytes must be at most 1,000"),
        ("w.json", nested, "no vocabulary"),
        ("w.json", b"[" * 1000, "no vocabulary"),
        ("w.txt", b"\xff\xfe", "no vocabulary"),
    ):
        found = brought(client, name, content)
        assert said in found, (name, found)
        assert "polysem-" not in found
        assert kept(client) == []
    assert listed(client) == ["w.safetensors"]


@pytest.mark.bad_input
@pytest.mark.parametrize("declared", [True, False])
def test_uploads_that_are_too_large(folder: Path, declared: bool) -> None:
    with pages(folder, largest_upload=100_000) as client:
        content = bytes(100_001) if declared else (bytes(1000) for _ in range(101))
        answer = client.post("/api/models/upload", params={"name": "w.npy"}, content=content)
        assert answer.status_code in (400, 413)
        assert kept(client) == []


def test_names_of_uploads(client: TestClient, folder: Path) -> None:
    sound = (folder / "w.safetensors").read_bytes()
    for name in ("../../w.safetensors", "/etc/w.safetensors", "..\\w.safetensors", "字" * 400 + ".safetensors"):
        found = brought(client, name, sound)
        owner, _, last = found.removeprefix("upload:").partition("/")
        assert len(owner) == 8
        assert "/" not in last
        assert "\\" not in last
        assert last.endswith(".safetensors")
        assert client.get("/api/models/matrices", params={"file": found}).status_code == 200
    assert len({brought(client, "w.safetensors", sound) for _ in range(3)}) == 3
    for path in kept(client):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert path.is_relative_to(tempfile.gettempdir())


def test_a_thousand_uploads(client: TestClient) -> None:
    async def thousand() -> list[str]:
        return [await client.app.state.shelf.keep("w.txt", in_pieces(b"x", 0)) for _ in range(1000)]

    names = asyncio.run(thousand())
    assert len(kept(client)) == MOST_UPLOADS
    assert listed(client) == ["w.safetensors", *names[-MOST_UPLOADS:]]
    assert "uploads are kept until" in error_of(client, "/api/models/matrices", file=names[0])


def test_uploads_make_room_by_their_size(folder: Path) -> None:
    content = np.zeros((30_000, 1), np.float32)
    np.save(folder / "w.npy", content)
    with pages(folder, largest_upload=130_000) as client:
        for _ in range(5):
            brought(client, "w.npy", (folder / "w.npy").read_bytes())
            assert sum(file.stat().st_size for own in kept(client) for file in own.iterdir()) <= 2 * 130_000
        assert len(kept(client)) == 2


async def in_pieces(content: bytes, pause: float) -> AsyncIterator[bytes]:
    for byte in content:
        await asyncio.sleep(pause)
        yield bytes([byte])


async def broken_off(content: bytes) -> AsyncIterator[bytes]:
    yield content
    raise RuntimeError("gone")


@pytest.mark.bad_input
def test_uploads_that_trickle_stop_or_crowd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = (folder / "w.safetensors").read_bytes()
    shelf = Shelf(folder, 10**6)
    monkeypatch.setattr(_shelf, "PATIENCE", 0.2)

    async def attack() -> None:
        for pause in (10, 0.02):  # nothing comes; bytes come, each in time, and too slowly
            with pytest.raises(ValueError, match="the upload must go on"):
                await shelf.keep("w.safetensors", in_pieces(sound, pause))
        with pytest.raises(RuntimeError, match="gone"):
            await shelf.keep("w.safetensors", broken_off(sound))
        slow = [asyncio.create_task(shelf.keep("w.npy", in_pieces(sound, 10))) for _ in range(MOST_ARRIVING)]
        await asyncio.sleep(0.05)
        with pytest.raises(ValueError, match="uploads at once must be at most 4, got 5"):
            await shelf.keep("w.safetensors", in_pieces(sound, 0))
        slow[0].cancel()
        ended = await asyncio.gather(*slow, return_exceptions=True)
        assert [type(one) for one in ended] == [asyncio.CancelledError] + [ValueError] * (MOST_ARRIVING - 1)
        monkeypatch.setattr(_shelf, "PATIENCE", 60.0)
        both = await asyncio.gather(*(shelf.keep("w.safetensors", in_pieces(sound, 0)) for _ in range(2)))
        assert len(set(both)) == 2

    asyncio.run(attack())
    assert shelf._place is not None
    assert len(list(shelf._place.iterdir())) == 2
    shelf.close()
    assert not shelf._place.exists()


@pytest.mark.bad_input
def test_disks_that_are_full(client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = (folder / "w.safetensors").read_bytes()
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(sound) - 1))
    assert "more than half of the free space" in brought(client, "w.safetensors", sound)
    monkeypatch.undo()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    assert brought(client, "w.safetensors", sound) == "the upload cannot be kept (No space left on device)"
    monkeypatch.undo()
    assert kept(client) == []
    assert "upload:" in brought(client, "w.safetensors", sound)


def test_uploads_that_somebody_has_removed(client: TestClient, folder: Path) -> None:
    name = brought(client, "w.safetensors", (folder / "w.safetensors").read_bytes())
    shutil.rmtree(kept(client)[0])
    assert listed(client) == ["w.safetensors"]
    assert "no such file" in error_of(client, "/api/models/matrices", file=name)
    assert "upload:" in brought(client, "w.safetensors", (folder / "w.safetensors").read_bytes())


def header_only(path: Path, shape: tuple[int, ...]) -> None:
    """A file that declares more than it holds."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def sparse(path: Path, shape: tuple[int, int]) -> None:
    """A file of zeros that take no space."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + 2 * shape[0] * shape[1])


@pytest.mark.bad_input
def test_matrices_beyond_all_bounds(client: TestClient, folder: Path) -> None:
    header_only(folder / "huge.npy", (10**9, 10**9))
    assert "bytes, but 0 follow" in error_of(client, "/api/models/matrices", file="huge.npy")
    np.savez_compressed(folder / "bomb.npz", W=np.zeros((2900, 2900)))
    assert client.get("/api/models/matrices", params={"file": "bomb.npz"}).status_code == 200
    assert "100 times as much" in error_of(client, "/api/models/measure", file="bomb.npz", tensor="W")
    sparse(folder / "long.npy", (10_000_000, 1))
    sparse(folder / "wide.npy", (1, 10_000_000))
    sparse(folder / "square.npy", (8193, 8193))
    for name, side in (("long", "larger"), ("wide", "larger"), ("square", "smaller")):
        for features in ("rows", "columns"):
            said = error_of(client, "/api/models/measure", file=f"{name}.npy", tensor=name, features=features)
            assert said.startswith(f"the {side} side of the matrix must be at most")
    np.save(folder / "tall.npy", np.ones((10_000, 1)))
    asked = {"file": "tall.npy", "tensor": "tall", "draws": 64}
    assert json.loads(client.get("/api/models/measure", params=asked).text.splitlines()[-1])["numbers"]["total"] == (
        pytest.approx(1)
    )


@pytest.mark.bad_input
def test_matrices_without_number(client: TestClient, folder: Path) -> None:
    safetensors.numpy.save_file({f"{k:05d}": W[:1] for k in range(3000)}, folder / "many.safetensors")
    numbers = client.get("/api/models/matrices", params={"file": "many.safetensors"}).json()["numbers"]
    assert len(numbers["matrices"]) == 2000
    assert numbers["left_out"] == 1000
    asked = {"file": "many.safetensors", "tensor": "02999"}
    assert "verdict" in client.get("/api/models/measure", params=asked).text
    assert "no matrix 'x' among the 3000" in error_of(client, "/api/models/measure", file=asked["file"], tensor="x")


def test_what_is_kept_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polysem.app._models.MOST_FEATURES", 30)
    config = ExploreConfig(models=folder)
    client = TestClient(create_app(config, access_of(config)), base_url="http://127.0.0.1:8765")
    kept = client.app.state.measurements._kept._results
    for seed in range(4):
        client.get("/api/models/measure", params={"file": "w.safetensors", "tensor": SECRET, "seed": seed})
        assert len(kept) == min(seed + 1, 2)
    assert all(found.rows is None for found in kept.values())


def test_labels_that_are_no_text(client: TestClient, folder: Path) -> None:
    """JSON can hold halves of characters, and labels can hold lines and markup."""
    labels = ["\\ud800", "a\\nb", "<b>x</b>", '=\\"1\\"', "\\u0000", *(f"w{k}" for k in range(7))]
    (folder / "words.json").write_text("[" + ", ".join(f'"{label}"' for label in labels) + "]")
    asked = {"file": "w.safetensors", "tensor": SECRET, "labels": "words.json"}
    lines = client.get("/api/models/measure", params=asked).text.splitlines()
    shown = json.loads(lines[-1])["numbers"]["most"]
    assert "\\ud800" in {one["label"] for one in shown}
    answer = client.get("/api/models/features.csv", params=asked)
    assert answer.headers["content-type"].startswith("text/csv")
    assert "0,\\ud800," in answer.text


@pytest.mark.bad_input
def test_stores_that_are_meant_to_harm(client: TestClient, folder: Path, sweep: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(sweep, folder / name))

    def declare(store: Path, **changes: object) -> None:
        file = store / "zarr.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    chunk = copy("linked") / "draw" / "c" / "0" / "0" / "0"
    shutil.copy(chunk, tmp_path / "chunk")
    chunk.unlink()
    chunk.symlink_to(tmp_path / "chunk")
    array = copy("array") / "draw"
    shutil.move(array, tmp_path / "draw")
    array.symlink_to(tmp_path / "draw")
    os.mkfifo(copy("pipe") / "draw" / "zarr.json.pipe")
    declare(copy("values") / "draw", shape=[10**9, 2, 2])
    declare(copy("stacks") / "done", shape=[10**6])
    declare(copy("text") / "draw", shape=["x", 10**12])
    declare(copy("digits") / "draw", shape=[10**4000] * 1000)
    declare(copy("dimensions") / "draw", shape=[2] * 10**5)
    declare(copy("code") / "draw", codecs=[{"name": "bytes"}, {"name": "numcodecs.pickle"}])
    elsewhere = copy("elsewhere")
    metadata = json.loads((elsewhere / "zarr.json").read_text())
    entries = metadata["consolidated_metadata"]["metadata"]
    entries["../../outside"] = entries["draw"]
    declare(elsewhere, **metadata)
    shutil.copytree(sweep / "draw", tmp_path / "outside" / "draw")
    for name, said in (
        ("linked", "without links"),
        ("array", "without links"),
        ("pipe", "nothing but files"),
        ("values", "values of draw must be at most 20,000,000"),
        ("stacks", "values of done must be at most 100,000"),
        ("text", "at most 64 whole numbers"),
        ("digits", "at most 64 whole numbers"),
        ("dimensions", "at most 64 whole numbers"),
        ("code", "stored as a sweep stores them"),
    ):
        assert said in error_of(client, "/api/sweeps", file=name)
    assert "output must be one of" in error_of(client, "/api/sweeps", file="elsewhere", output="../../outside")


def state(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """All that lies in a folder: modes, times and content."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        status = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_ctime_ns, content)
    return found


def test_nothing_in_the_folder_changes(client: TestClient, folder: Path, sweep: Path) -> None:
    shutil.copytree(sweep, folder / "s.zarr")
    np.savez_compressed(folder / "w.npz", W=W)
    torch.save({"W": torch.from_numpy(W)}, folder / "w.pt")
    torch.save({"W": torch.from_numpy(W)}, folder / "old.pt", _use_new_zipfile_serialization=False)
    before = state(folder)
    assert listed(client) == ["old.pt", "s.zarr", "w.npz", "w.pt", "w.safetensors"]
    for name in ("old.pt", "w.npz", "w.pt"):
        assert client.get("/api/models/matrices", params={"file": name}).status_code == 200
        for path in ("measure", "partners", "features.csv"):
            answer = client.get(f"/api/models/{path}", params={"file": name, "tensor": "W", "feature": 0})
            assert '"error":' not in answer.text
        brought(client, name, (folder / name).read_bytes())
    answer = client.get("/api/sweeps", params={"file": "s.zarr"})
    assert '"error":' not in answer.text
    assert "figures" in answer.text
    assert state(folder) == before


def test_uploads_go_with_the_explorer(folder: Path) -> None:
    with pages(folder) as client:
        brought(client, "w.safetensors", (folder / "w.safetensors").read_bytes())
        place = client.app.state.shelf._place
        assert place.is_dir()
    assert not place.exists()
