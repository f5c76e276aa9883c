"""The quick report, made once, and the browser that pages are opened in."""

import pytest

from polysem.reports import ReproduceConfig, Reproduction, reproduce


@pytest.fixture(scope="session")
def titles() -> list[str]:
    """Titles that `reproduce` announced, in the order in which it did."""
    return []


@pytest.fixture(scope="session")
def reproduction(titles: list[str]) -> Reproduction:
    return reproduce(ReproduceConfig.of(quick=True), titles.append)
