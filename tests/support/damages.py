"""Ways in which a run's directory is damaged: by disks that fill, by editors, by tools that copy half of it."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Damage = Callable[[Path, random.Random], None]
"""Of one file, which exists."""


def _truncate(file: Path, draw: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: draw.randrange(len(content))] if content else b"")


def _empty(file: Path, draw: random.Random) -> None:
    file.write_bytes(b"")


def _flip(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes() or b"x")
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def _delete(file: Path, draw: random.Random) -> None:
    file.unlink()


def _garbage(file: Path, draw: random.Random) -> None:
    file.write_bytes(draw.randbytes(200))


def _folder(file: Path, draw: random.Random) -> None:
    file.unlink()
    (file / "within").mkdir(parents=True)


def _pipe(file: Path, draw: random.Random) -> None:
    file.unlink()
    os.mkfifo(file)


def _dangling(file: Path, draw: random.Random) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def _circle(file: Path, draw: random.Random) -> None:
    file.unlink()
    file.symlink_to(file.name)


def _swap(file: Path, draw: random.Random) -> None:
    others = sorted(other for other in file.parent.iterdir() if other.is_file() and other != file)
    if not others:
        return _delete(file, draw)
    other = draw.choice(others)
    content = file.read_bytes()
    file.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return None


def _other_value(file: Path, draw: random.Random) -> None:
    """A JSON value of another type or content, anywhere in the file."""
    try:
        content = json.loads(file.read_bytes())
    except ValueError:
        return _garbage(file, draw)
    file.write_text(json.dumps(_replaced(content, draw)))
    return None


def _replaced(content: Any, draw: random.Random) -> Any:
    keys = (
        list(content) if isinstance(content, dict) else list(range(len(content))) if isinstance(content, list) else []
    )
    if not keys or draw.random() < 0.2:
        choices: list[Any] = [None, 3, -1.5, "text", [], {}, [{}], True, "", 10**30]
        return draw.choice([choice for choice in choices if choice != content])
    key = draw.choice(keys)
    if draw.random() < 0.2:
        return {k: v for k, v in content.items() if k != key} if isinstance(content, dict) else content[:-1]
    copied = dict(content) if isinstance(content, dict) else list(content)
    copied[key] = _replaced(content[key], draw)
    return copied


def _other_number(file: Path, draw: random.Random) -> None:
    """One digit of a text is another one: of a scenario, another scenario."""
    content = bytearray(file.read_bytes())
    digits = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    if not digits:
        return _flip(file, draw)
    place = draw.choice(digits)
    content[place] = ord(draw.choice([digit for digit in "123456789" if ord(digit) != content[place]]))
    file.write_bytes(content)
    return None


def _deep(file: Path, draw: random.Random) -> None:
    file.write_text("[" * 100_000)


FILE_DAMAGES: dict[str, Damage] = {
    damage.__name__.strip("_"): damage
    for damage in (
        _truncate, _empty, _flip, _delete, _garbage, _folder, _pipe, _dangling, _circle, _swap, _other_value,
        _other_number, _deep,
    )
}  # fmt: skip


def _no_folder(folder: Path, draw: random.Random) -> None:
    shutil.rmtree(folder)


def _file_for_folder(folder: Path, draw: random.Random) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


def _stray(folder: Path, draw: random.Random) -> None:
    (folder / ".x.json.999999.draft").write_text("{")


FOLDER_DAMAGES: dict[str, Damage] = {
    "no folder": _no_folder, "file for folder": _file_for_folder, "stray draft": _stray,
}  # fmt: skip


def drawn(directory: Path, draw: random.Random) -> Iterator[tuple[str, Path, Damage]]:
    """Damages without end: what, where (relative) and how; files at the top come as often as all others."""
    files = sorted(path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    folders = sorted(path.relative_to(directory) for path in directory.iterdir() if path.is_dir())
    top, below = [file for file in files if len(file.parts) == 1], [file for file in files if len(file.parts) > 1]
    arms = [file for file in below if file.parts[0] == "arms"]
    while True:
        if draw.random() < 0.1:
            name = draw.choice(sorted(FOLDER_DAMAGES))
            yield name, draw.choice(folders), FOLDER_DAMAGES[name]
            continue
        name = draw.choice(sorted(FILE_DAMAGES))
        yield name, draw.choice(draw.choice([group for group in (top, below, arms) if group])), FILE_DAMAGES[name]
