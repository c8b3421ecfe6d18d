"""What a corrupted transcript costs the real command: time of CPU and memory of each of 100 processes.

    python -m tests.support.measured_corruptions [COUNT]

Prints how many ended as they should (exit code 2, one sentence, no control character, 5 s of CPU time, 1.5 GiB), the
most that one took, and each that did not.
"""

import os
import sys
import tempfile
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support.corruptions import CORRUPTIONS, sound

COUNT = 100
SECONDS, BYTES = 5.0, 1.5 * 2**30
BESIDE = 2
"""Processes at once."""


@dataclass(frozen=True)
class Ended:
    """How the command ended on one transcript.

    Attributes:
        kind: what was wrong with it.
        code: exit code.
        text: all that was printed.
        seconds: of CPU time, imports and the system's included.
        bytes: of resident memory, at most.
    """

    kind: str
    code: int
    text: str
    seconds: float
    bytes: int

    @property
    def is_right(self) -> bool:
        """Whether it was refused in one sentence, in time and memory."""
        return self.code == 2 and is_one_sentence(self.text) and self.seconds < SECONDS and self.bytes < BYTES


def is_one_sentence(text: str) -> bool:
    """Whether this is one line of an error, and nothing in it steers a terminal."""
    body = text.removesuffix("\n")
    steering = [c for c in body if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")]
    return body.startswith("error: ") and not steering and len(body) < 1000


def ended(kind: str, seed: int) -> Ended:
    """Spoil a sound transcript and have the command attack it."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / "arm"
        sound(directory)
        CORRUPTIONS[kind](directory, np.random.default_rng(seed))
        command = [sys.executable, "-m", "palimpsest.simulator", "attack", str(directory), "--attack", "hrec"]
        read, written = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, written, 1), (os.POSIX_SPAWN_DUP2, written, 2)]
        child = os.posix_spawn(sys.executable, command, os.environ, file_actions=actions)
        os.close(written)
        with os.fdopen(read) as said:
            text = said.read()
        _, status, usage = os.wait4(child, 0)
    took = usage.ru_utime + usage.ru_stime
    return Ended(kind, os.waitstatus_to_exitcode(status), text, took, usage.ru_maxrss * 1024)


def main(arguments: Sequence[str]) -> int:
    """Measure; return how many did not end as they should."""
    kinds, count = list(CORRUPTIONS), int(arguments[0]) if arguments else COUNT
    with ThreadPoolExecutor(BESIDE) as pool:
        found = list(pool.map(lambda seed: ended(kinds[seed % len(kinds)], seed), range(count)))
    wrong = [one for one in found if not one.is_right]
    for one in wrong:
        print(f"{one.kind}: exit code {one.code}, {one.seconds:.2f} s, {one.bytes / 2**30:.2f} GiB, {one.text[:200]!r}")
    seconds, most = [one.seconds for one in found], max(one.bytes for one in found)
    print(
        f"{len(found) - len(wrong)} of {len(found)} corruptions of {len(kinds)} kinds ended as they should; CPU time "
        f"{np.median(seconds):.2f} s in the middle and {max(seconds):.2f} s at most, memory {most / 2**30:.2f} GiB"
    )
    return len(wrong)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
