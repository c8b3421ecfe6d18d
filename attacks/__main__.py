"""The process in which a run's attacks work: it is handed a folder that holds a transcript, and nothing else.

``python -m palimpsest.attacks`` reads one request a line from its standard input and answers each with a line. It
imports what attacks need once, and forks: for every request a process that reads the transcript, and from that one for
every attack another, so that an attack that crashes or takes too long ends by itself alone. What an attack has been
handed, it finds in these processes; what the run knows beyond that was never in them.
"""

import base64
import ctypes
import errno
import functools
import importlib
import importlib.util
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import FileFinder
from pathlib import Path
from typing import Any

import palimpsest.simulator.world.garbage  # noqa: F401  # before what takes long to load

import numpy as np  # isort: skip
from safetensors.numpy import save  # isort: skip

import palimpsest.attacks as attacks
from palimpsest.attacks.confinement import confine
from palimpsest.attacks.session import answer, check, check_heard, opened
from palimpsest.simulator.world.models.given import receive
from palimpsest.simulator.world.protocols.attack import Attack
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Case
from palimpsest.simulator.world.specs import Frozen

_DEATH = 1
_FULL = 74
"""Exit code of a process that the disk has refused something: no fault of the attack's."""
_LOOK = 0.005
"""Seconds between two looks at an attack's process."""
_SYSTEM = ("/usr", "/lib", "/lib64", "/dev/urandom", "/etc/ld.so.cache", "/etc/localtime")
_COUNTS = ("/proc/stat", "/proc/meminfo", "/proc/cpuinfo", "/sys/devices/system/cpu")


class AttackRequest(Frozen):
    """One attack.

    Attributes:
        kind: its name.
        target: ``module:class``.
        parameters: hyper-parameters, checked before.
    """

    kind: str
    target: str
    parameters: dict[str, Any]


class Request(Frozen):
    """All attacks on one transcript.

    Attributes:
        folder: that holds the transcript.
        out: an empty folder; the answer of attack i is left in ``<i>/`` of it.
        attacks: one after the other.
        seconds: that each may take.
        path: where modules are looked for, as ``sys.path``.
        models: networks that the program was given, as ``carried`` packs them, in base64.
        network: whether the model is one.
    """

    folder: str
    out: str
    path: tuple[str, ...]
    attacks: tuple[AttackRequest, ...]
    seconds: float
    models: str = ""
    network: bool = False


def main() -> None:
    """Serve requests until there are no more."""
    for line in sys.stdin:
        request = Request.model_validate_json(line)
        for wanted in request.attacks:
            if wanted.target in {card.target for card in attacks.CARDS.values()}:
                import_module(wanted.target.partition(":")[0])  # once for all; another package's only where it runs
        if request.network:
            import_module("torch._dynamo")  # as a network's first gradient by torch.func would, in every process anew
        status = _wait(_forked(functools.partial(_serve, request)), float("inf"), hangs_up=True)
        print(json.dumps({"status": status}), flush=True)


def _serve(request: Request) -> None:
    """Read a transcript and have it attacked."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request.folder)
    sys.path[:] = request.path
    importlib.invalidate_caches()
    _list_folders()
    try:
        receive(base64.b64decode(request.models))
        known, cases, digest = opened(Path(request.folder))
    except Exception as error:
        _leave(Path(request.out) / "error.json", {"error": str(error)})
        return
    for number, wanted in enumerate(request.attacks):
        place = Path(request.out) / str(number)
        place.mkdir()
        work = functools.partial(_attack, wanted, place, known, cases, digest)
        status = _wait(_forked(work), request.seconds)
        if status:
            late = f"took longer than the {request.seconds:g} s that it may"
            ended = late if status == "late" else f"ended with {status}"
            if status == f"exit code {_FULL}":
                os._exit(_FULL)
            _leave(place / "failed.json", {"error": f"its process {ended}"})


def _list_folders() -> None:
    """List all folders of the path, and keep that: an attack that is confined could not list one that has changed.

    A folder changes by any file: MLflow's store writes a journal beside itself.
    """
    importlib.util.find_spec("_of_no_package")
    for finder in sys.path_importer_cache.values():
        if isinstance(finder, FileFinder):
            finder._fill_cache = _nothing  # type: ignore[attr-defined]


def _nothing() -> None:
    pass


def _attack(wanted: AttackRequest, place: Path, known: PublicKnowledge, cases: Sequence[Case], digest: str) -> None:
    """Run one attack, confined to the transcript and to where its answer goes, and leave that answer."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(place)
    confine(_readable(), [place, Path(os.devnull)])
    try:
        module, _, name = wanted.target.partition(":")
        made: Attack = getattr(import_module(module), name).model_validate(wanted.parameters)
        check([made], known)
        check_heard([made], cases)
        answered = answer(made, cases, known, digest)
        about: dict[str, Any] = {"cost": vars(answered.cost)}
        if answered.guesses:
            kind = type(answered.guesses[0])
            packed = kind.pack(answered.guesses)
            arrays = {field: np.ascontiguousarray(value) for field, value in packed.items()}
            (place / "answer.safetensors").write_bytes(save(arrays))
            about["answer"] = kind.name
    except Exception as error:
        if _is_full(error):
            raise
        about = {"error": f"{type(error).__name__}: {error}"}
    _leave(place / "answer.json", about)


def _readable() -> list[Path]:
    """The transcript, the interpreter and what can be imported: packages and modules, not the folders around them."""
    places = [Path.cwd(), *map(Path, (sys.prefix, sys.base_prefix, sys.exec_prefix, *_SYSTEM, *_COUNTS))]
    places.append(Path("/proc") / str(os.getpid()))
    installed = [place.resolve() for place in places]
    for entry in map(Path, sys.path):
        if any(entry.resolve().is_relative_to(place) for place in installed):
            continue
        inside = entry.iterdir() if entry.is_dir() else [entry]
        places += [path for path in inside if path.suffix in (".py", ".so", ".zip", ".dist-info", ".egg-info")]
        places += [path.parent for path in (entry.glob("*/__init__.py") if entry.is_dir() else [])]
    ours = [module.__path__ for name, module in list(sys.modules.items()) if name.count(".") == 1 and _is_ours(name)]
    return [*places, *(Path(path) for paths in ours for path in paths)]


def _is_ours(name: str) -> bool:
    return name.startswith("palimpsest.") and hasattr(sys.modules[name], "__path__")


def _forked(work: Callable[[], None]) -> int:
    """Do some work in a process of its own, which ends with this one."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        if sys.platform.startswith("linux"):
            ctypes.CDLL(None).prctl(_DEATH, signal.SIGKILL, 0, 0, 0)
        work()
        os._exit(0)
    except BaseException as error:
        if _is_full(error):
            os._exit(_FULL)
        print(f"palimpsest.attacks: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def _is_full(error: BaseException) -> bool:
    """Whether there is no room for an answer."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _wait(child: int, seconds: float, hangs_up: bool = False) -> str:
    """Wait for a process; return how it ended, empty where all went well, ``late`` where its time was up.

    Args:
        child: its id.
        seconds: its time.
        hangs_up: whether its time is up when nobody is left who sends requests.
    """
    end, requests = time.monotonic() + seconds, select.poll()
    if hangs_up:
        requests.register(0, 0)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return "" if code == 0 else signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if time.monotonic() > end or requests.poll(0):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "late"
        time.sleep(_LOOK)


def _leave(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))


if __name__ == "__main__":
    main()
