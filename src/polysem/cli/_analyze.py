"""`polysem analyze`."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from polysem.cli._dictionary import run_dictionary
from polysem.cli._print import print_json, print_table

if TYPE_CHECKING:
    from polysem.networks import Analysis, Feature, Partner, WeightFile


@dataclass(frozen=True)
class Analyze:
    """Measure the capacity of the features of a network, or of a matrix in a weight file, beside random baselines.

    A published sparse autoencoder is measured whole, and so is a transformer of a known family (BERT, GPT-2, Llama,
    Mistral, Gemma, GPT-NeoX): embeddings, neurons and heads of attention, as they read from and write to the residual
    stream. Of any other file, all matrices are listed, and --tensor measures one. Reads .safetensors, .pt (weights
    only, nothing in it is executed), .npz, .npy, .onnx and folders, block by block: files larger than memory work.

    Example: polysem analyze model.safetensors --vocab vocab.txt
    """

    file: Positional[Path]
    """The weight file, or the folder of a network."""
    tensor: str | None = None
    """Name of the matrix to measure, instead of a whole network."""
    features: Literal["rows", "columns"] | None = None
    """With --tensor: whether the stored rows (as if not given) or the stored columns are features; never guessed."""
    vocab: Path | None = None
    """Labels of the tokens, or of the features of --tensor: vocab.txt (one a line), vocab.json, tokenizer.json,
    or an .onnx file that carries its characters."""
    heads: int | None = None
    """Heads of attention, where no config.json beside the weights says it."""
    partners: str | None = None
    """Print what interferes most with this feature of the token embedding, or of --tensor: its label or number."""
    list: bool = False
    """List all matrices, whatever the file is."""
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
        """List the matrices of the file, or measure the network or one of them."""
        if self.tensor is None and not self.list and run_dictionary(self):
            return
        from polysem.networks import family_of, load

        file = load(self.file)
        if self.list:
            self._list(file, "")
        elif self.tensor is not None:
            file.matrix(self.tensor)
            self._measure(f"{self.file.stem}-{self.tensor}")
        else:
            family, why_not = family_of(file)
            if family is None:
                self._list(file, f"Not measured as a whole: {why_not}.")
            else:
                self._measure(self.file.resolve().stem)

    def _measure(self, name: str) -> None:
        from rich.console import Console

        from polysem.networks import analyze, read_labels
        from polysem.reports import analysis_page, claim, write

        safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in name)
        out = claim(self.out or Path(f"{safe[:150]}-capacity.html"), force=self.force)
        labels = None if self.vocab is None else read_labels(self.vocab)
        console = Console(stderr=True)
        with console.status("measuring") if console.is_terminal else nullcontext() as status:
            analysis = analyze(
                self.file,
                self.tensor,
                features=self.features,
                n_heads=self.heads,
                labels=labels,
                norm=self.norm,
                draws=self.draws,
                seed=self.seed,
                progress=lambda name, done, n: status.update(f"{done / n:.0%}: {name}") if status else None,
            )
            asked = None if self.partners is None else self._asked(analysis)
            write(out, analysis_page(analysis), force=self.force)
        if self.json:
            self._print_json(analysis, asked, out)
        else:
            self._print(analysis, asked, out)

    def _print_json(self, analysis: "Analysis", asked: "_Asked | None", out: Path) -> None:
        where: dict[str, object] = {"file": str(self.file), "page": str(out.resolve())}
        if asked is not None:
            where["partners"] = [vars(other) for other in asked.partners]
        if self.tensor is None:
            print_json(where | analysis.to_dict())
        else:
            print_json(where | analysis.measured[0].to_dict())

    def _print(self, analysis: "Analysis", asked: "_Asked | None", out: Path) -> None:
        if self.tensor is None:
            self._print_network(analysis)
        else:
            (one,) = analysis.measured
            print(f"{one.name} in {self.file}, {one.features} as features\n")
            print(one.report)
        if asked is not None:
            self._print_partners(asked)
        print(f"\nPage: {out.resolve()}")

    def _print_network(self, analysis: "Analysis") -> None:
        print(f"{analysis.family} network in {self.file}\n")
        rows = []
        for one in analysis:
            report, d = one.report, max(one.report.d_hidden, 1)
            low, high = report.interval
            rows.append(
                (
                    one.name,
                    one.kind,
                    f"{report.n_features:,} × {report.d_hidden:,}",
                    f"{report.total / d:.3f}",
                    f"{report.null / d:.3f} ({low / d:.3f} to {high / d:.3f})",
                    f"{report.covariance.mean / d:.3f}",
                    f"{report.efficiency:.3f}",
                )
            )
        header = ("matrix", "kind", "features × D", "total / D", "random directions", "same moments", "efficiency")
        print_table(header, tuple(rows))
        for note in analysis.notes:
            print(f"\n{note}")

    def _print_partners(self, asked: "_Asked") -> None:
        from polysem.networks import visible_label

        feature = asked.feature
        row = f"row {feature.index}"
        who = row if feature.label is None else f"{visible_label(feature.label)} ({row})"
        print(f"\nPartners of {who}, which owns {feature.capacity:.3g}, in {feature.matrix}:")
        rows = tuple(
            (visible_label(other.label or ""), str(other.index), f"{other.cosine:+.3f}", f"{other.share:.2e}")
            for other in asked.partners
        )
        print_table(("label", "row", "cosine", "share"), rows)

    def _asked(self, analysis: "Analysis") -> "_Asked":
        """The feature that is asked for: of that label, or else of that number."""
        assert self.partners is not None
        one = analysis.measured[0]
        row = one.index(self.partners)
        return _Asked(one.feature(row), one.partners(row))

    def _list(self, file: "WeightFile", why: str) -> None:
        if self.json:
            matrices = [
                {"name": name, "shape": [*matrix.shape], "dtype": str(matrix.dtype).removeprefix("torch.")}
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
        if why:
            print(why)
        if rows:
            print(f"Measure one of them with --tensor NAME --features rows|columns, for instance --tensor {rows[0][0]}")


@dataclass(frozen=True)
class _Asked:
    """A feature whose partners are asked for, and these."""

    feature: "Feature"
    partners: "tuple[Partner, ...]"
