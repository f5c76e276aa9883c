"""Stacks: every cell in exactly one, with its own values and seed, whatever the tiling."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sweep_tasks
from polysem.sweeps import Grid, Output, Stack, Task, task
from polysem.sweeps._layout import check, fields, stack, tiling
from sweep_stores import seed_of


def make(stacked: tuple[str, ...], max_cells: int, outputs: dict[str, Output] | None = None) -> Task:
    @task(outputs=outputs or {"x": Output()}, stacked=stacked, shared=("a", "b", "c", "n"), max_cells=max_cells)
    def nothing(stack: Stack) -> dict[str, np.ndarray]:
        return {}

    return nothing


@settings(deadline=None, max_examples=50)
@given(
    st.tuples(*[st.integers(1, 5)] * 3),
    st.sets(st.sampled_from("abc")),
    st.integers(1, 60),
    st.booleans(),
)
def test_stacks_hold_every_cell_once(sizes: tuple[int, ...], stacked: set[str], max_cells: int, zipped: bool) -> None:
    axes = {name: [10 * k + n for n in range(size)] for k, (name, size) in enumerate(zip("abc", sizes, strict=True))}
    grid = Grid({**axes, "n": axes["a"]} if zipped else axes, zipped=[("a", "n")] if zipped else [])
    job = make(tuple(stacked), max_cells)
    tiles = tiling(grid, job)
    covered = np.zeros(grid.shape, int)
    for i in range(len(tiles)):
        covered[tiles.slices(i)] += 1
        part = stack(grid, job, tiles, i)
        assert part.n_cells == math.prod(tiles.extent(i)) <= max_cells
        cells = [*np.ndindex(*tiles.extent(i))]
        for axis, values in axes.items():
            wanted = [values[tiles.slices(i)["abc".index(axis)].start + cell["abc".index(axis)]] for cell in cells]
            if axis in stacked:
                assert part[axis].tolist() == wanted
            else:
                assert {part[axis]} == set(wanted)
    assert (covered == 1).all()


def test_stacks_are_of_about_equal_size() -> None:
    grid = Grid({"a": range(3), "b": range(7), "c": range(5)})
    assert tiling(grid, make(("a", "b", "c"), 1000)).tile == (3, 7, 5)
    assert tiling(grid, make(("a", "b", "c"), 20)).tile == (1, 4, 5)
    assert tiling(grid, make(("a", "c"), 3)).tile == (1, 1, 3)
    assert tiling(grid, make(("b",), 4)).tile == (1, 4, 1)


def test_seeds_depend_on_seed_and_place_alone() -> None:
    def seeds(grid: Grid, job: Task) -> np.ndarray:
        tiles = tiling(grid, job)
        result = np.zeros(grid.shape, np.int64)
        for i in range(len(tiles)):
            result[tiles.slices(i)] = stack(grid, job, tiles, i).seeds.reshape(tiles.extent(i))
        return result

    grid = Grid({"a": [1.0, 2.0, 3.0], "b": range(4)}, fixed={"seed": 7})
    whole = seeds(grid, make(("a", "b"), 100))
    assert whole[2, 3] == seed_of(7, 2, 3)
    assert len(np.unique(whole)) == 12
    assert (whole >= 0).all()
    np.testing.assert_array_equal(whole, seeds(grid, make((), 1)))
    larger = Grid({"a": [9, 8, 7, 6], "b": range(5)}, fixed={"seed": 7})
    np.testing.assert_array_equal(whole, seeds(larger, make((), 1))[:3, :4])
    assert not (seeds(Grid(grid.axes, fixed={"seed": 8}), make((), 1)) == whole).any()
    assert not (seeds(Grid(grid.axes), make((), 1)) == whole).any()
    along = seeds(Grid({"a": [1, 2], "seed": [7, 7 + 2**40]}), make((), 4))
    assert along.tolist() == [
        [seed_of(7, 0, 0), seed_of(7 + 2**40, 0, 1)],
        [seed_of(7, 1, 0), seed_of(7 + 2**40, 1, 1)],
    ]


def test_fixed_settings_that_may_be_stacked_come_as_arrays() -> None:
    grid = Grid({"a": [1, 2]}, fixed={"b": 0.5, "c": "relu", "n": {"deep": [1]}})
    part = stack(grid, make(("b", "c"), 9), tiling(grid, make(("b", "c"), 9)), 0)
    assert part["a"] == 1
    assert part["b"].tolist() == [0.5]
    assert part["c"].tolist() == ["relu"]
    assert part["n"] == part.fixed["n"] == {"deep": [1]}
    assert part.get("other", 3) == 3
    with pytest.raises(KeyError):
        part["other"]


def test_single_cells_of_a_stack() -> None:
    grid = Grid({"a": [1, 2], "b": [3, 4, 5]})
    job = make(("b",), 9)
    part = stack(grid, job, tiling(grid, job), 1)
    cell = part.cell(2)
    assert (cell["a"], cell["b"].tolist(), cell.seeds.tolist()) == (2, [5], [part.seeds[2]])


def test_arrays_of_the_store() -> None:
    grid = Grid({"n": [2, 5, 3], "a": range(4)})
    job = make(("a",), 2, {"x": Output(), "y": Output({"feature": "n", "k": 2}, "int64")})
    arrays = fields(grid, job, tiling(grid, job))
    assert arrays["x"].chunks == (1, 2)
    assert arrays["y"].dims == ("n", "a", "feature", "k")
    assert (arrays["y"].shape, arrays["y"].chunks) == ((3, 4, 5, 2), (1, 2, 5, 2))
    assert arrays["y"].dtype == "int64"
    assert arrays["done"].shape == (6,)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("grid", "outputs", "message"),
    [
        (Grid({"z": [1]}), {"x": Output()}, "a setting of .* must be one of a, b, c, n, seed, got 'z'"),
        (Grid({"a": [1]}, fixed={"z": 1}), {"x": Output()}, "must be one of a, b, c, n, seed, got 'z'"),
        (Grid({"seed": [-1]}), {"x": Output()}, "seed must be a whole number of at least 0, got -1"),
        (Grid({"b": [1]}, fixed={"a": [1, 2]}), {"x": Output()}, r"fixed\['a'\] must be a number or a string"),
        (Grid({"a": [1]}), {"a": Output()}, "must be named unlike the axes"),
        (Grid({"a": [1]}), {"status": Output()}, "must be named unlike the axes"),
        (Grid({"a": [1]}), {"x": Output({"a": 2})}, "must be named unlike the axes"),
        (Grid({"a": [1]}), {"x": Output({"f": "n"})}, "must be one that sets 'n'"),
        (Grid({"n": [1, 0]}), {"x": Output({"f": "n"})}, "n must be a whole number of at least 1, got 0"),
        (Grid({"n": ["x"]}), {"x": Output({"f": "n"})}, "n must be a whole number of at least 1, got 'x'"),
        (Grid({"a": [1]}), {"x": Output({"f": 2}), "y": Output({"f": 3})}, "must be of the same size, 2, in all"),
    ],
)
def test_grids_that_do_not_suit_a_task(grid: Grid, outputs: dict[str, Output], message: str) -> None:
    job = make(("a",), 4, outputs)
    with pytest.raises(ValueError, match=message):
        check(grid, job)


@pytest.mark.bad_input
def test_what_is_no_task(tmp_path: object) -> None:
    from polysem.sweeps import run

    def local(stack: Stack) -> dict[str, np.ndarray]:
        return {}

    grid = Grid({"a": [1]})
    store = f"{tmp_path}/s.zarr"
    for given_task, message in (
        (task(outputs={"x": Output()})(local), "no lambda, no function inside a function"),
        (task(outputs={"x": Output()})(lambda stack: {}), "no lambda"),
        (local, "task must be the name module:function"),
        ("sweep_tasks", "task must be the name module:function"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("sweep_tasks:nothing", "has no attribute 'nothing'"),
        ("sweep_tasks:np.sqrt", "declared with polysem.sweeps.task"),
        ("__main__:f", "in a script that is being run"),
        (task(outputs={"x": Output()})(sweep_tasks.rectangle.function), "another task stands there"),
    ):
        with pytest.raises(ValueError, match=message):
            run(grid, given_task, store)  # type: ignore[arg-type]


@pytest.mark.bad_input
def test_declarations_are_checked() -> None:
    with pytest.raises(ValueError, match="dtype must be"):
        Output(dtype="complex64")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"dims\['f'\] must be a whole number of at least 1, got 0"):
        Output({"f": 0})
    with pytest.raises(ValueError, match="outputs must be at least one"):
        task(outputs={})
    with pytest.raises(ValueError, match="max_cells"):
        task(outputs={"x": Output()}, max_cells=0)
