"""Telling the format of a weight file from its content and its suffix."""

import codecs
import re
from typing import Literal

from polysem.networks._bytes import FileBytes, WeightFileError, first_line
from polysem.networks._zip import open_zip

Format = Literal["safetensors", "torch", "npy", "npz", "onnx"]

SUFFIXES: dict[str, Format] = {
    ".safetensors": "safetensors",
    ".pt": "torch",
    ".pth": "torch",
    ".bin": "torch",
    ".npy": "npy",
    ".npz": "npz",
    ".onnx": "onnx",
}
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LARGEST_SAFETENSORS_HEADER = 100_000_000
_KNOWN_OTHERS = {
    b"version https://git-lfs": "a Git LFS pointer; `git lfs pull` fetches the file itself",
    b"GGUF": "GGUF",
    b"\x89HDF": "HDF5",
    b"PAR1": "Parquet",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "PDF",
    b"\x1f\x8b": "gzip; unpack it first",
    **{bytes((0x80, protocol)): "a Python pickle, which is never unpickled" for protocol in range(2, 6)},
}
_ONNX_SECOND_FIELDS = {b"\x12", b"\x1a", b"\x22", b"\x28", b"\x32", b"\x3a", b"\x42"}
_CONTROL = re.compile(rb"[^\t\n\f\r\x20-\xff]")


def recognise(source: FileBytes) -> Format:
    """The format told from the content; an error if it is none, or not the one of the suffix."""
    suffix = source.path.suffix
    promised = SUFFIXES.get(suffix.lower())
    found, description = _content(source)
    if found is not None and promised in (None, found):
        return found
    said = f"the suffix {suffix!r} stands for {promised}" if promised else f"the suffix {suffix!r} is unknown"
    raise WeightFileError(f"{source.path}: {said}, and the content is {description}")


def _content(source: FileBytes) -> tuple[Format | None, str]:
    """The format of the content, if it is one that is read, and what to call it."""
    with source.open() as file:
        head = file.read(256)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_content(source)
    if head.startswith(b"\x93NUMPY"):
        return "npy", "npy"
    if head.startswith(_LEGACY_TORCH):
        return "torch", "torch"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LARGEST_SAFETENSORS_HEADER:
        return "safetensors", "safetensors"
    if _begins_like_onnx(head):
        return "onnx", "onnx"
    if not head:
        return None, "empty"
    for magic, description in _KNOWN_OTHERS.items():
        if head.startswith(magic):
            return None, description
    return None, "text" if _is_text(head) else f"of an unknown kind (it begins with {head[:8]!r})"


def _zip_content(source: FileBytes) -> tuple[Format | None, str]:
    try:
        with open_zip(source) as archive:
            names = archive.namelist()
    except WeightFileError:
        raise
    except Exception as error:  # a damaged directory can fail in any way
        return None, f"a damaged or truncated zip archive ({first_line(error)})"
    if any(name.endswith("/constants.pkl") for name in names):
        return None, "TorchScript, which is code; save the state_dict() alone, or as safetensors"
    if any(name.endswith("/data.pkl") for name in names):
        return "torch", "torch"
    if not names or any(name.endswith(".npy") for name in names):
        return "npz", "npz"
    return None, "a zip archive without arrays"


def _begins_like_onnx(head: bytes) -> bool:
    """Protobuf has no magic: an ONNX model begins with field 1, its version, and goes on with another of its fields."""
    return head[:1] == b"\x08" and head[1:2] < b"\x80" and head[2:3] in _ONNX_SECOND_FIELDS


def _is_text(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(head)
