"""Packages of somebody else's, installed as ``pip install`` would leave them."""

import tomllib
from pathlib import Path


def installed(site: Path, package: Path) -> None:
    """Put a package's modules and what its pyproject.toml announces into a folder of importable files."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    about = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module in package.glob("*.py"):
        (site / module.name).write_text(module.read_text())
