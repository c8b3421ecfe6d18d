"""Which module may import which: contracts hold, and each of the imports that they are there against breaks one."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FOLDERS = ("attacks", "clients", "defenses", "server", "simulator")


def contracts() -> list[dict[str, object]]:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    found: list[dict[str, object]] = settings["tool"]["importlinter"]["contracts"]
    return found


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's modules, importable as ``palimpsest`` from a place where they can be changed."""
    root = tmp_path_factory.mktemp("copy")
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / folder, root / "palimpsest" / folder, ignore=ignored)
    shutil.copy(PROJECT / "pyproject.toml", root)
    return root


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(root), "COLUMNS": "200"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_the_contracts_are_kept(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "module, planted, broken",
    [
        ("attacks/average.py", "palimpsest.simulator.results.run_directory", "Top-level folders"),
        ("attacks/average.py", "palimpsest.server.history", "Top-level folders"),
        ("server/history.py", "palimpsest.simulator.unlearning_metrics.compare", "Top-level folders"),
        ("simulator/world/data/build.py", "palimpsest.simulator.scenario.load", "Rooms of the simulator"),
        ("simulator/experiment/runner.py", "ray", "Ray only in federation and the bench"),
        ("simulator/results/report.py", "mlflow", "MLflow only in tracking"),
        ("simulator/audit/audit.py", "palimpsest.simulator.experiment.runner", "Rooms of the simulator"),
        ("simulator/planning/plan.py", "flwr.serverapp", "Flower only in federation, the server app and the bench"),
    ],
)
def test_an_import_through_a_wall_breaks_its_contract(copy: Path, module: str, planted: str, broken: str) -> None:
    file = copy / "palimpsest" / module
    before = file.read_text()
    file.write_text(f"{before}\nimport {planted}  # noqa\n")
    try:
        done = lint(copy)
    finally:
        file.write_text(before)
    assert done.returncode == 1
    assert f"{broken} BROKEN" in done.stdout, done.stdout


def test_every_module_of_the_simulator_is_in_exactly_one_layer() -> None:
    rooms = next(contract for contract in contracts() if contract["name"] == "Rooms of the simulator")
    layers = [name.strip() for layer in rooms["layers"] for name in layer.replace("|", ":").split(":")]  # type: ignore[attr-defined]
    assert len(layers) == len(set(layers))
    outside = rooms["exhaustive_ignores"]
    there = {path.stem for path in (PROJECT / "simulator").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert there - {"__init__", "__pycache__", "py"} == {*layers, *outside}  # type: ignore[misc]


def test_externals_are_forbidden_to_every_room_but_those_that_are_meant_to_have_them() -> None:
    rooms = {f"palimpsest.simulator.{path.name}" for path in (PROJECT / "simulator").iterdir() if path.is_dir()}
    rooms -= {"palimpsest.simulator.__pycache__"}
    rooms |= {f"palimpsest.{folder}" for folder in FOLDERS if folder != "simulator"}
    allowed = {"flwr": {"federation", "bench"}, "ray": {"federation", "bench"}, "mlflow": {"tracking"}}
    for contract in contracts():
        for external in contract.get("forbidden_modules", []):  # type: ignore[attr-defined]
            meant = {f"palimpsest.simulator.{room}" for room in allowed[external]}
            assert rooms - meant <= set(contract["source_modules"])  # type: ignore[call-overload]


def test_every_package_is_installed() -> None:
    """Those of a wheel are a list in pyproject.toml, since setuptools cannot find packages under another name."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    there = {
        ".".join(("palimpsest", *path.parent.relative_to(PROJECT).parts))
        for folder in FOLDERS
        for path in (PROJECT / folder).rglob("__init__.py")
    }
    assert sorted(there) == sorted(settings["tool"]["setuptools"]["packages"])


LAYOUT = {
    "added-attacks.jsonl", "arms", "checkpoints", "comparison.md", "events.jsonl", "figures", "forgetting",
    "ledger.jsonl", "models", "plan.json", "provenance.json", "reconstructions", "results.json", "rounds",
    "scenario.toml",
    "scores", "system.jsonl", "tracking.json",
    "transcripts", "truth",
}  # fmt: skip


def test_results_alone_knows_what_lies_where_in_a_run() -> None:
    """No other room joins a path with the name of a run's file or folder."""
    spelled = []
    for folder in FOLDERS:
        for path in sorted((PROJECT / folder).rglob("*.py")):
            if path.parent == PROJECT / "simulator" / "results":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                joins = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
                if joins and isinstance(node.right, ast.Constant) and node.right.value in LAYOUT:
                    spelled.append(f"{path.relative_to(PROJECT)}:{node.lineno}: {node.right.value}")
    assert not spelled, "\n".join(spelled)


def test_files_and_functions_stay_short() -> None:
    too_long = []
    for folder in (*FOLDERS, "tests"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            text, name = path.read_text(), path.relative_to(PROJECT)
            if (lines := len(text.splitlines())) > 350:
                too_long.append(f"{name}: {lines} lines, at most 350")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    assert node.end_lineno is not None
                    if (lines := node.end_lineno - node.lineno + 1) > 45:
                        too_long.append(f"{name}: {node.name} has {lines} lines, at most 45")
    assert not too_long, "\n".join(too_long)
