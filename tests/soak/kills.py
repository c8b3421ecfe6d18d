"""Runs that are interrupted, killed, or lose a process: what each should say, leave and tell, and that it resumes.

    python -m tests.soak.kills [COUNT [BESIDE [SEED]]]

Draws COUNT blows (100) from all kinds, BESIDE (1) of them at once, and prints a line for each that did not end as it
should, and the counts.
"""

import contextlib
import itertools
import json
import random
import signal
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import tomli_w
from mlflow import MlflowClient

from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.scenario.load import scenario_from_dict
from tests.soak.supervised import Ended, Supervised
from tests.support.scenarios import untracked
from tests.support.stores import new_store, runs_of, tracking_server

COUNT = 100
SCENARIO = """
name = "soak"
data = { source = "digits", clients = 6, public_fraction = 0.4 }
training = { rounds = 10, clients_per_round = 6, batch_size = 8, local_epochs = 2 }
deletion = { requests = 3 }
unlearning = [{ method = "retrain" }, { method = "none" }]
attack = [{ kind = "hrec" }, { kind = "unmix", components = 20, exchanges = 2, refinements = 1, iterations = 100 }]
runtime = { hosts = 2 }
"""
BACKENDS = ("serial", "ray")


def _has(pattern: str) -> Callable[[Path, Supervised], bool]:
    return lambda out, run: any(out.glob(pattern))


def _trains(out: Path, run: Supervised) -> bool:
    log = out / "events.jsonl"
    return log.is_file() and "RoundDone" in log.read_text()


STAGES: Mapping[str, Callable[[Path, Supervised], bool]] = {
    "start": _has("plan.json"),
    "training": _trains,
    "attacks": _has("transcripts/*/knowledge.json"),
    "figures": _has("results.json"),
    "upload": lambda out, run: "Drawing figures" in run.said,
}
"""By name: whether a run has reached it."""


@dataclass(frozen=True)
class Blow:
    """What happens to a run.

    Attributes:
        number: of a signal to the driver; 0: none.
        times: that it comes.
        group: whether it goes to the driver's process group, as from a terminal.
        victim: word in the name or the arguments of the processes that are killed instead.
        codes: that may follow.
        on: backends where there is something to hit.
    """

    number: int = 0
    times: int = 1
    group: bool = False
    victim: str = ""
    codes: tuple[int, ...] = ()
    on: tuple[str, ...] = BACKENDS

    def strike(self, run: Supervised) -> None:
        """Do it."""
        if self.victim:
            run.kill(self.victim)
        else:
            run.send(self.number, self.times, self.group)


_NAMED = {number.name: number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
BLOWS: Mapping[str, Blow] = {
    **{name: Blow(number, codes=(128 + number,)) for name, number in _NAMED.items()},
    **{f"{name} twice": Blow(number, times=2, codes=(128 + number,)) for name, number in _NAMED.items()},
    **{f"{name} to all": Blow(n, group=True, codes=(128 + n,)) for name, n in _NAMED.items() if name != "SIGTERM"},
    "driver": Blow(signal.SIGKILL, codes=(128 + signal.SIGKILL,)),
    "host": Blow(victim="ray::RayHost", codes=(0,), on=("ray",)),
    "raylet": Blow(victim="raylet/raylet", codes=(0, 1), on=("ray",)),
    "GCS": Blow(victim="gcs/gcs_server", codes=(0, 1), on=("ray",)),
    "attacks' process": Blow(victim="palimpsest.attacks", codes=(0, 1)),
    "follower": Blow(victim="palimpsest.simulator.tracking", codes=(0,)),
    "tracking server": Blow(codes=(0,)),
}
"""By name. Where nothing waits any more for what was killed, the run ends as if nothing had happened."""


@dataclass(frozen=True)
class Case:
    """One blow to one run.

    Attributes:
        backend: ``serial`` or ``ray``.
        command: ``run``, or ``resume`` of one whose driver was killed in its training.
        stage, blow: names.
        delay: seconds from the stage's beginning to the blow.
    """

    backend: str
    command: str
    stage: str
    blow: str
    delay: float

    def __str__(self) -> str:
        return f"{self.backend}, {self.command}, {self.stage} + {self.delay:.2f} s, {self.blow}"


def drawn(count: int, seed: int = 0) -> list[Case]:
    """So many cases; every combination comes before one comes again."""
    draw = random.Random(seed)
    kinds = [
        (backend, command, stage, name)
        for backend, command, stage, name in itertools.product(BACKENDS, ("run", "resume"), STAGES, BLOWS)
        if backend in BLOWS[name].on
    ]
    draw.shuffle(kinds)
    return [Case(*kind, draw.uniform(0.0, 1.5)) for kind in itertools.islice(itertools.cycle(kinds), count)]


def faults(case: Case, resumed: bool = True) -> list[str]:
    """What is not as it should be when the blow falls, and when the run is resumed after it; empty: nothing."""
    with tempfile.TemporaryDirectory(prefix="soak") as name:
        place = Path(name)
        with _store(case, place) as (store, kill_server):
            _write(place, case.backend, store)
            if case.command == "resume":
                _struck(place, "run", "training", BLOWS["driver"].strike)
            strike = BLOWS[case.blow].strike if case.blow != "tracking server" else lambda run: kill_server()
            ended = _struck(place, case.command, case.stage, strike, case.delay)
            if ended is None:
                return []  # it was over before
            found = [*_faults_of_end(case, ended, place / "run")]
            if case.blow != "tracking server":
                found += _faults_of_status(case, store, place / "run", ended)
        return [*found, *(_faults_of_resume(place) if resumed else ())]


def _struck(
    place: Path, command: str, stage: str, strike: Callable[[Supervised], None], delay: float = 0.0
) -> Ended | None:
    """Start a command, strike at a stage, and wait for its end; None where it was over before it was there."""
    out = place / "run"
    arguments = ["run", str(place / "soak.toml"), "--out", str(out)] if command == "run" else ["resume", str(out)]
    with Supervised(arguments, place) as run:
        if not run.wait_for(partial(STAGES[stage], out)):
            return None
        run.pause(delay)
        if run.process.poll() is not None:
            return None
        strike(run)
        return run.ended()


def _faults_of_end(case: Case, ended: Ended, out: Path) -> Iterator[str]:
    """Exit code, sentence and what is left running."""
    codes, finished = BLOWS[case.blow].codes, (out / "results.json").is_file()
    if ended.code not in codes and not (ended.code == 0 and finished):
        yield f"exit code {ended.code}, not one of {codes}: {ended.said[-300:]!r}"
    if ended.is_dump:
        yield f"a dump: {ended.said[-600:]!r}"
    if ended.left:
        yield f"left running: {ended.left}"
    struck_dead = case.blow == "driver"
    begins = case.stage == "start" and ended.last.startswith("ended by ")  # while it is still importing
    if ended.code and not struck_dead and not begins and "palimpsest resume" not in ended.last:
        yield f"the last line says nothing of what to do: {ended.last!r}"


def _faults_of_status(case: Case, store: str, out: Path, ended: Ended) -> Iterator[str]:
    """Whether MLflow was told how the run ended."""
    if case.blow == "follower" or not (out / "tracking.json").is_file():
        return
    known = {run.info.status for run in runs_of(MlflowClient(store), out).values()}
    wanted = {"KILLED", "FINISHED", *(["FAILED"] if ended.code == 1 else [])}
    if not known <= wanted:
        yield f"MLflow says {known}"


def _faults_of_resume(place: Path) -> Iterator[str]:
    """Whether the run ends with the digests of an unbroken one."""
    with Supervised(["resume", str(place / "run")], place) as run:
        ended = run.ended()
    if ended.code:
        yield f"resume ended with {ended.code}: {ended.said[-300:]!r}"
        return
    if (digests := digests_of(place / "run")) != unbroken():
        yield f"other digests after resume: {digests}"


def digests_of(out: Path) -> dict[str, str]:
    """Of a run's arms."""
    return {arm.arm: arm.transcript_digest for arm in RunFiles.open(out).arms}


@cache
def unbroken() -> dict[str, str]:
    """The digests of a run that nothing happened to: processes, attacks and uploads do not change them."""
    with tempfile.TemporaryDirectory(prefix="soak") as name:
        bare = tomllib.loads(SCENARIO) | {"attack": [{"kind": "class-score"}], "evaluation": {"retrainings": 0}}
        untracked(scenario_from_dict(bare), Path(name) / "run")
        return digests_of(Path(name) / "run")


def _write(place: Path, backend: str, store: str) -> None:
    scenario = tomllib.loads(SCENARIO)
    scenario["runtime"]["backend"] = backend
    scenario["tracking"] = {"uri": store}
    (place / "soak.toml").write_text(tomli_w.dumps(scenario))


@contextlib.contextmanager
def _store(case: Case, place: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A store, and what ends its server; one without a server where none is to be ended."""
    store = new_store(place)
    if case.blow != "tracking server":
        yield store, lambda: None
        return
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(tracking_server(place)), stack.close


def main(arguments: Sequence[str]) -> int:
    """Strike; return how many did not end as they should."""
    count, beside, seed = (*map(int, arguments), *(COUNT, 1, 0)[len(arguments) :])
    cases, wrong = drawn(count, seed), 0
    kinds: Counter[str] = Counter()
    with ProcessPoolExecutor(beside) as pool:
        for case, found in zip(cases, pool.map(faults, cases), strict=True):
            kinds[case.blow] += 1
            wrong += bool(found)
            print(json.dumps({"case": str(case), "faults": found}), flush=True)
    print(f"{count - wrong} of {count} ended as they should: {dict(kinds)}")
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
