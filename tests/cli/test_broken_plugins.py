"""Packages of somebody else's that break: `palimpsest list` says so in a line, and shows everything else."""

import io
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from palimpsest.simulator.cli.listing import KINDS, listing
from tests.support.packages import installed

GROUPS = {
    "palimpsest.sources": "datasets",
    "palimpsest.models": "models",
    "palimpsest.strategies": "strategies",
    "palimpsest.unlearners": "unlearning",
    "palimpsest.attacks": "attacks",
    "palimpsest.defenses": "defenses",
    "palimpsest.attack_measures": "measures",
    "palimpsest.unlearning_measures": "measures",
    "palimpsest.unlearning_distances": "measures",
    "palimpsest.figures": "figures",
}
"""Groups of entry points, and the tables that show them."""

FAULTS = {
    "raises": "raise RuntimeError('the moon fell')",
    "says-nothing": "raise ValueError",
    "is-mute": "class Mute(Exception):\n    def __str__(self): raise RuntimeError\nraise Mute",
    "is-markup": "raise RuntimeError('[/bold] [red]x[/red] [/nothing]')",
    "steers": "raise RuntimeError('\\x1b[2J\\x07gone\\nmore')",
    "ends": "import sys\nsys.exit(3)",
    "is-no-exception": "class Odd(BaseException): pass\nraise Odd",
    "has-no-syntax": "def (",
    "lacks-a-module": "import no_such_module_at_all",
    "never-ends": "def f(): return f()\nf()",
    "lacks-the-name": "x = 1",
}
"""What a module does when it is imported."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with an entry of every group for every fault."""
    package, site = tmp_path / "package", tmp_path / "site"
    package.mkdir()
    lines = ["[project]", 'name = "broken"', 'version = "1.0"']
    for group in GROUPS:
        lines.append(f'[project.entry-points."{group}"]')
        lines += [f'{fault}-{group.rpartition(".")[2]} = "{_module(fault)}:thing"' for fault in FAULTS]
    (package / "pyproject.toml").write_text("\n".join(lines))
    for fault, code in FAULTS.items():
        (package / f"{_module(fault)}.py").write_text(code)
    installed(site, package)
    monkeypatch.syspath_prepend(str(site))
    yield
    for fault in FAULTS:
        sys.modules.pop(_module(fault), None)


def test_each_is_one_line_and_the_rest_is_shown(site: None) -> None:
    tables = {kind: _shown(kind) for kind in KINDS}
    for (group, kind), fault in itertools.product(GROUPS.items(), FAULTS):
        name = f"{fault}-{group.rpartition('.')[2]}"
        found = [line for line in tables[kind].splitlines() if line.lstrip().startswith(f"{name} ")]
        assert len(found) == 1, (name, tables[kind])
        line = found[0]
        assert "cannot be used: " in line, line
    assert "the moon fell" in tables["attacks"]
    assert "[red]x[/red]" in tables["attacks"]
    assert "\x1b" not in "".join(tables.values())
    for kind, built_in in {"attacks": "hrec", "models": "softmax", "measures": "cosine", "figures": "gallery"}.items():
        assert f"\n {built_in} " in tables[kind]


def _shown(kind: str) -> str:
    """A table on a terminal so wide that every row is a line."""
    console = Console(file=io.StringIO(), width=3000, force_terminal=False)
    console.print(listing(kind, console.width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _module(fault: str) -> str:
    return f"broken_{fault.replace('-', '_')}"
