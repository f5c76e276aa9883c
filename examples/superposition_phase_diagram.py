"""Train a stack of toy models over density × importance, and plot their phase diagram: python examples/<this file>."""

from polysem.plots import superposition_figures
from polysem.studies import SuperpositionConfig, superposition

result = superposition(SuperpositionConfig(n_probability=24, n_ratio=24, restarts=16))
for name, figure in superposition_figures(result):
    figure.write_html(f"superposition-{name}.html")
print(f"trained and built-by-hand phases agree in {result.agreement:.1%} of {result.trained.numel()} cells")
