"""`polysem compare`."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from polysem.cli._print import print_json, print_table

if TYPE_CHECKING:
    from polysem.networks import DictionaryComparison, SeedComparison


@dataclass(frozen=True)
class Compare:
    """Compare sparse autoencoders: which latents of one are found in another, beside what chance would find.

    Two are compared latent by latent; three or more, seeds of one dictionary say, each with each. Reads what SAELens,
    dictionary_learning, sparsify, Gemma Scope, OpenAI and others publish: folders or files.

    Example: polysem compare sae_seed0 sae_seed1 --norm unit
    """

    paths: Positional[tuple[Path, ...]]
    """Folders or weight files of two dictionaries or more."""
    norm: Literal["raw", "unit"] = "raw"
    """Measure capacity with decoder rows at their own norms, or each divided by its norm."""
    shared_above: float = 0.7
    """Cosine, of either sign, from which a latent counts as shared."""
    layout: str | None = None
    """How the files are stored, where they leave it open: saelens, dictionary-learning, sparsify, ..."""
    d_in: int | None = None
    """Number of dimensions that the encoders read, where the files leave it open."""
    draws: int = 8
    """Random sets of directions for each of the two baselines."""
    seed: int = 0
    """Seeds them."""
    out: Path = Path("polysem-compare.html")
    """Where to write the HTML page."""
    force: bool = False
    """Overwrite a page that exists."""
    json: bool = False
    """Print numbers as JSON."""

    def run(self) -> None:
        """Compare, print and write."""
        if len(self.paths) < 2:
            raise ValueError("polysem compare takes two dictionaries or more")
        from rich.console import Console

        from polysem.networks import compare_dictionaries, compare_seeds, dictionary
        from polysem.reports import claim, dictionaries_page, write

        claim(self.out, force=self.force)
        opened = [dictionary(path, layout=self.layout, d_in=self.d_in) for path in self.paths]
        console = Console(stderr=True)
        found: DictionaryComparison | SeedComparison
        with console.status(f"comparing {len(opened)} dictionaries") if console.is_terminal else nullcontext():
            if len(opened) == 2:
                first, second = opened
                found = compare_dictionaries(
                    first, second, norm=self.norm, shared_above=self.shared_above, draws=self.draws, seed=self.seed
                )
            else:
                found = compare_seeds(
                    opened, norm=self.norm, shared_above=self.shared_above, draws=self.draws, seed=self.seed
                )
            write(self.out, dictionaries_page(found), force=self.force)
        if self.json:
            print_json({"page": str(self.out.resolve())} | found.to_dict())
            return
        for place, sae in enumerate(opened, 1):
            print(f"{place}: {sae.path}: {sae.says}")
        print()
        print_table(found.header, tuple(found.table()))
        print(f"\n{found.verdict}\n\nPage: {self.out.resolve()}")
