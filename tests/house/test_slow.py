"""Which tests are slow is measured, and the list names tests that there are."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LONG, SLOW, SlowTests

PROJECT = Path(__file__).parents[2]


def report(nodeid: str, when: str, seconds: float) -> pytest.TestReport:
    return pytest.TestReport(nodeid, ("", 0, ""), {}, "passed", None, when, duration=seconds)  # type: ignore[arg-type]


def test_slow_tests_are_noted_and_slow_fixtures_make_their_file_slow(tmp_path: Path) -> None:
    noted = SlowTests(tmp_path / "slow.txt")
    for nodeid, when, seconds in (
        ("tests/a.py::quick", "call", LONG / 2),
        ("tests/a.py::slow[0-x::y]", "call", 2 * LONG),
        ("tests/a.py::slow[1]", "call", LONG / 2),
        ("tests/b.py::quick", "setup", 2 * LONG),
        ("tests/b.py::slow", "call", 2 * LONG),
        ("tests/c.py::quick", "setup", LONG / 2),
    ):
        noted.pytest_runtest_logreport(report(nodeid, when, seconds))
    noted.pytest_sessionfinish()
    assert (tmp_path / "slow.txt").read_text().split() == ["tests/a.py::slow", "tests/b.py"]


@pytest.mark.parametrize("name", SLOW.read_text().split())
def test_what_is_listed_is_there(name: str) -> None:
    file, _, test = name.partition("::")
    assert f"def {test}(" in (PROJECT / file).read_text() if test else (PROJECT / file).is_file()


def test_what_is_listed_carries_the_marker(request: pytest.FixtureRequest) -> None:
    """All that is collected now."""
    listed = set(SLOW.read_text().split())
    for item in request.session.items:
        file, test = item.nodeid.partition("::")[0], item.nodeid.partition("[")[0]
        assert (item.get_closest_marker("slow") is not None) == (file in listed or test in listed), item.nodeid


@pytest.mark.parametrize("name", [next(iter(SLOW.read_text().split())), "tests/house/test_slow.py"])
def test_what_is_listed_alone_is_left_out(name: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "--collect-only", "-m", "slow", name.partition("::")[0]],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    ).stdout
    assert (name in said) == (name in SLOW.read_text().split()), said
