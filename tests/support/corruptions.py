"""What may be wrong with a transcript that a stranger wrote: each function spoils a sound one in some random way."""

import hashlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from palimpsest.simulator.testing.transcripts import ascending, challenged, digits, write
from palimpsest.simulator.world.records import Array

HUGE = 10**12
ESCAPES = ("\x1b[2Jgone", "\x07", "a\nb", "\u202eright", "\x9b31m")
Generator = np.random.Generator


def sound(directory: Path) -> None:
    """Two deletions from a softmax model, the public facts, and a challenge."""
    data = digits(private=60, public=80)
    spec = data.spec("softmax", 1.0)
    knowledge, _ = challenged(data.knowledge(spec, "identity", 0.1), data, [[0], [1, 2]])
    write(directory, knowledge, ascending(data, spec, [[0], [1, 2]], 0.1))


def _any(rng: Generator, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _release(directory: Path, rng: Generator) -> Path:
    """A release that the first or the second case reads."""
    return directory / "releases" / f"{int(rng.integers(4)):06d}.safetensors"


def _facts(directory: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = directory / "knowledge.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def _put(*keys: Any, values: Callable[[Generator], Any]) -> Callable[[Path, Generator], None]:
    """Put a value somewhere into ``knowledge.json``."""

    def spoil(directory: Path, rng: Generator) -> None:
        def change(facts: Any) -> None:
            for key in keys[:-1]:
                facts = facts[key]
            facts[keys[-1]] = values(rng)

        _facts(directory, change)

    return spoil


def _line(directory: Path, rng: Generator, **changes: Any) -> None:
    """Change a line of the index."""
    path = directory / "releases.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[int(rng.integers(len(lines)))].update(changes)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _keyed(key: str, *values: Any) -> Callable[[Path, Generator], None]:
    return lambda directory, rng: _line(directory, rng, **{key: _any(rng, *values)})


def _replace(directory: Path, path: Path, content: bytes) -> None:
    """Write a release anew with the digest that belongs to it, so that its content alone is wrong."""
    path.write_bytes(content)
    index = directory / "releases.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    for line in lines:
        if directory / line["file"] == path:
            line["sha256"] = hashlib.sha256(content).hexdigest()
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _arrays(
    name: str | None, change: Callable[[dict[str, Array], Generator], dict[str, Array]]
) -> Callable[[Path, Generator], None]:
    """Change the arrays of a file; of a release where no name is given."""

    def spoil(directory: Path, rng: Generator) -> None:
        path = directory / name if name else _release(directory, rng)
        changed = {key: np.ascontiguousarray(value) for key, value in change(load_file(path), rng).items()}
        _replace(directory, path, save(changed))

    return spoil


def _bytes(name: str | None, change: Callable[[bytes, Generator], bytes]) -> Callable[[Path, Generator], None]:
    def spoil(directory: Path, rng: Generator) -> None:
        path = directory / name if name else _release(directory, rng)
        content = change(path.read_bytes(), rng)
        if name:
            path.write_bytes(content)
        else:
            _replace(directory, path, content)

    return spoil


def _cut(content: bytes, rng: Generator) -> bytes:
    return content[: int(rng.integers(1, len(content) - 1))]


def _noise(content: bytes, rng: Generator) -> bytes:
    return rng.bytes(int(rng.integers(0, len(content))))


def _claimed(content: bytes, rng: Generator) -> bytes:
    """A header that claims 10^12 numbers, or 2^60 bytes of itself."""
    if rng.random() < 0.3:
        return struct.pack("<Q", 2**60) + content[8:]
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = sorted(header)[-1]
    header[name] |= {"shape": [HUGE], "data_offsets": [0, 8 * HUGE]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def _with(name: str, value: float) -> Callable[[dict[str, Array], Generator], dict[str, Array]]:
    def change(arrays: dict[str, Array], rng: Generator) -> dict[str, Array]:
        spoiled = arrays[name].copy()
        spoiled.flat[int(rng.integers(spoiled.size))] = value
        return arrays | {name: spoiled}

    return change


def _other_form(arrays: dict[str, Array], rng: Generator) -> dict[str, Array]:
    weight = arrays["weight"]
    other: dict[str, dict[str, Array]] = {
        "transposed": {"weight": weight.T},
        "flat": {"weight": weight.ravel()},
        "wider": {"weight": np.zeros((10, 65))},
        "single": {"weight": weight.astype(np.float32)},
        "integers": {"weight": weight.astype(np.int64)},
        "more": {"extra\x1b[2J": weight},
    }
    return arrays | _any(rng, *other.values())


def _special(name: str | None) -> Callable[[Path, Generator], None]:
    """A FIFO, a link, a directory, or a file of 10^12 bytes, in place of a file."""

    def spoil(directory: Path, rng: Generator) -> None:
        path = directory / name if name else _release(directory, rng)
        kind = _any(rng, "fifo", "link", "directory", "sparse", "gone" if name is None else "fifo")
        if kind == "sparse":
            os.truncate(path, HUGE)
            return
        content = path.read_bytes()
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "link":
            outside = directory.parent / f"outside-{path.name}"
            outside.write_bytes(content)
            path.symlink_to(outside)
        elif kind == "directory":
            path.mkdir()

    return spoil


def _first_case(**changes: Any) -> Callable[[Path, Generator], None]:
    return lambda directory, rng: _facts(directory, lambda facts: facts["cases"][int(rng.integers(2))].update(changes))


def _garbled_index(directory: Path, rng: Generator) -> None:
    path = directory / "releases.jsonl"
    path.write_bytes(_any(rng, b"\xff\xfe", b"[" * 100_000, b"null\n", b"{}\n", b'"\x1b[2J"\n') + path.read_bytes())


def _nested(directory: Path, rng: Generator) -> None:
    (directory / "knowledge.json").write_text(_any(rng, "[", '{"training":') * int(rng.integers(10_000, 100_000)))


def _renamed_key(directory: Path, rng: Generator) -> None:
    def change(facts: dict[str, Any]) -> None:
        facts["\x1b]0;title\x07"] = facts.pop(_any(rng, "n", "model", "operator", "schema_", "training"))

    _facts(directory, change)


CORRUPTIONS: dict[str, Callable[[Path, Generator], None]] = {
    "a release is cut short": _bytes(None, _cut),
    "a release is noise": _bytes(None, _noise),
    "a release claims sizes that it has not": _bytes(None, _claimed),
    "a release has another form": _arrays(None, _other_form),
    "a release holds a NaN": _arrays(None, _with("weight", float("nan"))),
    "a release holds an infinity": _arrays(None, _with("bias", float("-inf"))),
    "a release is no file": _special(None),
    "an index is cut short": _bytes("releases.jsonl", lambda content, rng: _cut(content[:-3], rng)),
    "an index is garbled": _garbled_index,
    "an index is no file": _special("releases.jsonl"),
    "a parent is wrong": _keyed("parent", 3, 10, -1, HUGE, "0", 0.5),
    "an id is wrong": _keyed("id", -1, 7, HUGE, None, "0"),
    "a path leads out": _keyed("file", "../outside", "/etc/passwd", "releases/../../x", "", "\x1b[2J", "a\0b"),
    "a digest is wrong": _keyed("sha256", "0" * 64, "F" * 64, "", None, "\x1b[2J"),
    "a phase is unknown": _keyed("phase", "\x1b[2J", "dinner", 3),
    "knowledge is cut short": _bytes("knowledge.json", _cut),
    "knowledge is nested without end": _nested,
    "knowledge is no file": _special("knowledge.json"),
    "knowledge has another key": _renamed_key,
    "a version is wrong": _put("format", values=lambda rng: _any(rng, 0, 2, "1", None, HUGE)),
    "an operator is unknown": _put("operator", values=lambda rng: _any(rng, "inverse", "\x1b[2J", None, 3)),
    "a step is wrong": _put("step", values=lambda rng: _any(rng, 0.0, -0.1, float("nan"), float("inf"), "x")),
    "an algorithm is wrong": _put("algorithm", values=lambda rng: _any(rng, "fedavg", "fedsgd", "\x1b[2J")),
    "a name steers the terminal": _put(
        "schema_", "class_names", values=lambda rng: ["0", *"123456789"[:-1], _any(rng, *ESCAPES)]
    ),
    "the data's name steers the terminal": _put("schema_", "name", values=lambda rng: _any(rng, *ESCAPES)),
    "names are too few": _put("schema_", "class_names", values=lambda rng: ["one"] * int(rng.integers(1, 10))),
    "outputs are wrong": _put("model", "outputs", values=lambda rng: _any(rng, HUGE, -1, 0, 11)),
    "a shape is wrong": _put("schema_", "shape", values=lambda rng: _any(rng, [HUGE], [1, 8, 9], [-64], [], [1, 64])),
    "an architecture is another": _put("model", "kind", values=lambda rng: _any(rng, "mlp", "cnn", "resnet18", "x")),
    "features are huge": _put(
        "model", "features", values=lambda rng: {"dimension": _any(rng, HUGE, -1, 7), "bandwidth": 1.0, "seed": 0}
    ),
    "a case points past the releases": _first_case(after=HUGE),
    "a case has a negative index": _first_case(before=-1),
    "a case ends before it begins": _first_case(before=3, after=1),
    "a case is huge": _first_case(size=HUGE),
    "labels are wrong": _first_case(labels=[11.0]),
    "the public sample is cut short": _bytes("knowledge.safetensors", _cut),
    "the public sample holds a NaN": _arrays("knowledge.safetensors", _with("x", float("nan"))),
    "the public sample has a class too many": _arrays("knowledge.safetensors", _with("y", 10)),
    "the public sample is no file": _special("knowledge.safetensors"),
    "a challenge is noise": _bytes("challenge.safetensors", _noise),
    "a challenge has other columns": _arrays("challenge.safetensors", lambda a, rng: a | {"x": a["x"][:, 1:]}),
    "a challenge is no file": _special("challenge.safetensors"),
}
"""By what is wrong."""
