"""The notebooks run from top to bottom, and are stored as they came out: with results, and small."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
LARGEST = 400_000
"""Bytes of a notebook as it is stored."""

pytestmark = pytest.mark.mlflow


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_an_empty_directory(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for made, stored in zip(_codes(notebook), _codes(nbformat.read(path, as_version=4)), strict=True):
        assert [output.output_type for output in made.outputs] == [output.output_type for output in stored.outputs]
    [run] = (tmp_path / "runs").iterdir()
    assert (run / "results.json").is_file()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_executed_small_and_without_a_trace_of_where(path: Path) -> None:
    text = path.read_text()
    assert len(text) < LARGEST
    assert not re.search(r"/home/|/root/|/tmp/|site-packages", text)
    cells = _codes(nbformat.reads(text, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    assert sum(bool(cell.outputs) for cell in cells) >= 3


def test_there_are_two_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["overview", "own_data"]


def _codes(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
