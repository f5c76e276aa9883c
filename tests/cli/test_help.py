"""Help and arguments: every command has an example, and nothing heavy is imported for it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from commands import Run, tree
from polysem import cli

COMMANDS = {
    "reproduce": cli.Reproduce,
    "analyze": cli.Analyze,
    "compare": cli.Compare,
    "plan": cli.Plan,
    "explore": cli.Explore,
}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example(command: str, run: Run) -> None:
    done = run(*filter(None, [command]), "--help")
    assert done.status == 0
    assert done.err == ""
    assert f"Example: polysem {command}" in " ".join(done.out.replace("│", " ").split())
    if not command:
        assert all(name in done.out for name in COMMANDS)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_examples_are_commands(command: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, parsed = COMMANDS[command], []
    monkeypatch.setattr(kind, "run", lambda settings: parsed.append(settings))
    (example,) = re.findall(r"Example: polysem (.*)", kind.__doc__ or "")
    assert run(*shlex.split(example)).status == 0
    assert [type(settings) for settings in parsed] == [kind]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom polysem.cli import main\n"
        "sys.argv = ['polysem', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    print(end.code, sorted({'torch', 'numpy', 'scipy', 'plotly', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["explain"],
        ["reproduce", "--figures", "gif"],
        ["analyze"],
        ["analyze", "w.npy", "--features", "both"],
        ["compare", "a", "b", "--norm", "both"],
        ["plan", "--kurtosis", "high"],
        ["plan", "--slab", "cauchy"],
        ["plan", "--sparsity", "0.1"],
    ],
)
def test_arguments_that_do_not_parse(arguments: list[str], run: Run, tmp_path: Path) -> None:
    done = run(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert "polysem" in done.err
    assert tree(tmp_path) == {}
