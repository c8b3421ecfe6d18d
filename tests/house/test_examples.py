"""Examples run: those in docstrings, the one in ``examples``, and the README's Python."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()
FOLDERS = ("attacks", "clients", "defenses", "server", "simulator")
MODULES = [
    ".".join(("palimpsest", *path.relative_to(PROJECT).with_suffix("").parts))
    for folder in FOLDERS
    for path in sorted((PROJECT / folder).rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_give_what_they_show(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


def test_public_functions_show_examples() -> None:
    assert "palimpsest.simulator.scenario.load" in MODULES
    assert len(MODULES) >= 9


@pytest.mark.slow
def test_one_deletion_by_hand_gives_the_record_back(tmp_path: Path) -> None:
    example = PROJECT / "examples" / "one_deletion.py"
    assert len(example.read_text().splitlines()) <= 60
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (shown,) = re.findall(r"^\$ python examples/one_deletion.py\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert done.stdout == shown
    assert not list(tmp_path.iterdir()), "it leaves nothing where it is started"


SMALL = [
    "deletion.requests=1", "data.source=digits", "data.clients=4", "training.rounds=1",
    "training.clients_per_round=2", "runtime.backend=serial", "evaluation.retrainings=1", "variant=[]",
    "unlearning=[{method='retrain'}, {method='ascent'}]",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.mlflow
def test_the_readme_s_python_runs(tmp_path: Path) -> None:
    """All of it in order, as one script, on fewer clients, rounds and arms than the page has."""
    code = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    script = "\n\n".join(code)
    script = re.sub(r'load_scenario\("mnist-deletions".*?\)', f'load_scenario("mnist-deletions", {SMALL!r})', script)
    script = re.sub(r"set=\{.*?\}", f"set={SMALL!r}", script)
    assert script.count("data.source=digits") == len(re.findall(r"\brun\(", script)) > 1
    (tmp_path / "readme.py").write_text(script)
    done = subprocess.run([sys.executable, "readme.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "retrain" in done.stdout, "the observer prints each request"
