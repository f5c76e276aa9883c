"""`python -m polysem`."""

from polysem.cli import main

main()
