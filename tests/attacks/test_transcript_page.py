"""``docs/transcript.md``: its example works as it stands, and its tables name every key."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.world.protocols.architecture import shapes_of
from palimpsest.simulator.world.protocols.knowledge import CaseView, Facts
from palimpsest.simulator.world.protocols.transcript import TranscriptLine
from palimpsest.simulator.world.specs import ModelSpec

PAGE = (Path(__file__).parents[2] / "docs" / "transcript.md").read_text()


def test_the_example_can_be_written_and_attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (console,) = re.findall(r"```console\n\$ palimpsest (.*?)\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(script, "docs/transcript.md", "exec"), {})
    done = CliRunner().invoke(cli.app, console[0].split())
    assert done.exit_code == 0, done.output
    assert console[1] in done.stdout


@pytest.mark.parametrize("table", [TranscriptLine, Facts, CaseView])
def test_every_key_is_in_its_table(table: type[TranscriptLine | Facts | CaseView]) -> None:
    titles = {TranscriptLine: "## `releases.jsonl`", Facts: "## `knowledge.json`", CaseView: "A case:"}
    section = PAGE.split(titles[table])[1].split("\n## ")[0].split("\nA case:")[0]
    keys = [key for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for key in re.findall("`(.*?)`", row)]
    assert keys == list(table.model_fields)


@pytest.mark.parametrize("kind", ["ridge", "mlp", "cnn"])
def test_the_parameters_have_the_names_of_the_page(kind: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| `") and f"`{kind}`" in line.split("|")[1]]
    named = re.findall("`(.*?)`", row.split("|")[2])
    spec = ModelSpec.model_validate(
        {"kind": kind, "task": "classification", "shape": (1, 28, 28), "outputs": 10, "regularisation": 0.0}
    )
    assert named == list(shapes_of(spec))
