"""Messages beside a transcript: what was written is read again, and what a stranger wrote ends in one sentence."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.protocols.messages import MESSAGES, Messages, MessageWriter

SHAPES = {"weight": (2, 3), "bias": (2,)}


def written(transcript: Path) -> Path:
    """Two clients of a round of training, and one of unlearning."""
    writer = MessageWriter(transcript / MESSAGES)
    for branch, clients in ((0, [(0,), (4,)]), (1, [(4,)])):
        start = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
        sent = {name: np.full((len(clients), *shape), 1.5, np.float32) for name, shape in SHAPES.items()}
        writer.append(branch, 0, "update", "retained", clients, [3.0] * len(clients), start, sent)
    return transcript / MESSAGES


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    written(tmp_path)
    messages = Messages(tmp_path)
    messages.check(SHAPES)
    heard = messages.of_branch(1, rounds=1)
    assert [(message.phase, message.clients, message.weight) for message in heard] == [
        ("training", (0,), 3.0),
        ("training", (4,), 3.0),
        ("unlearning", (4,), 3.0),
    ]
    assert np.array_equal(heard[2].sent["bias"], [1.5, 1.5])
    assert np.array_equal(heard[2].start["weight"], np.zeros((2, 3)))


def lines(change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    """Change the first line of the index."""

    def spoil(folder: Path) -> None:
        index = folder / "messages.jsonl"
        first, *rest = index.read_text().splitlines()
        line = json.loads(first)
        change(line)
        index.write_text("\n".join([json.dumps(line), *rest]) + "\n")

    return spoil


def a_link(folder: Path) -> None:
    (folder / "000000.safetensors").rename(folder / "elsewhere")
    (folder / "000000.safetensors").symlink_to(folder / "elsewhere")


def another_file(folder: Path) -> None:
    """Same form, other numbers."""
    path = folder / "000000.safetensors"
    payload = bytearray(path.read_bytes())
    payload[-1] ^= 1
    path.write_bytes(payload)


def a_fifo(folder: Path) -> None:
    (folder / "messages.jsonl").unlink()
    os.mkfifo(folder / "messages.jsonl")


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no line": (lambda folder: (folder / "messages.jsonl").write_text("[1]\n") and None, "line 1, has a value"),
    "a field is lacking": (lines(lambda line: line.pop("about") and None), "lacks about, which must be given"),
    "a field is unknown": (lines(lambda line: line.update(more=1)), "has more = 1"),
    "a kind is unknown": (lines(lambda line: line.update(kind="guess")), "has kind = guess"),
    "ids do not count": (lines(lambda line: line.update(id=5)), "has id 5 where 0 is due"),
    "a client is negative": (lines(lambda line: line.update(clients=[[-1], [4]])), "has clients.0.0 = -1"),
    "a weight is infinite": (lines(lambda line: line.update(weights=[1e999, 1.0])), "has weights.0"),
    "a weight is missing": (lines(lambda line: line.update(weights=[1.0])), "2 groups of clients and 1 weights"),
    "more clients than rows": (
        lines(lambda line: line.update(clients=[[1], [2], [3]], weights=[1.0] * 3)),
        r"is float32 of shape \[2, .*it must be float32 or float64 of shape \[3, ",
    ),
    "a path out of the folder": (lines(lambda line: line.update(file="../releases.jsonl")), "inside the directory"),
    "a name that steers": (lines(lambda line: line.update(file="\x1b[2J")), "no control characters"),
    "a link": (a_link, "is a link; it must be a regular file"),
    "a FIFO": (a_fifo, "is a FIFO; it must be a regular file"),
    "another file": (another_file, "is not what was recorded: its SHA-256 differs"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_strangers_messages_end_in_one_sentence(tmp_path: Path, what: str) -> None:
    spoil, sentence = SPOILED[what]
    spoil(written(tmp_path))
    with pytest.raises(TranscriptError, match=sentence):
        read(tmp_path)


def read(transcript: Path) -> None:
    messages = Messages(transcript)
    messages.check(SHAPES)
    for message in messages.of_branch(1, rounds=1):
        dict(message.sent)
