"""The entry point: parse, call, and end a user's mistake in one line."""

import os
import sys
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff, OmitSubcommandPrefixes, subcommand

from polysem.cli._analyze import Analyze
from polysem.cli._compare import Compare
from polysem.cli._explore import Explore
from polysem.cli._plan import Plan
from polysem.cli._reproduce import Reproduce
from polysem.cli._sweep import Sweep

Command = (
    Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[Analyze, subcommand("analyze")]
    | Annotated[Compare, subcommand("compare")]
    | Annotated[Plan, subcommand("plan")]
    | Annotated[Sweep, subcommand("sweep")]
    | Annotated[Explore, subcommand("explore")]
)


def main() -> None:
    """Entry point of `polysem`. A user's mistake ends in one line on stderr and exit status 2."""
    command = tyro.cli(
        Command,
        prog="polysem",
        description="Measure, predict and control how a neural network spends its limited dimensions on features.",
        config=(FlagCreatePairsOff, OmitSubcommandPrefixes),
    )
    try:
        command.run()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        sys.exit(141)
    except (ValueError, OSError) as error:
        print(f"polysem: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(": ".join(["polysem: interrupted", *map(str, interrupt.args)]), file=sys.stderr)
        sys.exit(130)
