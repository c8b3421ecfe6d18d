"""Fixtures of the whole suite, and which of its tests are slow."""

import gc
import os
import signal
from collections import defaultdict
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or "1"  # workers share the cores

import palimpsest.simulator.world.telemetry  # noqa: F401 - telemetry is off before anything that has some is imported

gc.disable()  # until all tests are loaded: that leaves next to no garbage, and looking for some took two seconds

SLOW = Path(__file__).with_name("slow.txt")
"""Tests, and files of tests, that took longer than ``LONG`` on a quiet machine; written by ``--note-slow``."""
LONG = 1.0
"""Seconds."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--note-slow`` measures anew which tests are slow."""
    parser.addoption("--note-slow", action="store_true", help=f"write the tests that take over {LONG:g} s to {SLOW}")


def pytest_configure(config: pytest.Config) -> None:
    """Measure in the process that all reports come to."""
    if config.getoption("--note-slow") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SlowTests(SLOW))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """All tests have been collected. What was loaded stays: nobody looks through it for garbage."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def signals_arrive() -> None:
    """What ``nohup`` and jobs of scripts ignore would be ignored by all processes that tests start and then signal."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is known to be slow."""
    known = set(SLOW.read_text().split())
    for item in items:
        file, _, name = item.nodeid.partition("::")
        if known & {file, f"{file}::{name.partition('[')[0]}"}:
            item.add_marker(pytest.mark.slow)


class SlowTests:
    """Notes which tests were slow. Fixtures that took long make a whole file slow: some test there has to wait.

    Args:
        file: to write.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One test's setup, call or teardown has ended."""
        file, _, name = report.nodeid.partition("::")
        whose = f"{file}::{name.partition('[')[0]}" if report.when == "call" else file
        self._seconds[whose] = max(self._seconds[whose], report.duration)

    def pytest_sessionfinish(self) -> None:
        """All tests have been run."""
        files = {name for name, seconds in self._seconds.items() if seconds > LONG and "::" not in name}
        tests = {name for name, seconds in self._seconds.items() if seconds > LONG and "::" in name}
        left = {name for name in tests if name.partition("::")[0] not in files}
        self._file.write_text("".join(f"{name}\n" for name in sorted(files | left)))
