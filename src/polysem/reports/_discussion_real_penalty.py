"""The part of the report on the penalty in networks that read real images."""

import numpy as np

from polysem import plots, studies
from polysem.reports._page import Chapter, Part, Table
from polysem.reports._settings import ReproduceConfig, Sweeping
from polysem.studies import Band, Penalised, RealPenalty, over_starts

NAME, TITLE = "real_penalty", "The penalty on networks that read real images"


def real_penalty_part(config: ReproduceConfig, _: Sweeping) -> Part:
    """What fine-tuning with the penalty does to small networks on handwritten digits."""
    try:
        result = studies.real_penalty(config.real_penalty)
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        return Chapter(NAME, TITLE, (f"Left out: {error}.",)), ()
    return written(result, config.real_penalty)


def written(result: RealPenalty, c: studies.RealPenaltyConfig) -> Part:
    """Text, figures and tables: the words follow the numbers."""
    chapter = Chapter(
        name=NAME,
        title=TITLE,
        text=(
            "Proposed: train a network as usual, then fine-tune it so that sharing a dimension no longer pays, and see "
            "whether its features become monosemantic. Here on real data: scikit-learn's handwritten digits, "
            f"{result.n_train:,} for training and {result.n_test:,} for tests, {c.starts} starts with splits of "
            f"their own; stages of {c.steps} steps each: as usual, with the penalty κ Σ C (1 − C) (rising over half of "
            "them), and without it again. The control goes without it all the way. κ is in units of the loss of "
            "ignoring one feature.",
            "Features are pixels in the weights to a hidden layer with room for all of them (wide classifier), pixels "
            "in the code of an autoencoder with a ReLU behind its readouts (tied or untied), and the ten classes in "
            "a layer of fewer ReLU neurons (narrow classifier, with a yes-or-no question for each class; what a class "
            "does to a readout is measured against the mean of the other classes). Autoencoders have curves "
            "of marginal returns, which set a κ of their own; a class whose logits can be told apart has none.",
            "The index can fall without anything becoming clearer: rows may turn together in front of the same "
            "neurons, and features that are given up no longer count. Beside it stand the numbers of pure and "
            "ignored features, and a count that the penalty does not see: how many classes a neuron answers to, or "
            "how many outputs move when one pixel takes its value in another image (participation ratios; 1 is "
            "monosemantic).",
            *(_verdict(network) for network in result.networks),
            _conclusion(result),
        ),
        figures=tuple(plots.real_penalty_figures(result)),
        tables=tuple(_table(network) for network in result.networks),
    )
    return chapter, tuple(_summary(network) for network in result.networks)


def _verdict(network: Penalised) -> str:
    """What one network shows, at the weakest penalty that halves the index."""
    place = network.weakest
    name = network.name.capitalize()
    if place is None:
        return (
            f"{name}: no κ up to {network.kappa.mean(-1).max():.3g} surely halves the polysemanticity of its features."
        )
    index, (ignored, impure, pure) = network.penalised.polysemanticity.mean(-1), _numbers(network, place)
    loss, score = (network.against_control(what) for what in ("loss", "score"))
    last = int(network.kappa.mean(-1).argmax())
    words = {-1: "falls", 0: "does not change surely", 1: "rises"}
    follows = [
        f"{words[direction(network.against_control('count'), at)]} ({network.penalised.count[0].mean():.2g} to "
        f"{network.penalised.count[at].mean():.2g})"
        for at in dict.fromkeys((place, last))
    ]
    kept = network.removed.polysemanticity.mean(-1)
    return (
        f"{name}: κ = {network.kappa[place].mean():.3g} takes polysemanticity from {index[0]:.2f} to "
        f"{index[place]:.2f}, with {pure:.1f} pure, {impure:.1f} impure and {ignored:.1f} ignored of "
        f"{network.n_features} {network.features}, and changes the test loss by {_signed(loss, place)} of that of "
        f"ignoring everything, {network.score} by {_signed(score, place)}. The number of {network.counts} "
        f"{follows[0]}{f'; at the strongest κ it {follows[1]}' if len(follows) > 1 else ''}. Once the penalty is taken "
        f"away the index goes to {kept[place]:.2f} (control {kept[0]:.2f}, strongest κ {kept[last]:.2f})."
    )


def _conclusion(result: RealPenalty) -> str:
    halved = [(one, one.weakest) for one in result.networks]
    done = [(one, place) for one, place in halved if place is not None]
    follow = [one.name for one, place in done if direction(one.against_control("count"), place) < 0]
    against = [one.name for one, place in done if direction(one.against_control("count"), place) > 0]
    dear = [one.name for one, place in done if direction(one.against_control("loss"), place) > 0]
    back = [one.name for one, place in done if _persistence(one, place) < 1 / 2]
    return (
        f"Verdict: the penalty halves the index in {len(done)} of {len(result.networks)} kinds of networks. With the "
        f"weakest κ that does, the independent count falls in {_list(follow)} and rises in {_list(against)}; test "
        f"loss surely rises in {_list(dear)}. More than half of the change is lost again without the penalty in "
        f"{_list(back)}. Pure features are what is asked for; that neurons or outputs stand for fewer things is not "
        "implied by it."
    )


def _persistence(network: Penalised, place: int) -> float:
    """Share of the index's change that is left after the penalty was taken away."""
    after, left = (network.against_control("polysemanticity", removed=removed).mean[place] for removed in (False, True))
    return float(left / after)


def direction(difference: Band, place: int) -> int:
    """-1, 0, 1: surely falls, neither, surely rises."""
    mean, half = float(difference.mean[place]), float(difference.half_width[place])
    return int(np.sign(mean)) if abs(mean) > half else 0


def _summary(network: Penalised) -> tuple[str, str, str]:
    place = network.weakest
    label = f"Penalty on digits, {network.name}: index and test loss, control to the weakest κ that halves the index"
    if place is None:
        return label, "none does", "monosemantic at little loss"
    index, loss = network.penalised.polysemanticity.mean(-1), network.penalised.loss.mean(-1)
    return (
        label,
        f"{index[0]:.2f} to {index[place]:.2f}, {loss[0]:.3f} to {loss[place]:.3f}",
        "monosemantic at little loss",
    )


def _table(network: Penalised) -> Table:
    header = (
        network.name,
        "index",
        "ignored / impure / pure",
        "test loss / ignoring all",
        f"test {network.score}",
        network.counts,
        "index, penalty taken away",
    )
    rows = []
    last = len(network.kappa) - 1
    for place, kappa in enumerate(network.kappa.mean(-1)):
        label = f"κ {kappa:.3g}" if place else "control"
        rows.append(
            (
                f"{label} (curves)" if network.measured and place == last else label,
                *(
                    _pm(over_starts(values[place])) if not isinstance(values, str) else values
                    for values in (
                        network.penalised.polysemanticity,
                        " / ".join(f"{n:.1f}" for n in _numbers(network, place)),
                        network.penalised.loss,
                        network.penalised.score,
                        network.penalised.count,
                        network.removed.polysemanticity,
                    )
                ),
            )
        )
    null = ("random directions", _pm(over_starts(network.null)), *["–"] * 5)
    return Table(header, (*rows, null))


def _numbers(network: Penalised, place: int) -> tuple[float, ...]:
    return tuple(float(n) for n in network.penalised.number[place].mean(0))


def _pm(band: Band) -> str:
    return f"{float(band.mean):.3g} ± {float(band.half_width):.2g}"


def _signed(band: Band, place: int) -> str:
    return f"{band.mean[place]:+.3f} ± {band.half_width[place]:.3f}".replace("-", "−")


def _list(names: list[str]) -> str:
    return ", ".join(f"the {name}" for name in names) or "none"
