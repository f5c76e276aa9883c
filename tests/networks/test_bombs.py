"""Files made to take memory, disk or time without bound are refused before they do, and no file ends the process."""

import json
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from polysem.networks import WeightFileError, load

pytestmark = pytest.mark.bad_input

W = torch.arange(48.0).reshape(8, 6)


def problem(path: Path) -> str:
    with pytest.raises(WeightFileError) as caught:
        [matrix.tensor() for matrix in load(path).values()]
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def rewritten(folder: Path, pickled: bytes | None = None, compression: int = zipfile.ZIP_STORED) -> Path:
    """A file of torch.save whose pickle, or compression, is another."""
    torch.save({"W": W}, folder / "sound.pt")
    with zipfile.ZipFile(folder / "sound.pt") as old, zipfile.ZipFile(folder / "w.pt", "w", compression) as new:
        for info in old.infolist():
            other = pickled is not None and info.filename.endswith("/data.pkl")
            new.writestr(info.filename, pickled if other else old.read(info))
    return folder / "w.pt"


def legacy(folder: Path, pickled: bytes) -> Path:
    torch.save({"W": W}, folder / "w.pt", _use_new_zipfile_serialization=False)
    content = (folder / "w.pt").read_bytes()
    start = content.index(b"\x80\x02}q\x00X\x01\x00\x00\x00W")
    (folder / "w.pt").write_bytes(content[:start] + pickled + b"\x80\x02]q\x00.")
    return folder / "w.pt"


def integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def deep(opening: bytes, middle: bytes, closing: bytes, n: int = 3_000) -> bytes:
    return b"\x80\x02" + opening * n + middle + closing * n + b"."


TEXT = b"X" + struct.pack("<I", 30_000) + b"a" * 30_000


@pytest.mark.parametrize("make", [rewritten, legacy])
@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        pytest.param(b"\x80\x02cbuiltins\nbytearray\n" + integer(2**31 - 1) + b"\x85R.", "calls builtins.bytearray,"),
        pytest.param(b"\x80\x02ctorch\nTensor\n" + integer(2**31 - 1) + b"\x85R.", "calls torch.Tensor, and"),
        pytest.param(
            b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cbuiltins\nbytearray\nh\x00K\x01\x85}tR.",
            "a damaged or truncated PyTorch file (0)",
        ),
        pytest.param(b"\x80\x02}(" + deep(b"", b")", b"\x85")[2:-1] + b"K\x01u.", "tuples nested more than 100 deep"),
        pytest.param(deep(b"}K\x00", b"K\x01", b"s"), "nested more than 100 deep"),
        pytest.param(deep(b"]", b"]", b"a"), "nested more than 100 deep"),
        pytest.param(
            # a text of 30 kB, encoded again and again into a list
            b"\x80\x02](c_codecs\nencode\nq\x00" + TEXT + b"q\x01X\x05\x00\x00\x00utf-8q\x02\x86R"
            + b"h\x00h\x01h\x02\x86R" * 3000 + b"e.",
            "its pickle takes more than 2000000 steps",
        ),
        pytest.param(
            # a dictionary of 3,000 entries, which 3,000 others take over
            b"\x80\x02}q\x00(" + b"".join(integer(i) + b"N" for i in range(3000)) + b"u(ccollections\nOrderedDict\n"
            + b"q\x01" + b"h\x01)Rh\x00b" * 3000 + b"t.",
            "its pickle takes more than 2000000 steps",
        ),
        pytest.param(b"\x80\x02N0.", "opcode POP"),
        pytest.param(b"\x80\x02)R.", "nothing is left on the stack"),
        pytest.param(b"\x80\x02K\x01)R.", "calls something, and"),
        pytest.param(b"\x80\x02h\x07.", "a damaged or truncated PyTorch file (7)"),
        pytest.param(b"\x80\x02t.", "a damaged or truncated PyTorch file"),
        pytest.param(b"\x80\x02X\xff\xff\xff\x7fabc.", "a damaged or truncated PyTorch file"),
        pytest.param(b"\x80\x02N", "a damaged or truncated PyTorch file"),
    ],
)  # fmt: skip
def test_pickles_that_grow(make: object, pickled: bytes, said: str, tmp_path: Path) -> None:
    assert callable(make)
    message = problem(make(tmp_path, pickled))
    if said not in message:  # a legacy file is read through a reader that refuses texts beyond all use
        assert (make, b"X\xff\xff\xff\x7f" in pickled) == (legacy, True)
        assert "a directory or name of 2147483647 bytes" in message


def test_what_state_dictionaries_hold_is_taken(tmp_path: Path) -> None:
    """The same calls in a sound file."""
    content = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).state_dict()
    content["parameter"] = torch.nn.Parameter(torch.ones(2, 2))
    more = {"shape": torch.Size([2, 3]), "set": {1, 2}, "complex": 1j, "bytes": b"abc", "device": torch.device("cpu")}
    more["ordered"] = OrderedDict(a=torch.ones(1, 2, dtype=torch.bfloat16), dtype=torch.float16)
    for zipped in (True, False):
        torch.save({"model": content, **more}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
        assert list(load(tmp_path / "w.pt")) == ["model.0.weight", "model.parameter", "ordered.a"]


def test_names_that_grow(tmp_path: Path) -> None:
    torch.save({"n" * 20_000: [W, *range(1000)]}, tmp_path / "w.pt")
    assert "names beyond all use" in problem(tmp_path / "w.pt")


def test_tensors_larger_than_their_file(tmp_path: Path) -> None:
    """One number, expanded."""
    torch.save({"W": torch.ones(1, 1).expand(10**6, 10**6)}, tmp_path / "w.pt")
    assert "a tensor of shape (1000000, 1000000), 4000000000000 bytes, in a file of" in problem(tmp_path / "w.pt")
    torch.save({"b": torch.ones(1).expand(10**12)}, tmp_path / "w.pt")
    assert "a tensor of shape (1000000000000,)" in problem(tmp_path / "w.pt")


def test_compressed_records_of_torch(tmp_path: Path) -> None:
    """PyTorch would unpack them into memory."""
    path = rewritten(tmp_path, b"\x80\x02" + b"N0" * 10**6 + b".", zipfile.ZIP_DEFLATED)
    assert "is compressed, as torch.save never does" in problem(path)


def test_two_records_of_one_name(tmp_path: Path) -> None:
    """PyTorch looks names up without regard to case, and might find the other."""
    path = rewritten(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("sound/DATA.PKL", pickle.dumps(3, 2))
    assert problem(path) == "two records of the archive have the same name"


@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """100 MB of zeros in 100 kB."""
    np.savez_compressed(tmp_path / "w.npz", W=np.zeros((5000, 2500), np.float64), b=np.ones(3))
    return tmp_path / "w.npz"


def test_arrays_that_unpack_to_far_more(bomb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polysem.networks._bytes._write", None)  # nothing is unpacked
    assert "beyond 67108864 bytes at most 100 times as much is unpacked" in problem(bomb)
    monkeypatch.undo()
    assert load(bomb).tensor("b").tolist() == [1, 1, 1]
    np.savez_compressed(bomb, W=np.zeros((1000, 2500), np.float64))
    assert load(bomb)["W"].tensor().shape == (1000, 2500)


def test_no_more_than_half_of_the_free_space_is_taken(bomb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(bomb, W=np.ones((1000, 100)))
    usage = shutil.disk_usage("/")._replace(free=1_600_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "a compressed array of 800128 bytes, more than half of the 1600000 that are free in" in problem(bomb)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_600_300))
    assert load(bomb)["W"].tensor().shape == (1000, 100)


def test_other_compressions(tmp_path: Path) -> None:
    """They shrink zeros a million times."""
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "w.npz", "w", method) as archive:
            archive.writestr("W.npy", bytes(10**6))
        assert problem(tmp_path / "w.npz") == "the array 'W.npy' is compressed by a method that NumPy never uses"


def test_members_that_share_their_bytes(tmp_path: Path) -> None:
    """Each of 50 entries of the directory stands for the same 100 kB."""
    path = tmp_path / "w.npz"
    np.savez(path, W=np.random.default_rng(0).normal(size=(100, 125)))
    content = path.read_bytes()
    entry = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entries = b"".join(content[entry:end].replace(b"W.npy", b"%c.npy" % (65 + i)) for i in range(50))
    tail = bytearray(content[end:])
    struct.pack_into("<HHL", tail, 8, 50, 50, len(entries))
    path.write_bytes(content[:entry] + entries + bytes(tail))
    assert problem(path) == "the members of the archive overlap"


def test_archives_in_archives(bomb: Path) -> None:
    inner = bomb.read_bytes()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.npz", inner)
        archive.writestr("W.npy", inner)
    assert "the array 'W.npy': a damaged or truncated .npy header" in problem(bomb)


@pytest.mark.parametrize("name", ["w.npz", "w.pt"])
def test_directories_of_any_size_are_not_read(name: str, tmp_path: Path) -> None:
    path = rewritten(tmp_path).rename(tmp_path / name)
    content = bytearray(path.read_bytes())
    end = content.index(b"PK\x05\x06")
    with path.open("r+b") as file:
        file.truncate(end + 2**31)
        tail = content[end:]
        struct.pack_into("<L", tail, 12, 2**31 - 1000)
        file.seek(0, 2)
        file.write(tail)
    assert problem(path) == "a directory or name of 2147482648 bytes, where at most 16777216 are read"


def test_safetensors_headers(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}

    def said(header: str | dict[str, object]) -> str:
        text = (header if isinstance(header, str) else json.dumps(header)).encode()
        (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(24))
        return problem(tmp_path / "w.safetensors")

    damaged = "a damaged or truncated safetensors file"
    assert damaged in said({"W": entry, "V": entry})
    assert damaged in said({"W": entry | {"data_offsets": [0, 2**41]}})
    assert damaged in said({"W": entry | {"shape": [2**32, 2**32, 2**32]}})
    assert damaged in said({"W": entry | {"shape": [2**40, 1], "data_offsets": [0, 2**42]}})
    assert damaged in said('{"W":' + "[" * 50_000)
    assert "two entries have the name 'W'" in said(f'{{"W":{json.dumps(entry)},"W":{json.dumps(entry)}}}')
    assert "the content is" in said("[" + json.dumps(entry) + "]")
    with (tmp_path / "w.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 99_999_999) + b"{")
        file.truncate(10**8 + 10)
    assert problem(tmp_path / "w.safetensors") == "a header of 99999999 bytes, where at most 16777216 are read"


PEAK = """
import resource, sys
from polysem.networks import WeightFileError, load
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
start = peak()
for path in sys.argv[1:]:
    try:
        list(load(path))
    except WeightFileError:
        pass
print((peak() - start) / 1024)
"""


def test_memory_and_survival(tmp_path: Path) -> None:
    """The largest index that is read, full of what takes most memory; a gigabyte that is asked for; nested tuples.

    Hashing the last would overflow the C stack, and end the process.
    """
    torch.save({"W": W}, tmp_path / "a.pt")
    (tmp_path / "w.index.json").write_text('{"weight_map": [%s[]]}' % ("[]," * (2**24 // 3 - 10)))
    for number, pickled in enumerate(
        (
            b"\x80\x02cbuiltins\nbytearray\n" + integer(2**30) + b"\x85R.",
            b"\x80\x02}()" + b"\x85" * 1_000_000 + b"K\x01u.",
        )
    ):
        rewritten(tmp_path, pickled).rename(tmp_path / f"{number}.pt")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, sorted(tmp_path.glob("*"), reverse=True))],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 600
