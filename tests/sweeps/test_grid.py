"""Grids: cells, canonical values, JSON, hashes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polysem.sweeps import Grid

NUMBERS = st.one_of(
    st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=5, unique=True),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5, unique=True),
    st.lists(st.text(max_size=5), min_size=1, max_size=5, unique=True),
)
AXES = st.dictionaries(st.sampled_from("abcd"), NUMBERS, min_size=1)
FIXED = st.dictionaries(
    st.sampled_from("efgh"), st.one_of(st.booleans(), st.none(), st.text(max_size=5), st.lists(st.integers()))
)


@settings(deadline=None)
@given(AXES, FIXED)
def test_json_gives_the_same_grid_again(axes: dict[str, list[object]], fixed: dict[str, object]) -> None:
    grid = Grid(axes, fixed=fixed)
    again = Grid.from_json(grid.to_json())
    assert again == grid
    assert again.hash == grid.hash
    assert [*again.axes] == [*grid.axes]
    assert grid.n_cells == np.prod([len(values) for values in axes.values()])


def test_hash_is_stable_and_tells_grids_apart() -> None:
    grid = Grid({"a": [1, 2], "b": ["x", "y"]}, fixed={"c": 1, "d": [True, None]})
    assert grid.hash == "922bb099f4b83b7352d9c15290fbb471dd9a012232c6676138520b83e3dc87b0"
    assert Grid({"a": [1, 2], "b": ["x", "y"]}, fixed={"d": (True, None), "c": 1}).hash == grid.hash
    others = [
        Grid({"b": ["x", "y"], "a": [1, 2]}, fixed=grid.fixed),
        Grid({"a": [2, 1], "b": ["x", "y"]}, fixed=grid.fixed),
        Grid({"a": [1.0, 2.0], "b": ["x", "y"]}, fixed=grid.fixed),
        Grid({"a": ["1", "2"], "b": ["x", "y"]}, fixed=grid.fixed),
        Grid({"a": [1, 2], "b": ["x", "y"]}, zipped=[("a", "b")], fixed=grid.fixed),
        Grid({"a": [1, 2], "b": ["x", "y"]}, fixed={"c": 1}),
    ]
    assert len({grid.hash, *(other.hash for other in others)}) == 7


def test_values_are_plain() -> None:
    grid = Grid({"i": np.arange(3), "f": np.array([0.5, 2.0]), "mixed": [1, 2.5], "s": np.array(["a", "b"])})
    assert grid.axes == {"i": (0, 1, 2), "f": (0.5, 2.0), "mixed": (1.0, 2.5), "s": ("a", "b")}
    assert [str(grid.coordinate(axis).dtype) for axis in grid.axes] == ["int64", "float64", "float64", "object"]
    json.loads(grid.to_json())


def test_zipped_axes_share_a_dimension() -> None:
    grid = Grid({"n": [2, 2, 5], "p": [0.1, 1.0], "d": [1, 2, 2], "e": [4, 5]}, zipped=[("n", "d"), ("e", "p")])
    assert grid.groups == {"n+d": ("n", "d"), "e+p": ("e", "p")}
    assert grid.shape == (3, 2)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("axes", "more", "message"),
    [
        ({}, {}, "axes must be a mapping of at least one name"),
        ([("a", [1])], {}, "axes must be a mapping"),
        ({"a b": [1]}, {}, "must be a Python identifier, got 'a b'"),
        ({"a": []}, {}, r"axes\['a'\] must be at least one value"),
        ({"a": 3}, {}, r"axes\['a'\] must be a list of values, got 3"),
        ({"a": "abc"}, {}, r"axes\['a'\] must be a list of values, got 'abc'"),
        ({"a": [1, 2, 1.0]}, {}, r"axes\['a'\] must be free of duplicates, got 1.0"),
        ({"a": [0.0, -0.0]}, {}, r"axes\['a'\] must be free of duplicates"),
        ({"a": [1.0, float("nan")]}, {}, r"axes\['a'\] must be finite numbers only, or strings only, got nan"),
        ({"a": [1, float("inf")]}, {}, "finite numbers only"),
        ({"a": [1, "x"]}, {}, "finite numbers only, or strings only, got 'x'"),
        ({"a": [True, False]}, {}, "finite numbers only"),
        ({"a": [2**63]}, {}, "whole numbers that 64 bits can hold"),
        ({"a": [1]}, {"fixed": {"a": 2}}, "fixed must be free of the names of axes, got 'a'"),
        ({"a": [1]}, {"fixed": {"b": float("nan")}}, "fixed must be what JSON can hold"),
        ({"a": [1]}, {"fixed": {"b": object()}}, "fixed must be what JSON can hold"),
        ({"a": [1]}, {"zipped": [("a", "b")]}, "zipped must be a name of an axis, one of a, got 'b'"),
        ({"a": [1]}, {"zipped": [("a",)]}, "groups of at least two axes"),
        ({"a": [1], "b": [1], "c": [2]}, {"zipped": [("a", "b"), ("b", "c")]}, "zipped must be free of duplicates"),
        ({"a": [1, 2], "b": [1]}, {"zipped": [("a", "b")]}, "groups of axes of equal length, got {'a': 2, 'b': 1}"),
        ({"a": [1, 1], "b": [3, 3]}, {"zipped": [("a", "b")]}, "zipped axes a, b must be free of duplicates"),
    ],
)
def test_what_is_no_grid(axes: object, more: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(axes, **more)  # type: ignore[arg-type]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("[1]", "an object with axes"),
        ('{"zipped": []}', "an object with axes"),
        ('{"axes": {"a": [1]}, "axis": 1}', r"axes, zipped, fixed only, got \['axis'\]"),
        ('{"axes": {"a": [NaN]}}', "finite numbers only"),
    ],
)
def test_what_is_no_grid_in_json(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid.from_json(text)
