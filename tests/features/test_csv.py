"""Tables of features: what is read, and that every bad cell is named by file and line."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from polysem.features import read_csv
from unprivileged import as_nobody, public_folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "features.csv"


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["kurtosis", "feature_probability"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_columns_in_any_order(kind: str, ending: str, start: str, table: Path) -> None:
    second = "  0 ,0.25e1,1," if kind == "kurtosis" else "0,.5,,"
    lines = [f'importance, {kind} ,"a, b",name', "1e-3,1,,x", f'{second}"y, z"']
    table.write_bytes(ending.join([start + lines[0], *lines[1:]]).encode())
    result = read_csv(str(table))
    assert_close(result.importance, doubles(1e-3, 0.0), rtol=0, atol=0)
    columns = {"kurtosis": result.kurtosis, "feature_probability": result.feature_probability}
    assert_close(columns.pop(kind), doubles(1.0, 2.5 if kind == "kurtosis" else 0.5), rtol=0, atol=0)
    assert list(columns.values()) == [None]


def test_importance_alone(table: Path) -> None:
    table.write_text("importance\n1\n\n2\n")
    result = read_csv(table)
    assert_close(result.importance, doubles(1.0, 2.0), rtol=0, atol=0)
    assert result.kurtosis is None
    assert result.feature_probability is None


def test_other_columns_may_hold_any_text(table: Path) -> None:
    """Quoted line ends, and characters that only some functions take for line ends."""
    table.write_text('name,importance\n"two\nlines",1\n"said ""so""",2\na\u2028b\x0cc\x85d,3\n', "utf-8")
    assert_close(read_csv(table).importance, doubles(1.0, 2.0, 3.0), rtol=0, atol=0)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ": the header must have a column 'importance', got []"),
        ("1.0\n0.5\n", ": the header must have a column 'importance', got ['1.0']"),
        ("Importance\n1\n", ": the header must have a column 'importance', got ['Importance']"),
        ("importance\n", ": no rows below the header"),
        ("importance,importance\n1,2\n", ": the header must have one column 'importance', got"),
        ("importance,kurtosis,kurtosis \n1,2,3\n", ": the header must have one column 'kurtosis', got"),
        ("importance,kurtosis,feature_probability\n1,2,.5\n", ": give 'kurtosis' or 'feature_probability', not both"),
        ("importance\n1\nmuch\n", ", line 3: importance must be a number, got 'much'"),
        ("name,importance\na,1\nb\n", ", line 3: importance must be a number, got None"),
        ("name,importance\na,\n", ", line 2: importance must be a number, got ''"),
        ('name,importance\n"a\nb",1\nc,x\n', ", line 4: importance must be a number, got 'x'"),
        ("importance\n0,5\n", ", line 2: more cells than the header has columns"),
        ("importance\n1\n-0.5\n", ", line 3: importance must be non-negative and finite, got -0.5"),
        ("importance\nnan\n", ", line 2: importance must be non-negative and finite, got nan"),
        ("importance\ninf\n", ", line 2: importance must be non-negative and finite, got inf"),
        ("importance,kurtosis\n1,0.5\n", ", line 2: kurtosis must be at least 1 and finite, got 0.5"),
        ("importance,kurtosis\n1,nan\n", ", line 2: kurtosis must be at least 1 and finite, got nan"),
        ("importance,feature_probability\n1,0\n", ", line 2: feature_probability must be in (0, 1], got 0"),
        ("importance,feature_probability\n1,1.5\n", ", line 2: feature_probability must be in (0, 1], got 1.5"),
        ('name,importance\n"' + "x" * 200_000, ": not a CSV file (field larger than field limit"),
        (b"\x93NUMPY\x01\x00\xff", ": not a CSV file (not UTF-8 text)"),
        ("importance\n1\n".encode("utf-16"), ": not a CSV file (not UTF-8 text)"),
    ],
)
def test_bad_tables(content: str | bytes, said: str, table: Path) -> None:
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError) as caught:
        read_csv(table)
    assert str(caught.value).startswith(f"{table}{said}")
    assert "\n" not in str(caught.value)


@pytest.mark.bad_input
def test_files_that_cannot_be_read(table: Path) -> None:
    with pytest.raises(ValueError, match=r"features\.csv: cannot be read \(No such file or directory\)"):
        read_csv(table)
    with pytest.raises(ValueError, match=r"cannot be read \(Is a directory\)"):
        read_csv(table.parent)
    with public_folder() as folder:
        table = folder / "features.csv"
        table.write_text("importance\n1\n")
        table.chmod(0o644)
        with as_nobody():
            read_csv(table)
        table.chmod(0o000)
        with as_nobody(), pytest.raises(ValueError, match=r"cannot be read \(Permission denied\)"):
            read_csv(table)
