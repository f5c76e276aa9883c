"""`polysem analyze`."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from polysem.cli._dictionary import run_dictionary
from polysem.cli._print import print_json, print_table

if TYPE_CHECKING:
    from polysem.networks import WeightFile


@dataclass(frozen=True)
class Analyze:
    """Measure the capacity of the features of a matrix in a weight file, beside random baselines.

    A folder or file that holds a published sparse autoencoder and nothing else is measured whole. Of any other, without
    --tensor, lists every matrix of the file with both readings. Reads .safetensors, .pt (weights only, nothing
    in it is executed), .npz and .npy, block by block: files larger than memory work.

    Example: polysem analyze model.safetensors --tensor embeddings.word_embeddings.weight --features rows
    """

    file: Positional[Path]
    """The weight file."""
    tensor: str | None = None
    """Name of the matrix to measure."""
    features: Literal["rows", "columns"] = "rows"
    """Whether the stored rows or the stored columns are features; never guessed."""
    norm: Literal["raw", "unit"] = "raw"
    """Take features at their own norms, or divide each by its norm."""
    draws: int = 8
    """Random matrices for each of the two baselines."""
    seed: int = 0
    """Seeds the random matrices."""
    out: Path | None = None
    """Where to write the HTML page (default: named after file and tensor, in the working directory)."""
    force: bool = False
    """Overwrite a page that exists."""
    json: bool = False
    """Print numbers as JSON."""

    layout: str | None = None
    """How a sparse autoencoder is stored, where its file leaves it open: saelens, dictionary-learning, sparsify, ..."""
    d_in: int | None = None
    """Number of dimensions that a sparse autoencoder reads, where its file leaves it open."""

    def run(self) -> None:
        """List the matrices of the file, or measure one of them."""
        if self.tensor is None and run_dictionary(self):
            return
        from polysem.networks import load

        file = load(self.file)
        if self.tensor is None:
            self._list(file)
            return
        from rich.console import Console

        from polysem.networks import analyze
        from polysem.reports import analysis_page, claim, write

        matrix = file.matrix(self.tensor)
        safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in f"{self.file.stem}-{self.tensor}")
        out = claim(self.out or Path(f"{safe[:150]}-capacity.html"), force=self.force)
        console = Console(stderr=True)
        label = f"measuring {matrix.name}, {self.features} as features"
        with console.status(label) if console.is_terminal else nullcontext():
            analysis = analyze(
                self.file, self.tensor, features=self.features, norm=self.norm, draws=self.draws, seed=self.seed
            )
            write(out, analysis_page(analysis), force=self.force)
        if self.json:
            where = {
                "file": str(self.file),
                "tensor": self.tensor,
                "features": self.features,
                "page": str(out.resolve()),
            }
            print_json(where | analysis.report.to_dict())
            return
        print(f"{self.tensor} in {self.file}, {self.features} as features\n")
        print(analysis.report)
        print(f"\nPage: {out.resolve()}")

    def _list(self, file: "WeightFile") -> None:
        if self.json:
            matrices = [
                {"name": name, "shape": list(matrix.shape), "dtype": str(matrix.dtype).removeprefix("torch.")}
                for name, matrix in file.items()
            ]
            print_json({"file": str(file.path), "matrices": matrices, "skipped": file.skipped})
            return
        rows = []
        for name, matrix in file.items():
            first, second = matrix.shape
            rows.append(
                (
                    name,
                    f"{first:,} × {second:,}",
                    f"{first:,} features in {second:,} dims",
                    f"{second:,} features in {first:,} dims",
                )
            )
        print_table(("matrix", "stored", "--features rows", "--features columns"), tuple(rows))
        print(f"\nMatrices: {len(rows)}. Other entries, which are no floating-point matrices: {len(file.skipped)}.")
        if rows:
            print(f"Measure one of them with --tensor NAME --features rows|columns, for instance --tensor {rows[0][0]}")
