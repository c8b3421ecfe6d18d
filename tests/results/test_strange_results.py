"""``results.json`` of a stranger: whatever is in it, it is read or refused in one sentence, and nothing is written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles
from palimpsest.simulator.results.schema import RunFilesError
from tests.support.entries import arm, reconstruction, run_json

COUNT = 400
LEADING_OUT = ("../../../../etc/passwd", "..", ".", "/etc/passwd", "a/b", "a\\..\\b", "a\0b", "\x1b[2J", "", "x" * 300)
STRANGE: tuple[Any, ...] = (*LEADING_OUT, None, True, -1, 10**400, 1e308, [], {}, [[]], {"a": {}}, "\ud800", "[/red]")


def _leaves(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything in a JSON value."""
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(leaf for key, value in inside for leaf in _leaves(value, (*path, key)))]


def _put(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value


def _sound() -> dict[str, Any]:
    return json.loads(json.dumps(run_json(arm(attacks={"hrec": reconstruction(0.9, 0.8)}), arm(arm="other"))))


def test_a_strange_value_anywhere_is_read_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths, refused = _leaves(_sound())[1:], 0
    for _ in range(COUNT):
        content = _sound()
        _put(content, paths[int(rng.integers(len(paths)))], STRANGE[int(rng.integers(len(STRANGE)))])
        (tmp_path / "results.json").write_text(json.dumps(content))
        try:
            RunFiles.open(tmp_path)
        except RunFilesError as error:
            refused += 1
            assert "\n" not in str(error)
            assert len(str(error)) < 500
    assert COUNT / 4 < refused < COUNT
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize("key", ["arm", "variant"])
@pytest.mark.parametrize("name", LEADING_OUT)
def test_names_that_lead_to_other_files_are_refused(key: str, name: str, tmp_path: Path) -> None:
    if key == "variant" and not name:
        return  # a run without variants
    (tmp_path / "results.json").write_text(json.dumps(run_json(arm(**{key: name}))))
    with pytest.raises(RunFilesError, match=f"arms.0.{key} is "):
        RunFiles.open(tmp_path)
    if key == "arm":
        with pytest.raises(RunFilesError, match="names an arm"):
            RunDirectory(tmp_path).arm(name)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"arms":' * 100_000, "\ufeff[", "\ufeff"])
def test_what_is_nested_without_end_or_empty_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunFilesError, match="cannot be read"):
        RunFiles.open(tmp_path)


def test_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(_sound()), encoding="utf-8-sig")
    assert [found.arm for found in RunFiles.open(tmp_path).arms] == ["ascent--none--seed0", "other"]
