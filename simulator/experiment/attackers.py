"""A run's attacks, in a process that is handed a copy of the transcript and nothing else."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

import palimpsest
from palimpsest.attacks import confinement
from palimpsest.attacks.cost import Cost
from palimpsest.attacks.session import Answer, joined
from palimpsest.simulator.attack_metrics.answers import answer_card
from palimpsest.simulator.world.errors import ModelError, RunFailure, TranscriptError
from palimpsest.simulator.world.models.given import carried
from palimpsest.simulator.world.models.kinds import model_card
from palimpsest.simulator.world.protocols.attack import Attack
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.streams import each_alone, withheld

SECONDS = 24 * 3600.0
"""That one attack on one transcript may take."""

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")
_OF_LIBRARIES = ("OPENBLAS_", "MKL_", "OMP_", "KMP_", "NVPL_", "BLIS_", "CUBLAS_")
"""Beginnings of names by which numerical libraries choose their kernels: other ones have other bits."""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Sums over more threads have other bits; and a process that has threads cannot be forked."""
_BUNDLE = """
import runpy, sys, types
package = types.ModuleType("palimpsest")
package.__path__ = {paths!r}
sys.modules["palimpsest"] = package
runpy.run_module("palimpsest.attacks", run_name="__main__", alter_sys=True)
"""
_FULL = "exit code 74"
"""How the attacks' process says that the disk has refused something."""
_TIME = (0, 0)
"""Of all files of a copy: when they were last read and written."""

NOT_CONFINED = (
    "this kernel has no Landlock: attacks run in a process of their own that is handed the transcript alone, and which "
    "could read other files of this user"
)


def said_of_confinement() -> str:
    """What the user should know of the attacks' process; empty where the kernel confines it."""
    return "" if confinement.available() else NOT_CONFINED


def run_attacks(
    transcript: Path, attacks: Sequence[Attack], seconds: float = SECONDS, meanwhile: Callable[[], object] | None = None
) -> tuple[dict[str, Answer], dict[str, str]]:
    """Run attacks on one transcript in the attacks' process.

    Args:
        transcript: its directory.
        attacks: one of each kind.
        seconds: that each of them may take.
        meanwhile: what this process does while that one works; called once for each folder that is handed over.

    Returns:
        Answers by the attack's kind; for each attack that failed, why, as the rest of a sentence.

    Raises:
        RunFailure: the transcript cannot be read there, or the process cannot be started.
        BaseException: what ``meanwhile`` raised; the attacks are ended then.
    """
    wanted = [
        {
            "kind": attack.kind,
            "target": f"{type(attack).__module__}:{type(attack).__qualname__}",
            "parameters": attack.model_dump(mode="json"),
        }
        for attack in attacks
    ]
    models = base64.b64encode(carried()).decode()
    said: dict[str, list[Answer | str]] = {attack.kind: [] for attack in attacks}
    for folder, network in _handed(transcript):
        with tempfile.TemporaryDirectory() as out:
            request = {"folder": str(folder), "out": out, "path": _path(), "attacks": wanted, "seconds": seconds}
            request |= {"models": models, "network": network}
            _process().ask(request, meanwhile)
            broken = Path(out) / "error.json"
            if broken.is_file():
                raise RunFailure(f"the attacks cannot read {transcript}: {json.loads(broken.read_text())['error']}")
            for number, attack in enumerate(attacks):
                said[attack.kind].append(_read(Path(out) / str(number)))
    return _sorted_out(said)


def start() -> None:
    """Start the attacks' process, so that it gets ready while something else is done."""
    _process()


def _sorted_out(said: Mapping[str, Sequence[Answer | str]]) -> tuple[dict[str, Answer], dict[str, str]]:
    """Each attack's answer on all folders together, or why one of them has none."""
    answers: dict[str, Answer] = {}
    failures: dict[str, str] = {}
    for kind, parts in said.items():
        read = [part for part in parts if isinstance(part, Answer)]
        if len(read) < len(parts):
            failures[kind] = next(part for part in parts if isinstance(part, str))
        else:
            answers[kind] = read[0] if len(read) == 1 else joined(read)
    return answers, failures


def _read(place: Path) -> Answer | str:
    """One attack's answer, or why there is none."""
    for name in ("failed.json", "answer.json"):
        if (place / name).is_file():
            about = json.loads((place / name).read_text())
            break
    else:
        return "its process ended before it began"
    if "error" in about:
        return str(about["error"])
    guesses = []
    if "answer" in about:
        guesses = list(answer_card(about["answer"]).answer.unpack(load_file(place / "answer.safetensors")))
    return Answer(guesses, Cost(**about["cost"]))


def _handed(transcript: Path) -> Iterator[tuple[Path, bool]]:
    """Folders that attacks are handed one after the other: the transcript, or where brackets are withheld each case.

    Yields:
        A folder, and whether the model is a network.

    Raises:
        RunFailure: the transcript or what is known beside it cannot be read, or its model's package is not installed.
    """
    try:
        known = PublicKnowledge.open(transcript / "knowledge.json")
        network = not model_card(known.facts.model.kind).linear
        if not withheld(known.facts):
            with _copied(transcript) as folder:
                yield folder, network
            return
        for folder in each_alone(transcript, known):
            _unmark(folder)
            yield folder, network
    except (ModelError, TranscriptError) as error:
        raise RunFailure(f"the attacks cannot read {transcript}: {error}") from None


@contextlib.contextmanager
def _copied(transcript: Path) -> Iterator[Path]:
    """A copy of a transcript whose place, order and times say nothing."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "transcript"
        folder.mkdir()
        for path in sorted(transcript.rglob("*")):
            copy = folder / path.relative_to(transcript)
            if path.is_dir():
                copy.mkdir()
            else:
                shutil.copyfile(path, copy)
        _unmark(folder)
        yield folder


def _unmark(folder: Path) -> None:
    """Give all files the same times."""
    for path in (*folder.rglob("*"), folder):
        os.utime(path, _TIME)


class _Process:
    """``python -m palimpsest.attacks``, started once, with an environment of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> "subprocess.Popen[str]":
        if self._child is None or self._child.poll() is not None:
            self._child = subprocess.Popen(
                [sys.executable, "-P", *_module()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
                env=_environment(),
                text=True,
                start_new_session=True,
            )
        return self._child

    def ask(self, request: dict[str, Any], meanwhile: Callable[[], object] | None = None) -> None:
        """Have a request served, and do something else until it is.

        Raises:
            RunFailure: the process is gone.
        """
        with self._lock:
            child = self.start()
            try:
                sent = self._send(child, request)
                if sent and meanwhile is not None:
                    meanwhile()
                reply = self._reply(child)
            except BaseException:  # Ctrl-C too: what it says later would be taken for the reply to the next request
                child.kill()
                child.wait()
                raise
            if _FULL in reply:
                raise RunFailure(
                    f"the attacks find no room for their answers under {tempfile.gettempdir()}: make room there, or "
                    f"name another place in TMPDIR"
                )
            if not reply:
                raise RunFailure(f"the attacks' process ended with exit code {child.wait()}; its error is above")

    def _send(self, child: "subprocess.Popen[str]", request: dict[str, Any]) -> bool:
        """Whether it is there to be asked."""
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps(request) + "\n")
            child.stdin.flush()
        except OSError:
            return False
        return True

    def _reply(self, child: "subprocess.Popen[str]") -> str:
        """What it said; empty where it is gone."""
        assert child.stdout is not None
        try:
            return child.stdout.readline()
        except OSError:
            return ""


@cache
def _of_this_process(process: int) -> _Process:
    return _Process()


def _process() -> _Process:
    process = _of_this_process(os.getpid())
    process.start()
    return process


def _module() -> list[str]:
    """How Python is told to run the attacks: by name, or from Flower's bundle, which is not installed."""
    if getattr(palimpsest, "__spec__", None) is not None:
        return ["-m", "palimpsest.attacks"]
    return ["-c", _BUNDLE.format(paths=list(palimpsest.__path__))]


def _environment() -> dict[str, str]:
    """What Python needs to find the same packages, and nothing else of this process's environment."""
    environment = os.environ.items()
    passed = {name: value for name, value in environment if name in _PASSED_ON or name.startswith(_OF_LIBRARIES)}
    return {**passed, **dict.fromkeys(_ONE_THREAD, "1"), "PYTHONPATH": os.pathsep.join(_path())}


def _path() -> list[str]:
    """``sys.path`` without the working directory, where runs lie; with it where ``PYTHONPATH`` names it."""
    here, named = Path.cwd().resolve(), os.environ.get("PYTHONPATH", "").split(os.pathsep)
    wanted = here in [Path(entry).resolve() for entry in named if entry]
    return [str(Path(entry).absolute()) for entry in sys.path if entry and (wanted or Path(entry).resolve() != here)]
