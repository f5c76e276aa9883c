"""The quick report, made once, and the browser that pages are opened in."""

import os
from pathlib import Path

import pytest

from polysem.reports import ReproduceConfig, Reproduction, reproduce

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def titles() -> list[str]:
    """Titles that `reproduce` announced, in the order in which it did."""
    return []


@pytest.fixture(scope="session")
def reproduction(titles: list[str]) -> Reproduction:
    return reproduce(ReproduceConfig.of(quick=True), titles.append)


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Debian's browser; its absence skips here and fails in CI."""
    if not CHROMIUM.exists():
        message = f"{CHROMIUM} is missing: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return CHROMIUM
