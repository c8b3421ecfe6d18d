"""The attacks' process: what an attack that looks around there finds, and what one that breaks down costs others."""

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from palimpsest.attacks import confinement
from palimpsest.attacks.average import Average
from palimpsest.attacks.hrec import Hrec
from palimpsest.attacks.session import Answer, attack_transcript
from palimpsest.simulator.experiment import attackers
from palimpsest.simulator.experiment.attackers import run_attacks
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.testing.transcripts import ascending, digits, write
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.protocols.attack import Attack
from palimpsest.simulator.world.records import Reconstruction

PLUGIN = '''
import gc, os, sys, time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from palimpsest.attacks.average import guesses
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.specs import Frozen


class Base(Frozen):
    card: ClassVar[Card] = Card(summary="for a test", promises="reconstruction")
    secret: str = ""

    def run(self, cases, knowledge, rng):
        notes = {name: float(value) for name, value in self.look(cases, rng).items()}
        return [replace(guess, notes=notes) for guess in guesses(cases, knowledge).values()]


class Spy(Base):
    """Uses whatever it is handed."""

    kind: Literal["spy"] = "spy"

    def look(self, cases, rng):
        text, frame = [repr(rng.bit_generator.seed_seq.entropy), os.getcwd(), *sys.argv], sys._getframe()
        while frame is not None:
            held = (*frame.f_locals.values(), *frame.f_globals.values())
            text += [repr(value) for value in held if value is not self]
            frame = frame.f_back
        text += [f"{name}={value}" for name, value in os.environ.items()]
        text += [str(path) for path in Path.cwd().rglob("*")]
        text += [repr(value) for value in gc.get_objects() if isinstance(value, (str, dict))]
        links = [Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        held = [os.readlink(link) for link in links if link.is_symlink()]
        times = {path.stat().st_mtime_ns for path in Path.cwd().rglob("*")}
        secret = "-".join(("the", "secret"))  # in pieces: this source is in memory too
        return {
            "told": sum(secret in part for part in text),
            "held": sum(not name.startswith(("/dev/null", "/proc")) for name in held),
            "times": len(times),
        }


class Loads(Base):
    """Tells what its process has loaded before it was forked, and how often it looks for garbage."""

    kind: Literal["loads"] = "loads"

    def look(self, cases, rng):
        return {"compiler": "torch._dynamo" in sys.modules, "threshold": gc.get_threshold()[0]}


class Thief(Base):
    """Goes for what it knows to be there."""

    kind: Literal["thief"] = "thief"

    def look(self, cases, rng):
        return {
            "truth": self.tried(lambda: Path(self.secret).read_bytes()),
            "parent": self.tried(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes()),
            "written": self.tried(lambda: Path(self.secret).with_name("more").write_text("x")),
            "transcript": self.tried(lambda: Path("releases.jsonl").read_bytes()),
        }

    def tried(self, act):
        try:
            act()
        except OSError:
            return 0.0
        return 1.0


class Crash(Base):
    kind: Literal["crash"] = "crash"

    def look(self, cases, rng):
        os.abort()


class Fault(Base):
    kind: Literal["fault"] = "fault"

    def look(self, cases, rng):
        raise KeyError("nothing there")


class Slow(Base):
    kind: Literal["slow"] = "slow"

    def look(self, cases, rng):
        time.sleep(60)
        return {}
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of somebody else's."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "plugged_in_attacks.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    import plugged_in_attacks  # type: ignore[import-not-found]

    return plugged_in_attacks


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    data = digits(private=60, public=80)
    spec = data.spec("softmax", 1.0)
    place = tmp_path / "run-of-the-secret" / "transcripts" / "arm"
    write(place, data.knowledge(spec, "identity", 0.1), ascending(data, spec, [[0], [1, 2]], 0.1))
    return place


def notes_of(answer: Answer) -> dict[str, float]:
    (first, *_) = answer.guesses
    assert isinstance(first, Reconstruction)
    return dict(first.notes)


def test_answers_are_those_of_the_session(transcript: Path) -> None:
    answers, failures = run_attacks(transcript, [Hrec(), Average()])
    assert failures == {}
    with one_thread():
        here = attack_transcript(transcript, [Hrec(), Average()])
    for kind, answer in here.items():
        for ours, theirs in zip(answer.guesses, answers[kind].guesses, strict=True):
            assert vars(ours).keys() == vars(theirs).keys()
            assert np.array_equal(ours.x, theirs.x)  # type: ignore[attr-defined]
        assert answers[kind].cost.seconds > 0


def test_an_attack_that_uses_all_that_it_is_handed_finds_nothing(
    plugin: Any, transcript: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCENARIO", "the-secret")
    with (transcript.parent / "open-the-secret").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        answers, failures = run_attacks(transcript, [plugin.Spy()])
    assert failures == {}
    assert notes_of(answers["spy"]) == {"told": 0, "held": 0, "times": 1}


def test_what_a_networks_gradient_needs_is_loaded_before_attacks_are_forked(plugin: Any, tmp_path: Path) -> None:
    """It takes a second, which every attack would spend anew; who attacks a linear model does without."""
    data, loaded = digits(private=60, public=80), {}
    for kind in ("softmax", "mlp"):
        spec = data.spec(kind, 1.0)
        write(tmp_path / kind, data.knowledge(spec, "identity", 0.1), ascending(data, spec, [[0]], 0.1))
        attackers._of_this_process.cache_clear()  # a new process, which has loaded nothing for another model
        answers, failures = run_attacks(tmp_path / kind, [plugin.Loads()])
        assert failures == {}
        loaded[kind] = notes_of(answers["loads"])
    assert loaded == {"softmax": {"compiler": 0, "threshold": 10_000}, "mlp": {"compiler": 1, "threshold": 10_000}}


def test_a_confined_attack_reaches_no_file_but_the_transcripts(plugin: Any, transcript: Path) -> None:
    if not confinement.available():
        assert "no Landlock" in attackers.said_of_confinement()
        pytest.skip("this kernel has no Landlock")
    assert attackers.said_of_confinement() == ""
    truth = transcript.parents[1] / "truth"
    truth.write_text("the records")
    answers, failures = run_attacks(transcript, [plugin.Thief(secret=str(truth))])
    assert failures == {}
    assert notes_of(answers["thief"]) == {"truth": 0, "parent": 0, "written": 0, "transcript": 1}
    assert not truth.with_name("more").exists()


def test_an_attack_is_found_in_a_folder_that_changes_meanwhile(plugin: Any, transcript: Path) -> None:
    """As by the journal of a store that lies beside it: who is confined could not list the folder again."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            file = Path(plugin.__file__).with_name("journal")
            file.touch()
            file.unlink()

    writing = threading.Thread(target=write)
    writing.start()
    try:
        found = [run_attacks(transcript, [plugin.Loads()]) for _ in range(3)]
    finally:
        stop.set()
        writing.join()
    assert [(list(answers), failures) for answers, failures in found] == [(["loads"], {})] * 3


@pytest.mark.parametrize(
    "kind, said",
    [
        ("Crash", "its process ended with SIGABRT"),
        ("Fault", "KeyError: 'nothing there'"),
        ("Slow", "its process took longer than the 2 s that it may"),
    ],
)
def test_an_attack_that_breaks_down_does_so_alone(plugin: Any, transcript: Path, kind: str, said: str) -> None:
    broken: Attack = getattr(plugin, kind)()
    attacks: Sequence[Attack] = [broken, Average()]
    began = time.monotonic()
    answers, failures = run_attacks(transcript, attacks, seconds=2.0)
    assert failures == {broken.kind: said}
    assert list(answers) == ["average"]
    assert time.monotonic() - began < 30


def test_attacks_work_while_something_else_is_done(plugin: Any, transcript: Path) -> None:
    seen: list[int] = []

    def look() -> None:
        end = time.monotonic() + 20
        while not seen and time.monotonic() < end:
            seen.extend(child.pid for child in at_work().children(recursive=True))

    answers, failures = run_attacks(transcript, [plugin.Slow(), Average()], seconds=2.0, meanwhile=look)
    assert seen
    assert list(answers) == ["average"] and list(failures) == ["slow"]


@pytest.mark.parametrize("fault", [ValueError("of the scoring"), KeyboardInterrupt()])
def test_who_stops_waiting_gets_no_reply_to_an_earlier_request(
    plugin: Any, transcript: Path, fault: BaseException
) -> None:
    left: list[psutil.Process] = []

    def stop() -> None:
        left.append(at_work())
        raise fault

    with pytest.raises(type(fault)):
        run_attacks(transcript, [plugin.Slow()], meanwhile=stop)
    answers, failures = run_attacks(transcript, [Average()])
    assert (list(answers), failures) == (["average"], {})
    assert not left[0].is_running()


def at_work() -> psutil.Process:
    """The attacks' process of this one."""
    child = attackers._process().start()
    return psutil.Process(child.pid)


def test_a_transcript_that_cannot_be_read_is_no_attacks_failure(transcript: Path) -> None:
    (transcript / "releases" / "000001.safetensors").write_bytes(b"")
    with pytest.raises(RunFailure, match=r"the attacks cannot read .*000001"):
        run_attacks(transcript, [Average()])


def test_neither_is_one_whose_models_package_is_not_installed(transcript: Path) -> None:
    known = json.loads((transcript / "knowledge.json").read_text())
    known["model"]["kind"] = "of-another-package"
    (transcript / "knowledge.json").write_text(json.dumps(known))
    with pytest.raises(RunFailure, match=r"the attacks cannot read .*there is no model 'of-another-package' here"):
        run_attacks(transcript, [Average()])
