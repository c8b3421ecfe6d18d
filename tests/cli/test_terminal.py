"""What a stranger has named steers no terminal, and a run on a disk that is read-only is shown all the same."""

import errno
import fcntl
import io
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.cli.console import SteadyConsole
from palimpsest.simulator.figures import all as figures
from palimpsest.simulator.results.intact import alone
from palimpsest.simulator.results.reading import RunFilesError
from palimpsest.simulator.results.run_directory import RunDirectory
from tests.support.fabricated import WAYS, digits, make_run

HOSTILE = ("\x1b[2J\x1b]0;owned\x07", "a\rb", "x\u202ey", "z\x9b31m")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_steer_no_terminal(name: str) -> None:
    table = Table("name")
    table.add_row(Text(name))
    for shown in (table, Text(name), f"clients {name}\nmore"):
        screen = io.StringIO()
        SteadyConsole(file=screen, width=80, force_terminal=True, color_system=None).print(shown, markup=False)
        assert not {"\x1b[2J", "\x1b]", "\x07", "\r", "\u202e", "\x9b"} & {
            part for part in ("\x1b[2J", "\x1b]", "\x07", "\r", "\u202e", "\x9b") if part in screen.getvalue()
        }


def test_a_run_on_a_disk_that_is_read_only_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", {"": digits()}, ways=WAYS[:1], deletions=4)

    def refuse(directory: Path) -> list[Path]:
        raise OSError(errno.EROFS, "read-only", str(directory / "figures" / "x.png"))

    monkeypatch.setattr(figures, "draw_all", refuse)
    done = CliRunner().invoke(cli.app, ["report", str(run), "--html", str(tmp_path / "page.html")])
    assert done.exit_code == 1, done.output
    assert "hrec" in done.stdout and "file system that is read-only" in done.stderr
    assert "Traceback" not in done.output and (tmp_path / "page.html").is_file()


def test_two_processes_do_not_work_in_one_directory(tmp_path: Path) -> None:
    place = RunDirectory(tmp_path)
    with place.run_lock.open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RunFilesError, match="another process is at work in"), alone(place):
            pass
    with alone(place):
        pass
