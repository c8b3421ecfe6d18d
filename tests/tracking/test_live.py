"""Runs in MLflow while they go on, and after they were stopped: real processes, real stores.

What is killed at random is killed at two moments of ten; at all ten where ``PALIMPSEST_SOAK=1``.
"""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from palimpsest.simulator.experiment.runner import Result, resume, run
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.scenario.load import dump_toml
from palimpsest.simulator.tracking import live
from palimpsest.simulator.tracking.live import Live
from palimpsest.simulator.tracking.sending import Upload
from palimpsest.simulator.tracking.upload import track
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.protocols.events import ArmDone, RequestDone, RoundDone, Silent, TrainingDone
from tests.support.fabricated import WAYS, digits, make_run
from tests.support.scenarios import small_scenario
from tests.support.stores import content, each_once, new_store, runs_of, told, tracking_server

pytestmark = pytest.mark.mlflow

FIRST, SECOND = "retrain--none--seed0", "none--none--seed0"
SEEDS = range(10 if os.environ.get("PALIMPSEST_SOAK") == "1" else 2)


class Held(Silent):
    """Holds a run at each event until MLflow shows what it should, and keeps what MLflow showed."""

    def __init__(self, store: str, directory: Path) -> None:
        self._client, self._directory = MlflowClient(store), directory
        self.seen: dict[str, dict[str, tuple[str, int]]] = {}

    def _look(self, when: str, key: str, arm: str) -> None:
        """Wait until an arm has the metric."""
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            runs = runs_of(self._client, self._directory)
            if arm in runs and key in runs[arm].data.metrics:
                break
            time.sleep(0.2)
        self.seen[when] = {
            name: (one.info.status, len(self._client.get_metric_history(one.info.run_id, key)))
            for name, one in runs.items()
        }

    def round_done(self, event: RoundDone) -> None:
        """In the middle of the training."""
        if not event.arm and event.round == 1:
            self._look("training", "training/utility", FIRST)

    def request_done(self, event: RequestDone) -> None:
        """After the first request of the first arm."""
        if event.arm == FIRST and event.request == 0:
            self._look("request", "request/utility_after", FIRST)

    def arm_done(self, event: ArmDone) -> None:
        """After the first arm."""
        if event.arm == FIRST:
            self._look("arm", "utility_cost", FIRST)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """URI of a store of its own."""
    return new_store(tmp_path)


def test_a_run_is_told_while_it_goes_on(store: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    held = Held(store, out)
    result = run(small_scenario(tracking={"uri": store}), out, held)
    assert result.tracked.ok, result.tracked.message
    assert {name: status for name, (status, _) in held.seen["training"].items()} == dict.fromkeys(
        ["", FIRST, SECOND], "RUNNING"
    )
    assert held.seen["training"][FIRST][1] == held.seen["training"][SECOND][1] == 2, "rounds 0 and 1, of both arms"
    assert held.seen["request"][FIRST] == ("RUNNING", 1)
    assert held.seen["arm"][FIRST][1] == 1, "an undefended arm needs no other one to know what it costs"
    assert held.seen["arm"][""][0] == held.seen["arm"][SECOND][0] == "RUNNING"
    found = content(store, out)
    each_once(found)
    assert {described["status"] for described in found["runs"].values()} == {"FINISHED"}
    assert [step for step, _ in found["runs"][FIRST]["points"]["request/utility_after"]] == [1, 2]
    assert [name for name, _ in found["runs"][SECOND]["data"]] == [
        f"digits ({p})" for p in ("clients", "public", "test")
    ]
    params = found["runs"][FIRST]["params"]
    assert (params["unlearning"], params["clients"], params["seed"], params["model"]) == (
        "retrain",
        "6",
        "0",
        "softmax",
    )
    assert "tables/requests.json" in found["runs"][FIRST]["files"]


class Stops(Silent):
    """Is interrupted when the training is done."""

    def training_done(self, event: TrainingDone) -> None:
        """As by Ctrl-C."""
        raise KeyboardInterrupt


def test_a_run_that_is_interrupted_or_fails_says_so_and_is_finished_by_resume(store: str, tmp_path: Path) -> None:
    out, broken = tmp_path / "run", tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        run(small_scenario(tracking={"uri": store}), out, Stops())
    _wait_until(store, out, "KILLED")
    assert told(out)["ended"] == "KILLED"
    training = {"rounds": 3, "clients_per_round": 3, "batch_size": 32, "learning_rate": 1e30}
    with pytest.raises(RunFailure):
        run(small_scenario(training=training, tracking={"uri": store}), broken)
    _wait_until(store, broken, "FAILED")
    assert resume(out).tracked.ok
    found = content(store, out)
    each_once(found)
    assert {described["status"] for described in found["runs"].values()} == {"FINISHED"}


def test_who_is_interrupted_while_waiting_for_the_upload_stops_and_the_upload_goes_on(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = make_run(tmp_path / "run", {"": digits()}, ways=(WAYS[0],), deletions=4)
    (out / "figures" / "summary.png").write_bytes(b"\x89PNG")
    monkeypatch.setattr(live, "_GOODBYE", 0.0)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), Live(out, store) as following:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            following.finish()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    _wait_until(store, out, "FINISHED")


def _wait_until(store: str, out: Path, status: str) -> None:
    """The process that follows a run outlives it by some seconds."""
    client, deadline = MlflowClient(store), time.monotonic() + 60.0
    while time.monotonic() < deadline:
        if {one.info.status for one in runs_of(client, out).values()} == {status}:
            return
        time.sleep(0.2)
    raise AssertionError({name: one.info.status for name, one in runs_of(client, out).items()})


class Outage(Silent):
    """Ends the tracking server when the training is done."""

    def __init__(self, server: "Server") -> None:
        self._server = server

    def training_done(self, event: TrainingDone) -> None:
        """Kill it."""
        self._server.stop()


class Server:
    """A tracking server that dies and comes back at the same port, with the same store."""

    def __init__(self, place: Path) -> None:
        self._place, self._port = place, 0
        self.start()

    def start(self) -> None:
        """Start it."""
        self._running = tracking_server(self._place, self._port)
        self.uri = self._running.__enter__()
        self._port = int(self.uri.rpartition(":")[2])

    def stop(self) -> None:
        """Kill it."""
        self._running.__exit__(None, None, None)


@pytest.mark.slow
def test_a_server_that_dies_in_mid_run_gets_all_of_it_once_when_it_is_back(
    unbroken: dict[str, Any], tmp_path: Path
) -> None:
    place = tmp_path / "server"
    new_store(place)
    server = Server(place)
    out = tmp_path / "run"
    result: Result = run(small_scenario(tracking={"uri": server.uri}), out, Outage(server))
    assert not result.tracked.ok
    assert "does not answer" in result.tracked.message
    server.start()
    try:
        assert track(out, server.uri).ok
        found = content(server.uri, out)
    finally:
        server.stop()
    each_once(found)
    assert found == unbroken


@pytest.fixture(scope="module")
def loaded() -> Any:
    """Starts processes that have loaded what an upload needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["palimpsest.simulator.tracking.sending", "mlflow"])
    first = context.Process(target=bool)
    first.start()
    first.join()  # it has been loaded
    return context


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.slow] if seed > 1 else []) for seed in SEEDS])
def test_an_upload_that_is_killed_is_completed_by_the_next(seed: int, store: str, tmp_path: Path, loaded: Any) -> None:
    place = make_run(tmp_path / "run", {"": digits()}, ways=(WAYS[0], WAYS[3]), deletions=8)
    (place / "figures" / "summary.png").write_bytes(b"\x89PNG")
    draw, killed = random.Random(seed), list[bool]()
    elsewhere = shutil.copytree(place, tmp_path / "copy"), new_store(tmp_path / "other")
    undisturbed = loaded.Process(target=track, args=elsewhere)
    began = time.monotonic()
    undisturbed.start()
    undisturbed.join()
    whole = time.monotonic() - began
    for _ in range(3):
        process = loaded.Process(target=track, args=(place, store))
        process.start()
        time.sleep(draw.uniform(0.0, whole))
        process.kill()
        process.join()
        killed.append(process.exitcode == -signal.SIGKILL)
    assert any(killed), "all uploads had ended before they were killed"
    assert track(place, store).ok
    found = content(store, place)
    each_once(found)
    other = tmp_path / "other" / "run"
    shutil.copytree(place, other)
    (other / "tracking.json").unlink()
    second = new_store(tmp_path / "second")
    assert track(other, second).ok
    assert found == content(second, other)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody killed; its store lies beside it."""
    place = tmp_path_factory.mktemp("unbroken")
    assert run(small_scenario(tracking={"uri": new_store(place)}), place / "run").tracked.ok
    return place / "run"


@pytest.fixture(scope="module")
def unbroken(finished: Path) -> dict[str, Any]:
    """What MLflow has of a run that nobody killed."""
    return content(f"sqlite:///{finished.parent}/mlflow.db", finished)


class Overtaken(MlflowClient):
    """A client of a store so slow that the run has done its arms by the time the first round is sent."""

    def __init__(self, store: str, finished: Path, out: Path) -> None:
        super().__init__(store)
        self._finished, self._out = finished, out

    def log_batch(self, run_id: str, metrics: Any = (), *others: Any, **named: Any) -> Any:
        """Send, and meanwhile the run goes on."""
        if any(metric.key.startswith("training/") for metric in metrics) and not (self._out / "arms").exists():
            shutil.copyfile(self._finished / "events.jsonl", self._out / "events.jsonl")
            shutil.copytree(self._finished / "arms", self._out / "arms")
        return super().log_batch(run_id, metrics, *others, **named)


def test_arms_that_are_done_while_a_round_is_sent_have_all_rounds(
    finished: Path, unbroken: dict[str, Any], store: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    left = shutil.ignore_patterns("arms", "models", "results.json", "tracking.json")
    shutil.copytree(finished, out, ignore=left)
    (out / "events.jsonl").write_text((finished / "events.jsonl").read_text().partition("\n")[0] + "\n")
    upload = Upload(RunDirectory(out), Overtaken(store, finished, out), store)
    upload.begin()
    upload.go_on()
    shutil.copyfile(finished / "results.json", out / "results.json")
    upload.end("FINISHED")
    upload.close()
    found = content(store, out)["runs"]
    assert found[FIRST]["points"] == unbroken["runs"][FIRST]["points"]
    assert found[SECOND]["points"] == unbroken["runs"][SECOND]["points"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_that_is_killed_anywhere_ends_in_mlflow_as_an_unbroken_one(
    seed: int, store: str, tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    draw = random.Random(seed)
    scenario, out = tmp_path / "small.toml", tmp_path / "run"
    scenario.write_text(dump_toml(small_scenario(tracking={"uri": store})))
    command = [sys.executable, "-m", "palimpsest.simulator", "run", str(scenario), "--out", str(out)]
    whom = draw.choice(["run", "both", "follower"])
    ended = _killed(command, out, draw.uniform(0.0, 8.0), whom)
    print(f"seed {seed}: {whom} killed, exit code {ended}; arms done: {len(list(out.glob('arms/*.json')))}")
    if ended:  # figures come after the results: a run that has these may lack those
        assert resume(out).tracked.ok
    assert track(out, store).ok
    found = content(store, out)
    each_once(found)
    assert found == unbroken


def _killed(command: list[str], out: Path, after: float, whom: str) -> int:
    """Start a run, and kill it, what follows it, or both, so many seconds after it began to write."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (out / "plan.json").is_file():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(after)
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return process.wait()
    followers = [child.pid for child in children if "palimpsest.simulator.tracking" in " ".join(child.cmdline())]
    for number in ([process.pid] if whom != "follower" else []) + (followers if whom != "run" else []):
        os.kill(number, signal.SIGKILL)
    return process.wait()
