"""Hooks of mkdocs: where mkdocstrings finds the sources, and which methods the API pages list."""

import re
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

_PROJECT = Path(__file__).parents[1]
_FOLDERS = ("attacks", "clients", "defenses", "server", "simulator")
_kept: list[Any] = []


@event_priority(100)  # before mkdocstrings reads its options
def on_config(config: Any) -> Any:
    """Link the folders into a ``palimpsest``, as they are installed: mkdocstrings follows no editable install."""
    place = tempfile.TemporaryDirectory()
    _kept.append(place)
    package = Path(place.name) / "palimpsest"
    package.mkdir()
    for folder in _FOLDERS:
        (package / folder).symlink_to(_PROJECT / folder)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [place.name]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Write ``{{ methods of FOLDER }}`` out: every class that the folder's table of cards names, once."""
    return re.sub(r"\{\{ methods of (\S+) \}\}", lambda found: _methods(_PROJECT / found[1]), markdown)


def _methods(folder: Path) -> str:
    targets = re.findall(r'target="([\w.]+):(\w+)"', (folder / "__init__.py").read_text())
    return "\n\n".join(f"::: {module}.{name}" for module, name in dict.fromkeys(targets))
