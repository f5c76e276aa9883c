"""The files of a published dictionary: which one holds the weights, under which names, and what lies beside it."""

import json
from os import PathLike, fspath
from pathlib import Path

from torch import Tensor

from polysem.networks._bytes import WeightFileError, first_line
from polysem.networks._files import WeightFile, load
from polysem.networks._hub import is_address, local
from polysem.networks._recognise import SUFFIXES
from polysem.networks._sae_layouts import DECODER_BIASES, DICTIONARY_LAYOUTS, PER_LATENT, Config
from polysem.networks._stored import StoredMatrix

WEIGHTS = ("sae_weights.safetensors", "sae.safetensors", "ae.pt", "params.npz", "params.safetensors")
"""What weight files are called in every such folder."""

_CONFIGS = ("cfg.json", "config.json")
_NOT_WEIGHTS = ("sparsity.safetensors",)
_SKIPS = {"w_skip", "affine_skip_connection"}
_LARGEST_CONFIG = 2**20


class Entries:
    """The entries of a weight file under the names that layouts use: in lower case, without their prefix."""

    def __init__(self, file: WeightFile, prefix: str | None) -> None:
        self._file = file
        prefixes = {""} if prefix is None else {f"{prefix}."}
        if prefix is None:
            ends = sorted({layout.decoder.lower() for layout in DICTIONARY_LAYOUTS}, key=len, reverse=True)
            found = (next((name[: -len(end)] for end in ends if _ends(name, end)), None) for name in file)
            prefixes = {start for start in found if start is not None} or prefixes
        if len(prefixes) > 1:
            shown = ", ".join(repr(start.rstrip(".")) for start in sorted(prefixes)[:5])
            raise WeightFileError(f"{file.path}: holds {len(prefixes)} dictionaries; choose one with prefix=: {shown}")
        self._prefix = prefixes.pop()
        everything = [*file, *file.skipped]
        self._names = {
            name[len(self._prefix) :].lower(): name for name in everything if name.startswith(self._prefix)
        } | ({"mean": "mean"} if "mean" in everything else {})

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Shapes of the matrices as stored."""
        return {short: self._file[name].shape for short, name in self._names.items() if name in self._file}

    @property
    def others(self) -> set[str]:
        """Names of the entries that are no matrices."""
        return {short for short, name in self._names.items() if name not in self._file}

    @property
    def skips(self) -> bool:
        """Whether there is a connection past the latents, as only transcoders have."""
        return bool(_SKIPS & set(self._names))

    def hold_only(self, names: tuple[str, ...]) -> bool:
        """Whether the file has no matrices but these and what goes with them."""
        return len(self._file) == len(self.shapes) and set(self.shapes) <= {*names, *_SKIPS, "mean"}

    def matrix(self, name: str) -> StoredMatrix:
        """A matrix of the layout."""
        return self._file.matrix(self._names[name.lower()])

    def vector(self, names: tuple[str, ...]) -> Tensor | None:
        """The first of these vectors that the file has; a matrix of one row is one."""
        for name in names:
            stored = self._names.get(name)
            if stored is None or (stored in self._file and 1 not in self._file[stored].shape):
                continue
            values = self._file.tensor(stored)
            if values.is_floating_point() and values.numel() == max(values.shape, default=0):
                return values.flatten()
        return None

    def lengths(self) -> list[tuple[str, str, int]]:
        """Vectors whose lengths are known dimensions: name, dimension, length."""
        kinds = [(name, "d_sae") for name in PER_LATENT] + [(name, "d_out") for name in DECODER_BIASES]
        vectors = ((name, dimension, self.vector((name,))) for name, dimension in [*kinds, ("mean", "d_in")])
        return [(name, dim, len(v)) for name, dim, v in vectors if v is not None and v.ndim == 1 and len(v) > 1]


def _ends(name: str, end: str) -> bool:
    return name.lower() == end or name.lower().endswith(f".{end}")


def weight_file(path: str | PathLike[str]) -> Path:
    """The weight file: itself, or the one in a folder; of the hub it is downloaded, with what lies beside it."""
    try:
        address = fspath(path)
    except TypeError as error:
        raise TypeError(f"path must be a str or os.PathLike[str], got {path!r}") from error
    where = local(address) if is_address(address) else Path(address)
    try:
        if not where.is_dir():
            return where
        inside = sorted(p for p in where.iterdir() if p.suffix.lower() in SUFFIXES and p.name not in _NOT_WEIGHTS)
    except (OSError, ValueError) as error:
        raise WeightFileError(f"{address!r}: cannot be read ({first_line(error)})") from error
    known = [p for p in inside if p.name in WEIGHTS] or inside
    if len(known) != 1:
        names = ", ".join(p.name for p in inside[:5]) or "none"
        raise WeightFileError(f"{where}: a folder with {len(inside)} weight files ({names}); name the one to read")
    return known[0]


def configurations(folder: Path) -> dict[str, Config]:
    """The JSON objects beside the weights."""
    found: dict[str, Config] = {}
    for name in _CONFIGS:
        path = folder / name
        if not path.is_file():
            continue
        if path.stat().st_size > _LARGEST_CONFIG:
            raise WeightFileError(f"{path}: a configuration of more than {_LARGEST_CONFIG} bytes")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError, OSError) as error:
            raise WeightFileError(f"{path}: not a JSON file ({error})") from error
        if isinstance(content, dict):
            found[name] = content
    return found


def frequencies(entries: Entries, folder: Path, d_sae: int) -> Tensor | None:
    """Frequencies that OpenAI keeps with the weights, and SAELens beside them as logarithms."""
    inside = entries.vector(("latents_activation_frequency",))
    if inside is not None and len(inside) == d_sae:
        return inside.double()
    beside = folder / "sparsity.safetensors"
    if beside.is_file():
        logarithms = load(beside).tensor("sparsity").double()
        if tuple(logarithms.shape) == (d_sae,):
            return (10**logarithms - 1e-10).clamp(min=0)
    return None
