"""The packages that docs/extending.md prints: installed, listed, checked and run, as it says."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console

from palimpsest.simulator import load_scenario, run
from palimpsest.simulator.cli.listing import KINDS, listing
from tests.support.packages import installed
from tests.support.stores import new_store

PAGE = Path(__file__).parents[2] / "docs/extending.md"
BROKEN = {
    "pyproject.toml": '[project]\nname = "torn"\nversion = "1.0"\n[project.entry-points]\n'
    + "".join(
        f'"palimpsest.{group}" = {{ torn-{group} = "torn:IT" }}\n'
        for group in ("models", "sources", "attacks", "unlearners", "defenses", "strategies")
    ),
    "torn.py": "raise RuntimeError('the driver is missing\\nsee its manual')\n",
}
"""A package that cannot be imported, beside those of the page."""


def blocks() -> list[tuple[str, str]]:
    """File name and text of the blocks that are files, in order."""
    found = re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [(name, text) for name, text in found]


def packages() -> list[dict[str, str]]:
    """The files of ``sines``, of the package with the others, and of one that is broken."""
    [first, second] = [i for i, (name, _) in enumerate(blocks()) if name == "pyproject.toml"]
    others = next(i for i, (name, _) in enumerate(blocks()) if name == "shrink.py")
    assert first < others < second
    return [dict(blocks()[:others]), dict(blocks()[others:]), BROKEN]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    for files in packages():
        package = tmp_path_factory.mktemp("package")
        for name, text in files.items():
            (package / name).write_text(text)
        installed(place, package)
    (place / "scenario.toml").write_text(packages()[0]["scenario.toml"])
    return place


@pytest.fixture
def importable(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in {file.stem for file in site.glob("*.py")} & set(sys.modules):
        del sys.modules[name]


def listed(kind: str) -> str:
    console = Console(width=400, record=True)
    console.print(listing(kind))
    return console.export_text()


def test_the_package_with_model_source_and_attack_has_60_lines_at_most() -> None:
    sines = packages()[0]
    assert len((sines["pyproject.toml"] + sines["sines.py"]).splitlines()) <= 60


@pytest.mark.usefixtures("importable")
def test_list_shows_them_and_says_in_one_sentence_what_cannot_be_imported() -> None:
    tables = {kind: listed(kind) for kind in KINDS}
    for kind, name in {
        "models": "sines", "datasets": "waves", "attacks": "ratio", "unlearning": "shrink", "defenses": "grid",
        "strategies": "half-step", "measures": "largest_error", "figures": "arms",
    }.items():  # fmt: skip
        assert any(line.split()[:1] == [name] for line in tables[kind].splitlines()), name
    for kind in ("models", "datasets", "attacks", "unlearning", "defenses", "strategies"):
        said = " ".join(tables[kind].split())
        assert re.search(r"cannot be used: .*\(torn:IT\) cannot be imported: the driver is missing", said)
        assert "see its manual" not in said
    assert "a layer of sines" in tables["models"] and "softmax" in tables["models"]


@pytest.mark.mlflow
@pytest.mark.slow
@pytest.mark.usefixtures("importable")
def test_its_scenario_trains_unlearns_attacks_and_tracks(site: Path, tmp_path: Path) -> None:
    tracked = new_store(tmp_path)
    scenario = load_scenario(str(site / "scenario.toml"), [f"tracking.uri={tracked}"])
    arms = run(scenario, tmp_path / "out").results["arms"]
    assert [arm["unlearning"]["method"] for arm in arms] == ["ascent", "retrain"]
    for arm in arms:
        assert (arm["requests_made"], arm["requests_completed"]) == (4, 4)
        assert arm["attacks"]["ratio"]["cosine_centred_median"] > 0.95
        assert arm["attacks"]["average"]["cosine_centred_median"] == 0.0
        assert "largest_error_median" in arm["attacks"]["ratio"]
    client = MlflowClient(tracked)
    [experiment] = client.search_experiments(filter_string="name = 'sines'")
    runs = client.search_runs([experiment.experiment_id])
    assert {arm["arm"] for arm in arms} <= {found.info.run_name for found in runs}


@pytest.mark.slow
def test_their_own_tests_check_their_contracts(site: Path) -> None:
    paths = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    tests = [str(site / name) for name in ("test_sines.py", "test_others.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, check=False)
    assert "8 passed" in done.stdout, done.stdout
