"""Whatever is wrong with a file ends in one line that names it, and nothing in a file is ever run."""

import os
import pickle
import struct
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polysem.networks import WeightFileError, load
from unprivileged import as_nobody, public_folder

pytestmark = pytest.mark.bad_input

KINDS = ["w.safetensors", "w.pt", "legacy.pt", "w.npy", "w.npz", "compressed.npz"]


def write(folder: Path, kind: str) -> Path:
    """A small sound file: `W` is 8×6."""
    W = torch.arange(48.0).reshape(8, 6)
    path = folder / kind
    if kind == "w.safetensors":
        safetensors.torch.save_file({"W": W}, path)
    elif kind.endswith(".pt"):
        torch.save({"W": W}, path, _use_new_zipfile_serialization=kind == "w.pt")
    elif kind == "w.npy":
        np.save(path, W.numpy())
    else:
        (np.savez if kind == "w.npz" else np.savez_compressed)(path, W=W.numpy())
    return path


def read_all(path: Path | str) -> None:
    for matrix in load(path).values():
        assert matrix.tensor().shape == matrix.shape


def problem(path: Path | str) -> str:
    """The one line that is said of a path, without the path."""
    with pytest.raises(WeightFileError) as caught:
        read_all(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path)).removeprefix(": ")


class Creates:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_no_such_file(tmp_path: Path) -> None:
    assert problem(tmp_path / "absent.npy") == "no such file"
    assert "cannot be read" in problem(write(tmp_path, "w.npy") / "below.npy")


def test_what_is_no_path() -> None:
    with pytest.raises(TypeError, match=r"path must be a str or os\.PathLike\[str\], got 3"):
        load(3)
    with pytest.raises(TypeError, match="path must be"):
        load(b"w.npy")
    with pytest.raises(WeightFileError, match="not a path"):
        load("a\0b.npy")


def test_folder(tmp_path: Path) -> None:
    assert problem(tmp_path) == "a folder, without weight files in it"
    for i in range(6):
        (tmp_path / f"w{i}.npy").touch()
    (tmp_path / "README.md").touch()
    assert problem(tmp_path) == (
        "a folder; the weight files in it are w0.npy, w1.npy, w2.npy, w3.npy, w4.npy and 1 more"
    )


def test_what_is_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.npy")
    assert problem(tmp_path / "w.npy") == "not a regular file"


def test_no_permission() -> None:
    with public_folder() as folder:
        path = write(folder, "w.npy")
        path.chmod(0o644)
        with as_nobody():
            read_all(path)
        path.chmod(0o000)
        with as_nobody():
            assert problem(path) == "no permission to read it"
        (folder / "closed").mkdir(mode=0o000)
        with as_nobody():
            assert problem(folder / "closed") == "a folder that cannot be listed (Permission denied)"
            assert problem(folder / "closed" / "w.npy") == "no permission to read it"
        (folder / "closed").chmod(0o755)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.npy", "w.npz", "w"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        ("Gewichte für später\n".encode() * 30, "text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (pickle.dumps([1, 2]), "a Python pickle, which is never unpickled"),
        (b"\x00\x01\x02\xff", r"of an unknown kind (it begins with b'\x00\x01\x02\xff')"),
        (b"PK\x03\x04 and no more", "a damaged or truncated zip archive"),
    ],
)
def test_not_a_weight_file(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    message = problem(tmp_path / name)
    assert f"the content is {said}" in message
    assert f"the suffix {Path(name).suffix!r} " in message


def test_a_suffix_that_contradicts_the_content(tmp_path: Path) -> None:
    for kind in KINDS:
        path = write(tmp_path, kind).rename(tmp_path / ("w.npy" if "npz" in kind else "w.npz"))
        stands_for, found = path.suffix[1:], {"pt": "torch"}.get(kind.split(".")[1], kind.split(".")[1])
        assert problem(path) == (f"the suffix '{path.suffix}' stands for {stands_for}, and the content is {found}")


def test_zip_archives_of_other_things(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("letter.txt", "text")
    assert "the content is a zip archive without arrays" in problem(tmp_path / "w.npz")
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("w/constants.pkl", pickle.dumps(()))
        archive.writestr("w/data.pkl", pickle.dumps(()))
    assert "the content is TorchScript" in problem(tmp_path / "w.pt")


@pytest.mark.parametrize("kind", KINDS)
def test_truncated(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, kind)
    whole = path.read_bytes()
    for length in sorted({1, 4, 7, 9, 40, 100, len(whole) // 2, len(whole) - 50, len(whole) - 1}):
        path.write_bytes(whole[:length])
        assert problem(path)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1))
def test_flipped_bytes_never_end_in_another_error(kind: str, flips: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), kind)
        content = bytearray(path.read_bytes())
        for where, change in flips:
            content[int(where * len(content))] ^= change
        path.write_bytes(content)
        with suppress(WeightFileError):
            read_all(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_torch_file_is_never_run(legacy: bool, tmp_path: Path) -> None:
    marker, path = tmp_path / "created", tmp_path / "w.pt"
    torch.save({"W": torch.ones(2, 2), "x": Creates(marker)}, path, _use_new_zipfile_serialization=not legacy)
    assert "its pickle calls posix.mkdir, and code in a file is never run" in problem(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # so the file is as bad as it should be


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 3), tmp_path / "w.pt")
    message = problem(tmp_path / "w.pt")
    assert "torch.nn.modules.linear.Linear" in message
    assert "save the state_dict() alone" in message


def test_code_in_numpy_files_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "created"
    array = np.array([[Creates(marker)]], dtype=object)
    np.save(tmp_path / "w.npy", array, allow_pickle=True)
    np.savez(tmp_path / "w.npz", W=np.ones((2, 2)), x=array, allow_pickle=True)

    assert problem(tmp_path / "w.npy") == "holds pickled Python objects, which are never unpickled"
    file = load(tmp_path / "w.npz")
    assert list(file) == ["W"]
    assert file.skipped["x"] == "pickled Python objects, which are never unpickled"
    with pytest.raises(WeightFileError, match=r"'x' is not a matrix.*never unpickled"):
        file.matrix("x")
    assert not marker.exists()
    np.load(tmp_path / "w.npy", allow_pickle=True)
    assert marker.exists()


def test_code_in_a_plain_pickle_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "created"
    for name in ("w.pt", "w.npy", "w.npz", "w.bin"):
        (tmp_path / name).write_bytes(pickle.dumps(Creates(marker)))
        assert "a Python pickle" in problem(tmp_path / name)
    assert not marker.exists()


def npy(shape: str, descr: str = "'<f4'", body: bytes = bytes(24)) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy("(2, 4)"), "declares float32 of shape (2, 4), 32 bytes, but 24 follow (truncated)"),
        (npy("(2, 2)"), "declares float32 of shape (2, 2), 16 bytes, but 24 follow"),
        (npy("(4611686018427387904, 4611686018427387904)"), "but 24 follow (truncated)"),
        (npy("(-2, -3)"), "a damaged or truncated .npy header"),
        (npy("((((2, 3))"), "a damaged or truncated .npy header"),
        (npy("(2, 3)", "'<q9'"), "a damaged or truncated .npy header"),
        (npy("(" * 300 + ")" * 300), "a damaged or truncated .npy header"),
        (npy("__import__('os').mkdir('created')"), "a damaged or truncated .npy header"),
        (npy("(2, 3)")[:30], "a damaged or truncated .npy header"),
        (b"\x93NUMPY\x09\x00" + npy("(2, 3)")[8:], "a damaged or truncated .npy header"),
    ],
)
def test_npy_headers_that_lie(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "w.npy").write_bytes(content)
    assert said in problem(tmp_path / "w.npy")
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "w.npz", "w", compression) as archive:
            archive.writestr("W.npy", content)
        message = problem(tmp_path / "w.npz")
        assert said in message
        assert "the array 'W.npy'" in message


def test_zip_directories_that_lie(tmp_path: Path) -> None:
    """The directory says that the array has the size its header declares; one row is missing."""
    path = tmp_path / "w.npz"
    short = npy("(2, 3)")[:-12]
    for compression, said in ((0, "declares more bytes than"), (8, "does not unpack to the")):
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("W.npy", short)
        content = bytearray(path.read_bytes())
        entry = content.index(b"PK\x01\x02")
        assert struct.unpack_from("<L", content, entry + 24) == (len(short),)
        struct.pack_into("<L", content, entry + 24, len(short) + 12)
        path.write_bytes(content)
        assert said in problem(path)


def test_damage_in_a_compressed_array(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez_compressed(path, W=np.random.default_rng(0).normal(size=(100, 50)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert load(path)["W"].shape == (100, 50)
    assert "the array 'W.npy' cannot be unpacked" in problem(path)


def test_encrypted_arrays(tmp_path: Path) -> None:
    path = write(tmp_path, "w.npz")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[6] |= 1
    path.write_bytes(content)
    assert "encrypted" in problem(path)


def test_nowhere_to_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = load(write(tmp_path, "compressed.npz"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(WeightFileError, match=r"cannot be unpacked to a temporary file .*absent.*TMPDIR"):
        file["W"].tensor()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if Path("/dev/full").exists():
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "r+b", buffering=0))  # noqa: PTH123, SIM115
        with pytest.raises(WeightFileError, match=r"No space left on device.*TMPDIR"):
            file["W"].tensor()


def safetensors_file(path: Path, header: str, body: int) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(body))
    return path


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ('{"W":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}', 20),
        ('{"W":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}', 28),
        ('{"W":{"dtype":"F32","shape":[2,4],"data_offsets":[0,24]}}', 24),
        ('{"W":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]}}', 28),
        ('{"W":{"dtype":"X32","shape":[2,3],"data_offsets":[0,24]}}', 24),
        ('{"W":', 24),
    ],
)
def test_safetensors_headers_that_lie(header: str, body: int, tmp_path: Path) -> None:
    message = problem(safetensors_file(tmp_path / "w.safetensors", header, body))
    assert "a damaged or truncated safetensors file" in message


def test_torch_records_that_lie(tmp_path: Path) -> None:
    """The pickle declares 192 bytes, the record has 96, and the library would read on beyond it."""
    path, lying = write(tmp_path, "w.pt"), tmp_path / "lying.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(lying, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, content[:96] if info.filename.endswith("data/0") else content)
    assert "other sizes than the archive holds" in problem(lying)


def test_two_entries_of_one_name(tmp_path: Path) -> None:
    torch.save({"a": {"b": torch.ones(2, 2)}, "a.b": torch.ones(2, 2)}, tmp_path / "w.pt")
    assert problem(tmp_path / "w.pt") == "two entries have the name 'a.b'"


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    path = tmp_path / "w.npz"
    np.savez(
        path,
        **{"layer.0.W_enc": np.ones((2, 3)), "layer.0.W_dec": np.ones((3, 2))},
        bias=np.ones(384),
        ids=np.ones((2, 2), dtype=np.int64),
        conv=np.ones((2, 3, 4)),
    )
    return path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "layer.0.W_emc",
            "no matrix 'layer.0.W_emc' among the 2 matrices of the file; close to it: 'layer.0.W_enc'",
        ),
        ("zzz", "no matrix 'zzz' among the 2 matrices of the file"),
        ("bias", "'bias' is not a matrix of floating-point numbers: 1-D of shape (384,)"),
        ("conv", "'conv' is not a matrix of floating-point numbers: 3-D of shape (2, 3, 4)"),
        ("ids", "'ids' is not a matrix of floating-point numbers: int64"),
    ],
)
def test_names_that_are_no_matrix(name: str, said: str, layers: Path) -> None:
    for asked in (load(layers).matrix, load(layers).__getitem__):
        with pytest.raises(WeightFileError) as caught:
            asked(name)
        assert str(caught.value).startswith(f"{layers}: {said}")


def test_orientation_must_be_one_of_two(layers: Path) -> None:
    with pytest.raises(ValueError, match="features must be 'rows' or 'columns', got 'both'"):
        load(layers)["layer.0.W_enc"].rows_of("both")


def test_a_file_that_changes_after_loading(tmp_path: Path) -> None:
    for kind in KINDS:
        path = write(tmp_path, kind)
        (matrix,) = load(path).values()
        path.write_bytes(path.read_bytes() + b"more")
        with pytest.raises(WeightFileError, match="the file has changed since it was loaded"):
            list(matrix.rows_of("rows").blocks())
        path.unlink()
        with pytest.raises(WeightFileError, match="no such file"):
            matrix.tensor()


def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polysem.measure._rows.LARGEST_BLOCK_BYTES", 1)
    path = write(tmp_path, "w.npy")
    blocks = load(path)["w"].rows_of("rows").blocks()
    next(blocks)
    os.truncate(path, 160)
    with pytest.raises(WeightFileError, match="the file ends before byte"):
        list(blocks)
