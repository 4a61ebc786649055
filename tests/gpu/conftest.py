"""Tests on a card, in the order of their file: skipped without one and after their time; what they find is kept."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.gpu.results import Results

Fact = Callable[..., None]
_RESULTS = pytest.StashKey[Results]()
_LONGEST_WORDS = 600


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The file of what is found."""
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA card")
    pytestconfig.stash[_RESULTS] = Results(tmp_path_factory.getbasetemp())
    return pytestconfig.stash[_RESULTS]


@pytest.fixture(autouse=True)
def fact(request: pytest.FixtureRequest, results: Results) -> Fact:
    """Keeps what this test found, by name."""
    if results.seconds_left <= 0:
        pytest.skip("no time left on the card")
    return lambda **facts: results.fact(request.node.name, **facts)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep how each test ended."""
    report = yield
    results = item.config.stash.get(_RESULTS, None)
    if results is not None and (report.when == "call" or report.outcome != "passed"):
        results.fact(item.name, outcome=report.outcome, seconds=round(report.duration, 2), words=_words(report))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say where the results are."""
    if results := config.stash.get(_RESULTS, None):
        terminalreporter.write_line(f"Results: {results.path}")


def _words(report: pytest.TestReport) -> str:
    """Why it was skipped or failed, without this machine's folders."""
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash else report.longrepr or "")
    return text.replace(str(Path.home()), "~").replace(str(Path.cwd()), ".")[:_LONGEST_WORDS]
