"""The part of `polysem analyze` that is about sparse autoencoders."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from polysem.cli._print import print_json

if TYPE_CHECKING:
    from polysem.cli._analyze import Analyze


def run_dictionary(command: "Analyze") -> bool:
    """Measure a sparse autoencoder, if that is what the folder or file holds and nothing else; say whether it was."""
    from polysem.networks import dictionary, holds_dictionary

    asked = command.layout is not None or command.d_in is not None
    if not asked and not holds_dictionary(command.file):
        return False
    from rich.console import Console

    from polysem.networks import analyze_dictionary
    from polysem.reports import claim, dictionary_page, write

    sae = dictionary(command.file, layout=command.layout, d_in=command.d_in)
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in command.file.resolve().stem)
    out = claim(command.out or Path(f"{safe[:150]}-dictionary.html"), force=command.force)
    console = Console(stderr=True)
    with console.status(f"measuring {sae.d_sae:,} latents") if console.is_terminal else nullcontext():
        analysis = analyze_dictionary(sae, norm=command.norm, draws=command.draws, seed=command.seed)
        write(out, dictionary_page(analysis), force=command.force)
    if command.json:
        print_json({"file": str(sae.path), "page": str(out.resolve())} | analysis.to_dict())
        return True
    print(f"{sae.path}: {sae.says}\n")
    table = analysis.table()
    width = max(len(label) for label, _ in table)
    print("\n".join(f"{label:<{width}}  {value}" for label, value in table))
    print(f"\nCapacity of the decoder:\n\n{analysis.report}")
    print(f"\nPage: {out.resolve()}")
    return True
