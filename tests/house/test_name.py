"""Everything is installed under one name, so that nobody's own files hide ours."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from palimpsest.simulator import testing

pytestmark = pytest.mark.mlflow

SCRIPT = """
import json
from pathlib import Path

import pytest

import attacks, clients, server
from palimpsest.simulator import Result, load_scenario, run

changes = ["data.source=digits", "data.clients=4", "deletion.requests=1", "training.rounds=1",
           "training.clients_per_round=2", "runtime.backend=serial", "variant=[]",
           "unlearning=[{method='ascent'}, {method='none'}]", "tracking.uri=sqlite:///mlflow.db"]
result = run(load_scenario("mnist-deletions", changes), Path("out"))
assert isinstance(result, Result)
print(json.dumps([attacks.MINE, clients.MINE, server.MINE, len(result.results["arms"])]))
"""


@pytest.mark.slow
def test_a_script_beside_files_named_like_our_folders_runs_a_scenario(tmp_path: Path) -> None:
    for name in ("server", "clients", "attacks"):
        (tmp_path / f"{name}.py").write_text(f"MINE = 'my {name}'\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["my attacks", "my clients", "my server", 2]


def test_the_public_door_imports_nothing_heavy() -> None:
    code = (
        "import sys, palimpsest.simulator as door;"
        "print([m for m in ('torch', 'ray', 'mlflow', 'flwr', 'pandas') if m in sys.modules], sorted(door.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['Dataset', 'Result', 'Scenario', 'load_scenario', 'resume', 'run']"


BUNDLE = """
import sys
from importlib.util import find_spec

sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in str(getattr(finder, "__module__", ""))]
sys.path[:] = [place for place in sys.path if "__editable__" not in place]
print(find_spec("palimpsest"))
sys.path.insert(0, sys.argv[1])
from simulator.flower import client_app, server_app
print(type(client_app).__name__, type(server_app).__name__, *sys.modules["palimpsest"].__path__)
"""


def test_flowers_bundle_finds_its_own_parts_where_the_project_is_not_installed(tmp_path: Path) -> None:
    """As in an environment that holds the dependencies alone."""
    project = Path(__file__).parents[2]
    command = [sys.executable, "-c", BUNDLE, str(project)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    installed, found = done.stdout.splitlines()
    if installed != "None":
        pytest.skip("the project is installed other than editable")
    assert found == f"ClientApp ServerApp {project}"


def test_the_contract_suites_are_found_by_name() -> None:
    """They are loaded where they are first used."""
    assert set(testing._HOMES) == set(testing.__all__) <= set(dir(testing))
    assert all(callable(getattr(testing, name)) for name in testing.__all__)
