"""What does not fit the machine is refused with the key that is too large, in moments, before anything is written."""

import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.planning.cautions import of_magnitudes
from palimpsest.simulator.planning.limits import check, kept_updates, memory
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.planning.setup import setup_of
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import load_scenario, scenario_from_dict, shipped
from palimpsest.simulator.world.data.build import build_population
from palimpsest.simulator.world.models.kinds import CARDS
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.models.size import bytes_of
from palimpsest.simulator.world.specs import FeatureSpec, ModelOptions, ModelSpec
from tests.support.scenarios import small_scenario

BASE = """
name = "large"
data = { source = "digits", clients = 6 }
training = { clients_per_round = 3 }
deletion = { requests = 2 }
unlearning = [{ method = "retrain" }]
"""
TOO_LARGE = {
    "model.hidden": ["model.kind=mlp", "model.hidden=1000000000"],
    "model.hidden = 1000000000000000000": ["model.kind=mlp", "model.hidden=1000000000000000000"],
    "model.channels": ["model.kind=resnet18", "model.channels=1000000"],
    "model.features.dimension": ["model.features.dimension=1000000000"],
    "training.rounds": ["training.rounds=1000000000"],
    "training.local_epochs": ["training.local_epochs=1000000000"],
    "training.local_steps": ["training.local_steps=1000000000"],
    "training.start_epochs": ["training.start=public", "training.start_epochs=1000000000"],
    "runtime.hosts": ["runtime.hosts=100000"],
    "evaluation.retrainings": ["evaluation.retrainings=1000000000"],
    "data.clients": ["data.source=synthetic:mnist-like", "data.clients=1000000000000"],
}


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """A test that builds what it should refuse fails by itself, and does not take the machine with it."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 4 * 10**9, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("key", TOO_LARGE)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_it_is_refused_with_its_key(key: str, command: str, tmp_path: Path) -> None:
    out, began = tmp_path / "run", time.process_time()
    (tmp_path / "large.toml").write_text(BASE)
    changes = [part for change in TOO_LARGE[key] for part in ("--set", change)]
    where = ["--out", str(out)] if command == "run" else []
    done = CliRunner().invoke(cli.app, [command, str(tmp_path / "large.toml"), *changes, *where])
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith(f"error: {key}") and done.stderr.count("\n") == 1
    assert "give less" in done.stderr
    assert not out.exists()
    assert time.process_time() - began < 60


def test_what_takes_days_runs_where_the_user_says_so() -> None:
    scenario = scenario_from_dict({"name": "x", "data": {"source": "digits"}, "evaluation": {"retrainings": 10**9}})
    [line] = check(plan(scenario), scenario, yes=True)
    assert line.startswith("warning   evaluation.retrainings = 1000000000: clients step through")


@pytest.mark.parametrize("kind", sorted(kind for kind in CARDS if kind != "text-linear"))
def test_a_models_size_is_known_before_it_is_built(kind: str) -> None:
    options = ModelOptions(CARDS[kind].options().model_dump())
    spec = ModelSpec(
        kind=kind, task=CARDS[kind].tasks[0], shape=(1, 32, 32), outputs=10, regularisation=0.0, options=options
    )
    assert bytes_of(spec) == model_of(spec).bytes


def test_fixed_features_count_too() -> None:
    features = FeatureSpec(dimension=100, bandwidth=1.0, seed=0)
    spec = ModelSpec(
        kind="softmax", task="classification", shape=(5,), outputs=3, regularisation=0.0, features=features
    )
    assert bytes_of(spec) == model_of(spec).bytes + 100 * 6 * 4


@pytest.mark.parametrize("name", ["mnist-deletions", "million-clients"])
def test_shipped_scenarios_fit(name: str) -> None:
    assert name in shipped()
    scenario = load_scenario(name)
    assert check(plan(scenario), scenario) == []


@pytest.mark.parametrize(
    ("runtime", "arms", "at_work"),
    [({"backend": "serial"}, 3, 1), ({"hosts": 3}, 3, 3), ({"hosts": 64}, 3, 1), ({"hosts": 1}, 3, 1)],
)
def test_what_attacks_and_scores_hold_of_the_public_sample_is_counted(
    runtime: dict[str, object], arms: int, at_work: int
) -> None:
    """In float64, where the sample is read and where answers are judged, once for every arm that is at work.

    Hosts do arms by themselves where there are enough for all.
    """
    needed = []
    for fraction in (0.1, 0.3):
        data, ways = {"source": "mnist5k", "public_fraction": fraction}, ("retrain", "ascent", "none")
        unlearning = [{"method": method} for method in ways[:arms]]
        scenario = scenario_from_dict({"name": "x", "data": data, "unlearning": unlearning, "runtime": runtime})
        [prefix] = plan(scenario).prefixes
        needed.append(memory(prefix, build_population(prefix.setting.data, prefix.entropy), scenario))
    float64 = 8 * 1000 * 784
    assert 6 * at_work * float64 < needed[1] - needed[0] < 12 * at_work * float64


def test_batches_are_not_padded_beyond_what_clients_have() -> None:
    """And those that small ones were padded to are as they ever were: shapes decide about the last bits."""
    for given, kept in ((10, 10), (1000, 1000), (1024, 1024), (10**6, 1024), (10**12, 1024)):
        scenario = scenario_from_dict(
            {"name": "x", "data": {"source": "digits", "clients": 6}, "training": {"batch_size": given}}
        )
        [setting] = scenario.settings()
        population = build_population(setting.data, 0)
        assert int(population.sizes.max()) < 1024
        assert setup_of(setting, population, 0).plan.recipe.batch_size == kept


def refusals(changes: list[str], place: Path) -> list[str]:
    """What ``plan`` and ``run`` say of ``BASE`` with changes that they refuse before anything starts."""
    (place / "absurd.toml").write_text(BASE)
    said = []
    for command in (["plan"], ["run", "--out", str(place / "run")]):
        given = [part for change in changes for part in ("--set", change)]
        done = CliRunner().invoke(cli.app, [command[0], str(place / "absurd.toml"), *given, *command[1:]])
        assert done.exit_code == 2, done.output
        said.append(done.stderr)
    assert not (place / "run").exists()
    return said


UNLIKELY = {
    "training.sampling.rate = 1e-09": ["training.clients_per_round=0", "training.sampling.rate=1e-9"],
    "deletion.rounds_between = 1000000000": ["deletion.rounds_between=1000000000"],
    "steps of unlearning 'ascent' = 1000000000": ['unlearning=[{method="ascent",steps=1000000000}]'],
}


@pytest.mark.parametrize("said", UNLIKELY)
def test_what_trains_nothing_or_never_ends_is_refused(said: str, tmp_path: Path) -> None:
    for error in refusals(UNLIKELY[said], tmp_path):
        assert error.startswith(f"error: {said}") and "--yes" in error and error.count("\n") == 1


BEYOND = {
    "training.learning_rate = 1e+300": ["training.learning_rate=1e300"],
    "training.learning_rate = 1e+39": ["training.learning_rate=1e39"],
    "learning_rate of unlearning 'ascent' = 1e+60": ['unlearning=[{method="ascent",learning_rate=1e60}]'],
    "model.l2 = 1e+40": ["model.l2=1e40"],
}


@pytest.mark.parametrize("said", BEYOND)
def test_numbers_that_no_parameter_holds_are_refused_before_anything_starts(said: str, tmp_path: Path) -> None:
    for error in refusals(BEYOND[said], tmp_path):
        assert error.startswith(f"error: {said}") and error.count("\n") == 1
        assert "float32" in error and "3.4e+38" in error


@pytest.mark.parametrize(
    "changes",
    [
        {"unlearning": [{"method": "ascent", "max_distance": 1e39}]},
        {"unlearning": [{"method": "fedrecovery", "epsilon": 1e39}], "deletion": {"requests": 1, "level": "client"}},
        {"model": {"kind": "softmax", "l2": 1e39}, "training": {"algorithm": "lbfgs"}},
    ],
)
def test_caps_and_numbers_of_float64_models_may_be_larger(changes: dict[str, Any]) -> None:
    scenario = small_scenario(**changes)
    assert check(plan(scenario), scenario) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"defense": [{"kind": "batching", "size": 10**8}]},
        {"unlearning": [{"method": "federaser", "interval": 10**8}], "deletion": {"requests": 1, "level": "client"}},
        {
            "unlearning": [{"method": "newton", "max_products": 10**8}],
            "training": {"algorithm": "lbfgs", "perturbation": 1.0},
        },
        {"attack": [{"kind": "unmix", "components": 10**8}]},
    ],
)
def test_integers_that_are_no_work_may_be_large(changes: dict[str, Any]) -> None:
    scenario = small_scenario(**changes)
    assert check(plan(scenario), scenario) == []


@pytest.mark.parametrize(("rate", "updates"), [(0.05, 6), (0.25, 30), (1.0, 120)])
def test_updates_are_kept_of_as_many_clients_as_are_drawn_in_expectation(rate: float, updates: int) -> None:
    """Of six, at a rate of 0.05: 0.3 a round, neither none nor all of them."""
    scenario = small_scenario(
        training={"sampling": {"rate": rate}, "rounds": 20},
        deletion={"requests": 1, "level": "client"},
        unlearning=[{"method": "federaser"}],
    )
    [prefix] = plan(scenario).prefixes
    assert kept_updates(prefix, build_population(prefix.setting.data, 0)) == updates * 2600


def test_a_run_too_long_is_refused_however_seldom_clients_are_drawn() -> None:
    scenario = small_scenario(
        training={"sampling": {"rate": 0.05}, "rounds": 20},
        evaluation={"retrainings": 10**12},
        deletion={"requests": 1},
    )
    with pytest.raises(ScenarioError, match=r"^evaluation\.retrainings = 1000000000000: clients step through"):
        check(plan(scenario), scenario)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training": {"sampling": {"rate": 0.1}, "rounds": 5}}, ["training.sampling.rate = 0.1: of 6 clients 0.6"]),
        ({"training": {"learning_rate": 1e-12}}, ["training.learning_rate = 1e-12"]),
        ({"defense": [{"kind": "central-dp", "clip": 1e-12}]}, ["clip = 1e-12 under 'central-dp'"]),
        ({"defense": [{"kind": "obfuscation", "sigma": 1e9}]}, ["noise of deviation 1e+09 under 'obfuscation'"]),
        ({"defense": [{"kind": "central-dp", "clip": 1e3, "noise_multiplier": 1e5}]}, ["noise of deviation 1e+08"]),
        ({"defense": [{"kind": "central-dp", "clip": 0.5}]}, []),
    ],
)
def test_numbers_that_do_nothing_or_too_much_are_warned_of(changes: dict[str, Any], said: list[str]) -> None:
    lines = of_magnitudes(plan(small_scenario(**changes)), [6])
    assert len(lines) == len(said)
    assert all(line.startswith(f"warning   {begins}") for line, begins in zip(lines, said, strict=True))
