"""What the documentation names exists, what it shows works, and every page can be reached."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from palimpsest.simulator.attack_metrics.measures.measure import Background, Measure, Pairs
from palimpsest.simulator.testing.transcripts import digits

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
PLACES = ("attacks", "clients", "defenses", "docs", "examples", "server", "simulator", "tests", ".ci")


def blocks(page: Path) -> list[str]:
    """The page's Python."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


PAGES = sorted(str(path.relative_to(PROJECT)) for path in [*PROJECT.glob("*.md"), *DOCS.rglob("*.md")])


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("CHANGELOG.md", "docs/renamed.md")])
def test_every_path_that_a_page_names_exists(page: str) -> None:
    prose = re.sub(r"^```.*?^```", "", (PROJECT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    named = {word.rstrip("/") for word in re.findall(r"`([\w./-]+)`", prose) if word.split("/")[0] in PLACES}
    examples = {"attacks/class_mean.py", "simulator/attack_metrics/measures/largest_error.py"}
    missing = sorted(path for path in named - examples if not (PROJECT / path).exists())
    assert not missing, f"{page} names what is not there: {', '.join(missing)}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_every_link_of_a_page_leads_to_a_file_of_the_documentation(page: str) -> None:
    place = PROJECT / page
    prose = re.sub(r"^```.*?^```", "", place.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = {link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in link}
    targets = {link: (place.parent / link).resolve() for link in links if link}
    lost = sorted(link for link, path in targets.items() if not path.is_file() or DOCS not in path.parents)
    assert not lost, f"{page} links to what the documentation does not hold: {', '.join(lost)}"


def test_the_layout_names_every_room() -> None:
    page = (DOCS / "architecture.md").read_text()
    rooms = {f"simulator/{path.parent.name}" for path in (PROJECT / "simulator").glob("*/__init__.py")}
    assert not [room for room in sorted(rooms) if f"| `{room}` |" not in page]


def _pages(entry: Any) -> list[str]:
    """The pages of a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in _pages(part)]


def test_every_page_is_in_the_navigation() -> None:
    named = _pages(yaml.safe_load((PROJECT / "mkdocs.yml").read_text())["nav"])
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert len(named) == len(set(named))
    assert set(named) == there, f"mkdocs.yml, nav: {sorted(there - set(named))} are missing, or are not there"


def test_every_installed_requirement_has_a_constraint_that_it_allows() -> None:
    lines = [line for line in (PROJECT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
        *project["optional-dependencies"]["docs"],
    ]
    for requirement in map(Requirement, wanted):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is not {version}, as constraints.txt has it"


@pytest.mark.slow
def test_the_attack_of_the_page_keeps_the_contract(tmp_path: Path) -> None:
    """As in a package of somebody else's, which announces it by an entry point."""
    (tmp_path / "class_mean.py").write_text(blocks(DOCS / "architecture.md")[0])
    about = tmp_path / "class_mean-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: class-mean\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[palimpsest.attacks]\nclass-mean = class_mean:ClassMean\n")
    code = "from palimpsest.simulator.testing import check_attack; check_attack('class-mean'); print('kept')"
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command, environment = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "kept\n", done.stderr


def test_the_measure_of_the_page_works() -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(blocks(DOCS / "architecture.md")[1], "docs/architecture.md", "exec"), names)
    measure = names["MEASURE"]
    assert isinstance(measure, Measure)
    true, found = np.zeros((2, 3)), np.array([[0.1, -0.5, 0.2], [0.0, 0.0, 0.3]])
    pairs = Pairs(np.zeros(2), np.arange(2), true, np.zeros(2), found, np.zeros(2))
    background = Background(np.zeros(3), digits().schema, np.empty((0, 3)), np.random.default_rng(0))
    assert measure.values(pairs, background).tolist() == [0.5, 0.3]
