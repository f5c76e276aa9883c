"""What holds of every figure: labels, captions, one look, and a sound JSON."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import plotly.graph_objects as go
import plotly.io
import pytest
import torch
import xarray as xr
from torch.testing import assert_close

from drawn import numbers
from made_addition import made_addition
from made_dictionaries import gaussian, saved_dictionary
from made_one_by_one import made_one_by_one
from made_transformers import made_transformers
from polysem import networks, plots, studies
from polysem.measure import report
from polysem.networks import CapacityMonitor

Figures = dict[str, go.Figure]


def compared_architectures() -> studies.Comparison:
    config = studies.ComparisonConfig(
        ("quadratic", "tied identity", "untied identity"),
        n_features=3,
        d_hidden=(2,),
        n_probability=2,
        restarts=2,
    )
    with TemporaryDirectory() as folder:
        return studies.comparison(config, Path(folder) / "store.zarr")


def equality_of_returns() -> Iterator[tuple[str, go.Figure]]:
    yield "quadratic", plots.price_figure(studies.power(studies.PowerConfig(n_models=2)).optimum.select(0))
    config = studies.LockingConfig(
        ("quadratic", "tied relu"),
        n_features=4,
        d_hidden=(1, 2),
        decays=(1.0, 0.8),
        probabilities=(0.3, 0.1),
        restarts=1,
        adam_steps=20,
        price_samples=100,
    )
    with TemporaryDirectory() as folder:
        found = studies.locking(config, Path(folder) / "store.zarr")
    yield "relu", plots.price_figure(found.one("tied relu", 1, 0.8, 0.1))
    yield from plots.locking_figures(found)
    yield "pair", plots.pair_figure(studies.pair(studies.PairConfig((0.3, 0.01), n_ratio=3, restarts=2)))


def predicted_capacities() -> studies.Prediction:
    config = studies.PredictionConfig(
        ("quadratic", "tied identity", "tied square"),
        n_features=3,
        d_hidden=2,
        probabilities=(1.0, 0.1),
        restarts=2,
        n_grid=5,
        n_samples=64,
    )
    with TemporaryDirectory() as folder:
        return studies.prediction(config, Path(folder) / "store.zarr")


def watched() -> xr.Dataset:
    network = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Linear(5, 4), torch.nn.Linear(4, 6))
    with CapacityMonitor(network, every=1) as monitor:
        monitor.step()
    return monitor.history


def made() -> Iterator[tuple[str, list[tuple[str, go.Figure]]]]:
    W = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    trained = studies.trained(studies.TrainedConfig(n_features=6, d_hidden=2, restarts=2))
    phase = studies.phase_diagram(studies.PhaseConfig(n_kurtosis=4, n_ratio=4, restarts=2))
    yield "points", plots.point_figures(studies.points(studies.PointsConfig(n_grid=5, restarts=2)))
    yield "stack", [("curves", plots.stack_figure(studies.stack(studies.StackConfig(n_features=4))))]
    yield "phase", plots.phase_figures(phase, studies.POINTS)
    cells = studies.TrainedPhaseConfig(n_kurtosis=2, n_ratio=2, restarts=2)
    yield "trained phases", [("map", plots.trained_phase_figure(studies.trained_phases(cells), studies.POINTS))]
    yield "trained", [("capacity", plots.capacity_figure(trained)), ("gram", plots.gram_figure(trained))]
    yield "width", plots.width_figures(studies.width(studies.WidthConfig(n_features=5)))
    for n in (2, 3):
        cells = studies.SuperpositionConfig(n_features=n, n_probability=2, n_ratio=2, restarts=2, adam_steps=10)
        yield f"superposition-{n}", plots.superposition_figures(studies.superposition(cells))
    tiny = studies.GeometryConfig((3,), (0.1,), 1, 20, n_features=6, d_hidden=2, n_probability=2, steps=20)
    yield "geometry", plots.geometry_figures(studies.geometry(tiny))
    compared = compared_architectures()
    yield "comparison", plots.comparison_figures(compared)
    yield "family", plots.family_figures(compared, compared.architecture[1:])
    yield "returns", list(equality_of_returns())
    few = studies.WithoutDiminishingConfig(
        tie_starts=3, pair_starts=2, pair_steps=20, batch_size=16, n_kurtosis=2, n_ratio=2, starts=2
    )
    yield "without_diminishing", plots.without_diminishing_figures(studies.without_diminishing(few))
    config = studies.LayersConfig(n_features=24, d_hidden=6, d_mlp=6, n_layers=1, adam_steps=30, samples=1000)
    yield "layers", plots.layer_figures(studies.layers(config))
    predicted = predicted_capacities()
    yield "prediction", plots.prediction_figures(predicted)
    yield "errors", plots.prediction_maps(predicted)
    yield "transformer", plots.transformer_figures(made_transformers())
    flat = studies.FlatteningConfig(
        n_features=4,
        d_hidden=2,
        restarts=2,
        adam_steps=40,
        n_shares=3,
        probabilities=(0.1,),
        relu_features=3,
        relu_hidden=2,
        relu_restarts=2,
        relu_steps=20,
        batch_size=16,
    )
    yield "flattening", plots.flattening_figures(studies.flattening(flat))
    digits = studies.RealPenaltyConfig(hidden=4, kappa=(1.0,), starts=2, steps=3, batch_size=8, curve_images=16)
    yield "real_penalty", plots.real_penalty_figures(studies.real_penalty(digits))
    few = studies.ParetoConfig(
        n_features=3,
        d_hidden=2,
        architectures=("tied identity",),
        restarts=2,
        n_shares=2,
        adam_steps=20,
        round_steps=10,
        batch_size=16,
    )
    with TemporaryDirectory() as folder:
        yield "pareto", plots.pareto_figures(studies.pareto(few, Path(folder) / "store.zarr"))
    yield "one_by_one", plots.one_by_one_figures(made_one_by_one())
    sought = studies.SearchingConfig(
        ("quadratic", "tied relu"),
        (0.1,),
        (1,),
        n_features=3,
        seeds=2,
        n_samples=500,
        few_samples=50,
        restarts=2,
        steps=5,
        adam_steps=10,
    )
    yield "searching", plots.searching_figures(studies.searching(sought))
    text = studies.WordsConfig(n_words=20, d_hidden=4, n_neurons=4, steps=20, batch_size=32, held_out=1000)
    yield "words", plots.words_figures(studies.words(text))
    yield "addition", [("waves", plots.addition_figure(studies.addition(made_addition(9), draws=2)))]
    small = studies.TreatingConfig(
        n_features=3,
        d_hidden=1,
        seeds=2,
        n_samples=200,
        steps=5,
        restarts=2,
        search_steps=5,
        digits_hidden=4,
        digits_steps=5,
        digits_rounds=1,
        digits_directions=1,
        digits_samples=100,
    )
    yield "treating", plots.treating_figures(studies.treating(small))
    yield "trajectories", [("all", plots.capacity_trajectories(watched()))]
    yield "errata", [("formula", plots.errata_figure(studies.errata(studies.ErrataConfig(n_matrices=3))))]
    with TemporaryDirectory() as folder:
        saved = [saved_dictionary(Path(folder), str(k), gaussian(k)) for k in range(3)]
        yield "dictionary", plots.dictionary_figures(networks.analyze_dictionary(saved[0], draws=2))
        yield "pair", plots.dictionary_pair_figures(networks.compare_dictionaries(*saved[:2], draws=2))
        yield "seeds", plots.dictionary_seeds_figures(networks.compare_seeds(saved, draws=2))
    layers = torch.nn.Sequential(torch.nn.Embedding(9, 6), *(torch.nn.Linear(6, 12) for _ in range(3)))
    yield "network", plots.network_figures(networks.analyze(layers, draws=2))
    yield "pair_curves", [("curves", plots.pair_curves_figure(studies.pair_curves(6.0, 0.6)))]
    for d in (2, 4):
        live = studies.LiveConfig(architecture="quadratic", n_features=5, d_hidden=d, n_seeds=3, steps=10)
        known = [("known optimum", studies.known_optimum(live) or 0.0)]
        yield f"live-{d}", plots.live_figures(live, studies.live(live).last, references=known)
    shown = plots.sweep_figure(swept(), "area", "ratio"), plots.sweep_figure(swept(), "area", "ratio", "seed")
    yield "sweep", [("line", shown[0]), ("map", shown[1])]
    yield "report", plots.report_figures(report(W, draws=2))
    yield "many", plots.report_figures(report(torch.cat([W] * 60), draws=2))


def swept() -> xr.Dataset:
    """Six cells of a sweep, the last of them failed."""
    area = xr.DataArray([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]], dims=("seed", "ratio"), coords={"ratio": [0.1, 1.0, 10.0]})
    status = xr.DataArray([[1, 1, 1], [1, 1, 2]], dims=("seed", "ratio"))
    return xr.Dataset({"area": area, "status": status, "seconds": ("stack", [0.5])})


@pytest.fixture(scope="module")
def figures() -> Figures:
    return {f"{group}-{name}": figure for group, members in made() for name, figure in members}


def test_these_are_all(figures: Figures) -> None:
    assert (
        len(figures)
        == 6
        + 1
        + 2
        + 2
        + 3
        + 2
        + 2
        + 5
        + 4
        + 1
        + 6
        + 5
        + 4
        + 4
        + 2
        + 5
        + 4
        + 1
        + 3
        + 3
        + 2
        + 2
        + 6
        + 2
        + 2
        + 2
        + 1
        + 1
        + 3
        + 3
        + 3
        + 2
        + 1
        + 5
        + 5
        + 1
        + 2
    )
    public = {name for name in dir(plots) if name.endswith(("figure", "figures", "maps"))}
    assert public == {
        "addition_figure",
        "capacity_figure",
        "comparison_figures",
        "dictionary_figures",
        "dictionary_pair_figures",
        "dictionary_seeds_figures",
        "errata_figure",
        "family_figures",
        "flattening_figures",
        "geometry_figures",
        "gram_figure",
        "layer_figures",
        "live_figures",
        "locking_figures",
        "network_figures",
        "one_by_one_figures",
        "pair_curves_figure",
        "pair_figure",
        "pareto_figures",
        "phase_figures",
        "point_figures",
        "price_figure",
        "prediction_figures",
        "prediction_maps",
        "real_penalty_figures",
        "report_figures",
        "searching_figures",
        "stack_figure",
        "superposition_figures",
        "sweep_figure",
        "trained_phase_figure",
        "transformer_figures",
        "treating_figures",
        "width_figures",
        "without_diminishing_figures",
        "words_figures",
    }


def each(check: Callable[[go.Figure], None], figures: Figures) -> None:
    for name, figure in figures.items():
        try:
            check(figure)
        except AssertionError as error:
            raise AssertionError(name) from error


def test_axes_have_titles(figures: Figures) -> None:
    def check(figure: go.Figure) -> None:
        axes = [key for key in figure.to_dict()["layout"] if key.startswith(("xaxis", "yaxis"))]
        assert {"xaxis", "yaxis"} <= set(axes)
        labelled = [axis for axis in axes if figure.layout[axis].showticklabels is not False]
        assert all(figure.layout[axis].title.text for axis in labelled)
        assert all(
            trace.colorbar.title.text
            for trace in figure.data
            if trace.type == "heatmap" and trace.showscale is not False
        )

    each(check, figures)


def test_captions_are_one_sentence_or_more_on_one_line(figures: Figures) -> None:
    def check(figure: go.Figure) -> None:
        assert set(figure.layout.meta) == {"title", "caption"}
        caption = figure.layout.meta["caption"]
        assert len(caption) > 40
        assert caption.endswith(".")
        assert "\n" not in caption
        assert "nan" not in caption
        assert figure.layout.title.text is None  # the page sets it as text, which wraps

    each(check, figures)


def test_all_share_one_look(figures: Figures) -> None:
    def check(figure: go.Figure) -> None:
        assert figure.layout.template == plots.TEMPLATE

    each(check, figures)


def test_legends_name_every_trace_they_show(figures: Figures) -> None:
    def check(figure: go.Figure) -> None:
        shown = [trace for trace in figure.data if trace.type != "heatmap" and trace.showlegend is not False]
        if len(shown) > 1:
            names = [trace.name for trace in shown]
            assert all(names)
            assert len(set(names)) == len(names)

    each(check, figures)


def test_json_carries_the_figure_whole(figures: Figures) -> None:
    def check(figure: go.Figure) -> None:
        text = figure.to_json()
        assert "NaN" not in text
        assert "Infinity" not in text
        back = plotly.io.from_json(text)
        assert json.loads(back.to_json()) == json.loads(text)
        compared = 0
        for trace, again in zip(figure.data, back.data, strict=True):
            for key in {"x", "y", "z"} & set(trace.to_plotly_json()):
                if isinstance(trace[key][0], str):
                    assert list(again[key]) == list(trace[key])
                else:
                    assert_close(numbers(again[key]), numbers(trace[key]), rtol=0, atol=0, equal_nan=True)
                compared += 1
        assert compared >= 2 * len(figure.data) or figure.data[0].type == "heatmap"

    each(check, figures)
