"""Everything is installed under one name, so that nobody's own files hide ours."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json
from pathlib import Path

import attacks, clients, server
from palimpsest.simulator import Result, load_scenario, run

changes = ["data.source=digits", "data.clients=4", "deletion.requests=1", "training.rounds=1",
           "training.clients_per_round=2", "runtime.backend=serial", "tracking.uri=sqlite:///mlflow.db"]
result = run(load_scenario("mnist-deletions", changes), Path("out"))
assert isinstance(result, Result)
print(json.dumps([attacks.MINE, clients.MINE, server.MINE, len(result.results["arms"])]))
"""


def test_a_script_beside_files_named_like_our_folders_runs_a_scenario(tmp_path: Path) -> None:
    for name in ("server", "clients", "attacks"):
        (tmp_path / f"{name}.py").write_text(f"MINE = 'my {name}'\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["my attacks", "my clients", "my server", 5]


def test_the_public_door_imports_nothing_heavy() -> None:
    code = (
        "import sys, palimpsest.simulator as door;"
        "print([m for m in ('torch', 'ray', 'mlflow', 'flwr', 'pandas') if m in sys.modules], sorted(door.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['Result', 'Scenario', 'load_scenario', 'resume', 'run']"
