"""Whoever tries seeds repeats a run that has none but them, and comes to nothing where the run has a secret."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.experiment.runner import prepare, run, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.planning.requests import draw_requests
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.scenario.load import Scenario, load_scenario, scenario_from_dict
from palimpsest.simulator.scenario.secret import VARIABLE
from palimpsest.simulator.world.data.build import build_population
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.protocols.transcript import Transcript
from palimpsest.simulator.world.seeding import generator
from tests.support.scenarios import small_scenario, untracked
from tests.support.stores import new_store

TRIED = 300
SEED = 217
SECRET = "f00dcafe-not-to-be-found"
FEATURES = {"kind": "random-fourier", "dimension": 32, "bandwidth": "median"}
Section = dict[str, Any]


def scenario(secret: str = "", **changes: Any) -> Scenario:
    """A federation with random features; its first model and these features are public."""
    base: Section = {
        "seeds": [SEED],
        "model": {"kind": "softmax", "features": FEATURES},
        "privacy": {"secret": secret},
        "unlearning": [{"method": "retrain", "coupling": "same-order"}],
    }
    return small_scenario(**base | changes)


def done(wanted: Scenario, place: Path) -> RunDirectory:
    """A finished run that nothing tracked."""
    place.mkdir()
    simulate(wanted, prepare(wanted), place, SerialGrid(1))
    return RunDirectory(place)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    place = tmp_path_factory.mktemp("runs")
    return {name: done(scenario(secret), place / name) for name, secret in {"open": "", "secret": SECRET}.items()}


def arm_of(directory: RunDirectory) -> str:
    return str(json.loads(directory.results_file.read_text())["arms"][0]["arm"])


def heard(directory: RunDirectory) -> tuple[Transcript, PublicKnowledge]:
    place = directory.path / "transcripts" / arm_of(directory)
    return Transcript.open(place), PublicKnowledge.open(place / "knowledge.json")


def seeds_of_the_first_model(directory: RunDirectory) -> list[int]:
    """Those that draw release 0."""
    transcript, known = heard(directory)
    first, model = transcript.load(0), known.model
    drawn = {seed: model.init(generator(seed, "init")) for seed in range(TRIED)}
    return [seed for seed, params in drawn.items() if all(np.array_equal(params[name], first[name]) for name in first)]


def seeds_of_the_features(directory: RunDirectory) -> list[int]:
    """Those that draw the features' public seed."""
    _, known = heard(directory)
    assert known.facts.model.features is not None
    public = known.facts.model.features.seed
    return [seed for seed in range(TRIED) if int(generator(seed, "features").integers(2**31)) == public]


def deleted(directory: RunDirectory) -> np.ndarray[Any, Any]:
    return load_file(directory.path / "truth" / f"{arm_of(directory)}.safetensors")["x"]


def redrawn(seed: int) -> np.ndarray[Any, Any]:
    """The deleted records, by whoever has the scenario, its source and the seed."""
    wanted = scenario()
    population = build_population(wanted.data, seed)
    requests = draw_requests(wanted.deletion, population, wanted.training.rounds, seed)
    rows = [population.rows(client, records) for r in requests for client, records in r.forget.items()]
    return population.take(np.concatenate(rows))[0]


def test_a_seed_is_found_by_trying_and_gives_everything_away(runs: dict[str, RunDirectory]) -> None:
    assert seeds_of_the_first_model(runs["open"]) == [SEED]
    assert seeds_of_the_features(runs["open"]) == [SEED]
    assert np.array_equal(redrawn(SEED), deleted(runs["open"]))


def test_under_a_secret_no_seed_fits_and_the_true_one_leads_nowhere(runs: dict[str, RunDirectory]) -> None:
    assert seeds_of_the_first_model(runs["secret"]) == []
    assert seeds_of_the_features(runs["secret"]) == []
    drawn, truth = redrawn(SEED), deleted(runs["secret"])
    assert not any(np.array_equal(row, other) for row in drawn for other in truth)
    of_clients = [build_population(scenario().data, seed).sizes for seed in range(5)]
    assert not any(np.array_equal(sizes, prepare(scenario(SECRET))[0].population.sizes) for sizes in of_clients)


def test_equal_secrets_give_equal_digests_and_others_others(runs: dict[str, RunDirectory], tmp_path: Path) -> None:
    again, other = done(scenario(SECRET), tmp_path / "again"), done(scenario(SECRET + "!"), tmp_path / "other")
    digests = [heard(directory)[0].digest() for directory in (runs["open"], runs["secret"], again, other)]
    assert digests[1] == digests[2]
    assert len({digests[0], digests[1], digests[3]}) == 3


def test_two_random_secrets_differ() -> None:
    first, second = scenario("random"), scenario("random")
    assert first.entropy(0) != second.entropy(0)
    assert first.privacy.secret == "random"


@pytest.mark.slow
@pytest.mark.mlflow
@pytest.mark.parametrize("more", [{"source": "digits"}, {"source": "synthetic:mnist-like", "records_per_client": 20}])
def test_the_secret_is_written_nowhere(
    more: Section, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    uri = new_store(tmp_path)
    data = {"clients": 6, "public_fraction": 0.4} | more
    wanted = scenario(SECRET, data=data, tracking={"uri": uri}, model={"kind": "softmax"})
    result = run(wanted, tmp_path / "out")
    assert result.tracked.ok, result.tracked.message
    assert result.results.secret == "given"
    entropy = wanted.entropy(SEED)
    told = [SECRET, SECRET.encode().hex(), str(entropy), f"{entropy:x}", str(entropy % 2**128), f"{entropy % 2**128:x}"]
    bits = [(entropy % 2**128).to_bytes(16, order) for order in ("little", "big")]  # type: ignore[arg-type]
    needles = [text.encode() for text in told] + bits
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"scenario.toml", "provenance.json", "results.json", "events.jsonl", "mlflow.db"} <= {p.name for p in files}
    for path in files:
        content = path.read_bytes()
        assert not any(needle in content for needle in needles), path
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        logged = store.execute("select value from params where key = 'privacy.secret'").fetchall()
    assert logged == [("given",)]
    out, err = capfd.readouterr()
    assert SECRET not in out + err
    assert SECRET not in repr(wanted) + repr(prepare(wanted))
    assert str(entropy) not in repr(prepare(wanted))


@pytest.mark.slow
@pytest.mark.mlflow
def test_a_run_goes_on_under_its_own_secret_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = untracked(scenario(SECRET, tracking={"uri": new_store(tmp_path)}), tmp_path / "run").path
    before = heard(RunDirectory(broken))[0].digest()
    for path in (broken / "results.json", *broken.glob("arms/*.json")):
        path.unlink()

    def resumed() -> Any:
        return CliRunner().invoke(cli.app, ["resume", str(broken)])

    monkeypatch.delenv(VARIABLE, raising=False)
    missing = resumed()
    assert (missing.exit_code, VARIABLE in missing.stderr) == (2, True)
    monkeypatch.setenv(VARIABLE, "quite another secret")
    other = resumed()
    assert other.exit_code == 2
    assert "was run under another secret than the one in" in other.stderr
    for said in (missing.stderr, other.stderr):
        assert said.startswith("error: ")
        assert said.count("\n") == 1
    monkeypatch.setenv(VARIABLE, SECRET)
    same = resumed()
    assert same.exit_code == 0, same.output
    assert heard(RunDirectory(broken))[0].digest() == before


@pytest.mark.slow
def test_a_random_secret_is_gone_with_the_run(tmp_path: Path) -> None:
    directory = untracked(scenario("random"), tmp_path / "out").path
    for command in (["resume", str(directory)], ["score", str(directory), "--attack", "raw-difference"]):
        said = CliRunner().invoke(cli.app, command)
        assert said.exit_code == 2
        assert "random secret, which is kept nowhere" in said.stderr


@pytest.mark.parametrize(
    "privacy, expected",
    [
        ({"secret": "short"}, ["privacy.secret has 5 characters", "16 or more"]),
        ({"secret": 12345678901234567}, ["privacy.secret must be text", "'random'"]),
        ({"secret": "given"}, [f"environment variable {VARIABLE} is not set"]),
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(
    privacy: Section, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ValueError, match="secret") as refused:
        scenario_from_dict({"name": "x", "privacy": privacy})
    assert all(part in str(refused.value) for part in expected)
    assert not any(value in str(refused.value) for value in ("short", "12345678901234567"))


def test_a_secret_that_the_adversary_is_told_is_refused() -> None:
    with pytest.raises(ValueError, match="a secret that the adversary is told is none"):
        scenario(SECRET, adversary={"knows": ["seeds"]})


def test_sites_need_a_secret_that_the_run_has_too(tmp_path: Path) -> None:
    options = ["--out", str(tmp_path / "sites"), "--set", "privacy.secret=random", "--set", "runtime.sites=2"]
    said = CliRunner().invoke(cli.app, ["split", *options])
    assert said.exit_code == 2
    assert "take 'given'" in said.stderr


def test_a_scenario_says_where_its_secret_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text(f'name = "mine"\n[privacy]\nsecret = "{SECRET}"\n')
    written = load_scenario(str(tmp_path / "mine.toml"))
    monkeypatch.setenv(VARIABLE, SECRET)
    given = load_scenario(None, ["privacy.secret=given"])
    assert written.privacy.secret == given.privacy.secret == "given"
    assert written.entropy(3) == given.entropy(3)
