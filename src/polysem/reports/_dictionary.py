"""Pages of dictionaries: one measured, or several held against each other."""

from importlib.metadata import version

from polysem.networks import DictionaryAnalysis, DictionaryComparison, SeedComparison
from polysem.plots import dictionary_figures, dictionary_pair_figures, dictionary_seeds_figures, report_figures
from polysem.reports._page import Chapter, Table, page

_CAPACITY = (
    "A latent's capacity C_i = (W_i·W_i)² / Σ_j (W_i·W_j)² is the share of a dimension that its decoder row W_i owns: "
    "1 if it is orthogonal to all others, 1/2 at most if it occurs twice. The total cannot exceed the number of "
    "dimensions; random directions nearly reach it once there are many more latents than dimensions."
)
_NORMS = (
    "Capacity depends on the lengths of the rows, and these are a convention of whoever trained the dictionary: some "
    "keep decoder rows at norm 1, some leave their length to the penalty. “raw” takes them as they are, “unit” "
    "divides each by its norm; neither knows how strongly a latent is active."
)


def dictionary_page(analysis: DictionaryAnalysis) -> str:
    """An HTML page: what was read, the verdict, tables and figures of decoder, encoder and duplicates."""
    report, sae = analysis.report, analysis.dictionary
    chapters = (
        Chapter(
            name="numbers",
            title="Numbers",
            text=(report.verdict,),
            tables=(
                Table(("latents", "value"), tuple(analysis.table())),
                Table(("capacity of the decoder", "value"), tuple(report.table())),
            ),
        ),
        Chapter("decoder", "What the latents write", figures=tuple(report_figures(report)), wide=True),
        Chapter("latents", "Latents one by one", figures=tuple(dictionary_figures(analysis)), wide=True),
        Chapter(
            name="reading",
            title="How to read this",
            text=(
                _CAPACITY,
                _NORMS,
                "The first null keeps the norms and draws directions at random; the second draws Gaussian rows with "
                "the same second moments, so that it uses the directions as unequally as the decoder does.",
                "Response capacity is R_{ii}² / Σ_j R_{ij}² with R = V W^T: how much of what the encoder row V_i picks "
                "up, when every latent writes with equal strength, is latent i's own. The best linear readout would "
                "reach the leverage of the decoder rows. A nonlinearity after the encoder (a threshold, or the k "
                "largest) silences interference that these numbers count.",
                *_dead(analysis),
            ),
        ),
    )
    lead = f"{sae.name}: {sae.says}."
    footer = f"polysem {version('polysem')}; norm policy {report.norm}."
    return page(f"Dictionary {sae.name}", lead, chapters, footer)


def dictionaries_page(comparison: DictionaryComparison | SeedComparison) -> str:
    """An HTML page of two dictionaries, or of several, held against each other."""
    if isinstance(comparison, SeedComparison):
        return _seeds_page(comparison)
    first, second = comparison.first, comparison.second
    chapters = (
        Chapter(
            name="numbers",
            title="Numbers",
            text=(comparison.verdict,),
            tables=(Table(comparison.header, tuple(comparison.table())),),
        ),
        Chapter("matches", "Matches", figures=tuple(dictionary_pair_figures(comparison)), wide=True),
        Chapter("reading", "How to read this", text=_comparing()),
    )
    lead = f"First: {first.name}, {first.says}. Second: {second.name}, {second.says}."
    footer = f"polysem {version('polysem')}; norm policy {comparison.norm}."
    return page("Two dictionaries", lead, chapters, footer)


def _seeds_page(seeds: SeedComparison) -> str:
    numbers = [
        ("total capacity / D", _range(seeds.total.tolist())),
        ("rank correlation of capacity and best |cosine|, less chance", str(seeds.replication)),
    ]
    centres = [pair.centres for pair in seeds.pairs if pair.centres is not None]
    if centres:
        numbers.append(("correlation of the centres", _range(centres)))
    chapters = (
        Chapter(
            name="numbers",
            title="Numbers",
            text=(seeds.verdict,),
            tables=(
                Table(seeds.header, tuple(seeds.table())),
                Table(("quantity", "value"), tuple(numbers)),
            ),
        ),
        Chapter("matches", "Matches", figures=tuple(dictionary_seeds_figures(seeds)), wide=True),
        Chapter("reading", "How to read this", text=_comparing()),
    )
    first = seeds.dictionaries[0]
    lead = f"{len(seeds.dictionaries)} dictionaries, the first of them a {first.says}."
    footer = f"polysem {version('polysem')}; norm policy {seeds.pairs[0].norm}."
    return page("Dictionaries compared", lead, chapters, footer)


def _dead(analysis: DictionaryAnalysis) -> tuple[str, ...]:
    text = (
        "Dead latents are left out of all measurements, as far as they are known. A zero row tells one; a latent whose "
        "encoder never beats its bias, its threshold or the other latents keeps rows like any other."
    )
    if analysis.dead.silent is None:
        text += (
            " This file does not say how often its latents were active, so that the numbers here are of all latents."
        )
    return (text,)


def _comparing() -> tuple[str, ...]:
    return (
        "For each latent the other dictionary is searched for the decoder row with the largest |cosine|. Chance finds "
        "something too, the more the larger the dictionary and the fewer the dimensions: the first null puts random "
        "directions in the place of the latents, the second Gaussian ones with the same second moments of directions.",
        "Only the second null says whether single latents come again: two dictionaries of one layer crowd into the "
        "same few directions even where no latent of one is in the other.",
        "Intervals over latents take them for independent, which latents of one dictionary are not. Those over "
        "dictionaries do not.",
        "Directions can be compared only in one space. Dictionaries of separately trained networks have none in "
        "common, whatever their cosines; the centres of the activations, where files carry them, give that away.",
        _NORMS,
    )


def _range(values: list[float]) -> str:
    return f"from {min(values):.4f} to {max(values):.4f}"
