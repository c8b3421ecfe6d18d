"""A package of somebody else's brings an unlearning method, an attack, a defense and a data set, and they just work.

Each is one file and one entry point, and the package has one test of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.elsewhere import BROKEN, FILES, POINTS, SCENARIO

pytestmark = [pytest.mark.slow, pytest.mark.mlflow]


def install(site: Path, files: dict[str, str], points: dict[str, dict[str, str]]) -> None:
    """Leave what ``pip install`` of a package called elsewhere leaves."""
    about = site / "elsewhere-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    lines = [[f"[palimpsest.{group}]", *(f"{n} = {t}" for n, t in of.items())] for group, of in points.items()]
    (about / "entry_points.txt").write_text("\n".join(line for group in lines for line in group) + "\n")
    for name, text in files.items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(text)


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a process of its own in which the package is installed."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "300"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=site, env=environment, capture_output=True, text=True, check=False
    )


def palimpsest(site: Path, *arguments: str) -> str:
    """What the command prints; it has to succeed."""
    done = python(site, "-m", "palimpsest.simulator", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed; one of its methods cannot be imported."""
    place = tmp_path_factory.mktemp("site")
    install(place, FILES | BROKEN, POINTS)
    (place / "scenario.toml").write_text(SCENARIO)
    return place


def test_they_are_listed_and_one_that_cannot_be_imported_is_one_sentence(site: Path) -> None:
    listed = palimpsest(site, "list")
    for name, said in {
        "shrink": "every parameter nearer to zero",
        "tilt": "the public mean moved along the largest change",
        "grid": "every parameter to the nearest multiple of a step",
        "ramp": "of the package elsewhere",
        "newton": "one Newton step",
    }.items():
        [line] = [line for line in listed.splitlines() if line.split()[:1] == [name]]
        assert said in line
    broken = " ".join(listed.split())
    assert "cannot be used: attack method 'torn' (elsewhere.torn:Torn) cannot be imported: the file is torn" in broken


def test_a_plan_says_that_a_cost_is_unknown_where_the_method_forecasts_none(site: Path) -> None:
    said = palimpsest(site, "plan", "scenario.toml")
    assert said.count("unknown") == 4 * 4 + 1, "four costs of four arms, and a sentence"
    assert "unknown   shrink cannot say beforehand what it costs" in said


def test_a_scenario_with_all_of_them_runs_to_its_end(site: Path) -> None:
    printed = palimpsest(site, "run", "scenario.toml", "--out", "out")
    arms = {arm["arm"]: arm for arm in json.loads((site / "out" / "results.json").read_text())["arms"]}
    assert sorted(arms) == [f"shrink-{factor}--{how}--seed0" for factor in ("0.5", "0.9") for how in ("grid", "none")]
    for name, arm in arms.items():
        assert (arm["requests_made"], arm["requests_completed"]) == (2, 2)
        assert arm["unlearning"] == {"method": "shrink", "factor": float(name.partition("--")[0][7:])}
        assert set(arm["attacks"]) == {"tilt", "average", "max-difference", "public-draw"}
    assert arms["shrink-0.5--grid--seed0"]["defense"] == {"kind": "grid", "step": 0.25}
    assert len({arm["transcript_digest"] for arm in arms.values()}) == 4
    assert "tilt" in printed


def test_the_packages_own_test_calls_the_contract_suites(site: Path) -> None:
    done = python(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "elsewhere/test_elsewhere.py")
    assert done.returncode == 1, done.stdout
    assert "1 failed, 3 passed" in done.stdout
    assert "careless: its card says that it acts at [], and it acts at ['release']" in done.stdout


def test_a_scenario_that_names_the_broken_one_is_refused_in_one_sentence(site: Path) -> None:
    done = python(site, "-m", "palimpsest.simulator", "plan", "scenario.toml", "--set", 'attack=[{kind="torn"}]')
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("error: ")
    assert "cannot be imported: the file is torn" in done.stderr
    assert "Traceback" not in done.stderr
