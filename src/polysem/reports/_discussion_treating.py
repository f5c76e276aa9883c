"""The discussion's whole procedure: find a direction, treat it, train on, repeat."""

from collections.abc import Iterator

from torch import Tensor

from polysem import plots, studies
from polysem.measure import PURE_ABOVE
from polysem.reports._page import Chapter, Part, Table
from polysem.reports._settings import ReproduceConfig, Sweeping


def treating_part(config: ReproduceConfig, _: Sweeping) -> Part:
    """Search, flatten or mask, train on: on quadratic models, and on a network over pixels."""
    c, result = config.treating, studies.treating(config.treating)
    chapter = Chapter(
        name="treating",
        title="Search, treat, train on, repeat",
        text=(
            "The proposal: put the pieces together where features are not given. Find a direction, flatten its returns "
            "or take it out of the inputs, train on, and go on until nothing is left to treat; for instance on linear "
            "combinations of pixels.",
            f"{c.seeds} quadratic models ({c.n_features} features of kurtosis {c.kurtosis:g}, v = {c.decay:g}^i, "
            f"{c.d_hidden} dimensions), each behind a random rotation of its own. Flattening charges the direction of "
            "the most diminishing returns, if it is impure, and goes on with those uncorrelated with it. Masking finds "
            "as many directions as are left and takes out the one on which a whole dimension would save least, until "
            f"no direction found is impure. {_quadratic(result)}",
            _digits(c, result.digits),
            _verdict(result),
        ),
        figures=tuple(plots.treating_figures(result)),
        tables=(_ways(result), *([] if result.digits is None else [_rounds(result.digits), _found(result.digits)])),
    )
    return chapter, tuple(_summary(result))


def _way(result: studies.Treating, name: str) -> studies.TreatedWay:
    return next(way for way in result.ways if way.name == name)


def _quadratic(result: studies.Treating) -> str:
    """What became of the quadratic models."""
    parts = [
        f"“{way.name}” leaves {way.n_monosemantic} of {len(way.loss)} models monosemantic, at a median loss of "
        f"{float(way.loss.median()):.2f}, and {int(way.n_true.sum())} of its {int(way.n_treated.sum())} choices are "
        "features"
        for way in result.ways[1:]
    ]
    before = result.ways[0]
    return (
        f"Before, {before.n_monosemantic} of {len(before.loss)} are monosemantic, at a median loss of "
        f"{float(before.loss.median()):.2f}; the best monosemantic allocation has {result.floor:.2f} (a little less is "
        f"possible where what counts as pure has a capacity above {PURE_ABOVE}). " + "; ".join(parts) + "."
    )


def _digits(c: studies.TreatingConfig, digits: studies.Digits | None) -> str:
    """What was found in the network over pixels, by numbers alone."""
    if digits is None:
        return "A network over pixels was left out: scikit-learn, which has the images, is not installed."
    network, images = digits.found
    charged = digits.charged
    loss = digits.treated.loss[:, 0]
    before, after = digits.treated.capacity[charged, 0], digits.capacity_after[charged]
    n = len(digits.treated.treated)
    rounds = f"{n} round{'s' if n > 1 else ''}"
    text = (
        f"Pixels: a tied ReLU autoencoder of scikit-learn's digits with {c.digits_hidden} dimensions, pixels divided "
        f"by one number so that their mean variance is 1; it leaves {digits.relative_loss:.1%} of the variance. Which "
        "features there are nobody knows, so directions are described by numbers alone. Those of the most diminishing "
        f"returns have {_range(network.local)} of their squared weight on their eight heaviest pixels and |F_u − 3| of "
        f"{_numbers(network.kurtosis)}; the least Gaussian components {_range(images.local)} and "
        f"{_numbers(images.kurtosis)}. "
    )
    if not len(charged):
        return text + f"In {rounds} no direction was impure with diminishing returns."
    return text + (
        f"In {rounds} of flattening, impure directions with diminishing returns were found "
        f"and charged: {len(charged)}. Their capacities were {_numbers(before)} when they were found and are "
        f"{_numbers(after)} at the end. The loss is {float(loss[-1]):.2f}, after as much training without a charge "
        f"{digits.control:.2f}."
    )


def _verdict(result: studies.Treating) -> str:
    """In plain words, by what was measured."""
    flat, masked, price = (_way(result, name) for name in ("search, flatten", "search, mask", "least importance, mask"))
    known, known_mask = _way(result, "known, flatten"), _way(result, "known, mask")
    n = len(flat.loss)
    works = min(flat.n_monosemantic, masked.n_monosemantic)
    does = "works" if works >= 0.9 * n else "works sometimes" if works > 0 else "does not work"
    fails = "does not" if price.n_monosemantic <= 0.1 * n else "does sometimes" if price.n_monosemantic < n else "does"
    return (
        f"Verdict: on quadratic models that are searched for diminishing returns the procedure {does} without knowing "
        f"the features; not to know them changes the loss by {_more(flat, known)} in flattening and by "
        f"{_more(masked, known_mask)} in masking. To mask what has least importance {fails} lead to pure features: it "
        "stops when nothing that it looks at is impure, and that need not be features."
    )


def _more(way: studies.TreatedWay, known: studies.TreatedWay) -> str:
    """How much larger a median loss is."""
    return f"{round(float(way.loss.median() / known.loss.median()) - 1, 3) + 0.0:+.1%}"


def _summary(result: studies.Treating) -> Iterator[tuple[str, str, str]]:
    for name, expected in (("search, flatten", "all"), ("search, mask", "all"), ("least importance, mask", "–")):
        way = _way(result, name)
        yield (
            f"Features not given, {name}: monosemantic models",
            f"{way.n_monosemantic} of {len(way.loss)}, loss {float(way.loss.median()):.2f} "
            f"(best monosemantic {result.floor:.2f})",
            expected,
        )
    if result.digits is not None:
        charged = result.digits.charged
        before, after = result.digits.treated.capacity[charged, 0], result.digits.capacity_after[charged]
        yield (
            "Pixels: capacities of flattened directions, before and after",
            f"{_numbers(before)}; {_numbers(after)}" if len(charged) else "none was flattened",
            "0 or 1 after",
        )


def _ways(result: studies.Treating) -> Table:
    return Table(
        ("quadratic models", "monosemantic", "impure features", "treated, features among them", "median loss"),
        tuple(
            (
                way.name,
                f"{way.n_monosemantic} of {len(way.loss)}",
                f"{float(way.n_impure.double().mean()):.1f}",
                f"{float(way.n_treated.double().mean()):.1f}, {float(way.n_true.double().mean()):.1f}",
                f"{float(way.loss.median()):.2f}",
            )
            for way in result.ways
        ),
    )


def _rounds(digits: studies.Digits) -> Table:
    """The history of flattening directions of pixels."""
    done = digits.treated
    return Table(
        ("round, pixels", "κ searched for", "charged", "capacity when found", "at the end", "loss after"),
        tuple(
            (
                str(index + 1),
                f"{float(done.score[index, 0]):.3g}",
                "yes" if bool(done.treated[index, 0]) else "no",
                f"{float(done.capacity[index, 0]):.2f}",
                f"{float(digits.capacity_after[index]):.2f}",
                f"{float(done.loss[index + 1, 0]):.2f}",
            )
            for index in range(len(done.score))
        ),
    )


def _found(digits: studies.Digits) -> Table:
    """What pictures show, in numbers."""
    names = {"diminishing": "diminishing returns", "non_gaussian": "FastICA"}
    return Table(
        ("directions of pixels", "score", "capacity", "|F_u − 3|", "weight on 8 pixels"),
        tuple(
            (
                f"{names[one.name]}, {index + 1}",
                f"{float(one.score[index]):.3g}",
                f"{float(one.capacity[index]):.2f}",
                f"{float(one.kurtosis[index]):.3g}",
                f"{float(one.local[index]):.0%}",
            )
            for one in digits.found
            for index in range(len(one.score))
        ),
    )


def _range(shares: Tensor) -> str:
    low, high = f"{float(shares.min()):.0%}", f"{float(shares.max()):.0%}"
    return low if low == high else f"{low} to {high}"


def _numbers(values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
