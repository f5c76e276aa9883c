"""Safetensors files: the library checks the header, and the numbers are read from where it says they are."""

import struct
from collections.abc import Iterator
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from polysem.networks._bytes import LARGEST_DIRECTORY, FileBytes, WeightFileError, first_line, parse_json
from polysem.networks._stored import Content, Entry, raw_entry

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
_KINDS = {"I": "int", "U": "uint", "C": "complex"}


def read_safetensors(source: FileBytes) -> Content:
    """The tensors of a safetensors file in the order of their bytes."""
    with source.open() as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > LARGEST_DIRECTORY:
            raise WeightFileError(
                f"{source.path}: a header of {length} bytes, where at most {LARGEST_DIRECTORY} are read"
            )
        try:
            with safe_open(source.path, framework="pt"):
                pass
            header: dict[str, Any] = parse_json(file.read(length))
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightFileError(
                f"{source.path}: a damaged or truncated safetensors file ({first_line(error)})"
            ) from error
    metadata = header.pop("__metadata__", None)
    return Content(_entries(header, source, 8 + length), metadata or {})


def _entries(header: dict[str, Any], source: FileBytes, start: int) -> Iterator[Entry]:
    for name, info in sorted(header.items(), key=lambda entry: entry[1]["data_offsets"]):
        code, shape = info["dtype"], tuple(info["shape"])
        kind = _KINDS.get(code[0])
        dtype_name = kind + code[1:] if kind else code
        yield raw_entry(name, shape, _DTYPES.get(code), dtype_name, source, start + info["data_offsets"][0])
