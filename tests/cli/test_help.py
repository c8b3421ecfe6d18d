"""What the command says of itself, at the width of a small terminal and in a pipe."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.figures.all import draw_all
from tests.support.fabricated import WAYS, digits, make_run


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command of the tree, with the words that lead to it."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


TREE = dict(commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_every_command_argument_and_option_is_explained(path: tuple[str, ...]) -> None:
    command = TREE[path]
    assert command.help
    for parameter in command.params:
        assert len(getattr(parameter, "help", None) or "") > 5, f"{' '.join(path)}: {parameter.name} has no help"
    shown = CliRunner().invoke(cli.app, [*path, "--help"], env={"COLUMNS": "80"}).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown


def test_the_version_is_that_of_the_package() -> None:
    found = CliRunner().invoke(cli.app, ["--version"])
    assert (found.exit_code, found.stdout) == (0, f"palimpsest {importlib.metadata.version('palimpsest')}\n")


@pytest.mark.parametrize("width", [80, 160])
def test_lists_cut_no_word(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def words(columns: int) -> list[str]:
        monkeypatch.setattr(cli.OUT, "_width", columns)
        lines = CliRunner().invoke(cli.app, ["list"]).stdout.splitlines()
        assert max(map(len, lines)) <= columns
        return sorted(word for line in lines for word in line.split() if word.strip("─"))

    def bare(found: list[str]) -> set[str]:
        return {word.strip(";:,.?!()") for word in found}

    whole = bare(words(1000))
    assert bare(words(width)) - whole <= {
        "works",
        "on",
        "needs",
        "promises",
        "its",
        "options",
        "of",
        "drawn",
        "where",
        "there",
        "are",
    }
    assert whole - bare(words(width)) <= {"-"}


def test_the_report_is_written_as_a_page_or_refused_in_a_sentence(tmp_path: Path) -> None:
    place = make_run(tmp_path / "it", {"": digits()}, ways=WAYS[:1], deletions=8)
    draw_all(place)
    page = tmp_path / "page.html"
    found = CliRunner().invoke(cli.app, ["report", str(place), "--html", str(page)])
    assert found.exit_code == 0
    assert f"written: {page}" in found.stdout
    assert page.read_text().count("<img") == len(list((place / "figures").glob("*.png")))
    refused = CliRunner().invoke(cli.app, ["report", str(place), "--html", str(tmp_path / "no" / "page.html")])
    assert refused.exit_code == 2
    assert "--html" in refused.stderr


def test_importing_the_public_door_loads_nothing_heavy() -> None:
    heavy = ("torch", "flwr", "ray", "mlflow", "pandas", "matplotlib", "IPython")
    code = f"import sys, palimpsest.simulator; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
