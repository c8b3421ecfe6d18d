"""An arm that diverges is done without scores, and says what to change; the others, and all that shows them, go on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from mlflow import MlflowClient

from palimpsest.server import session
from palimpsest.server.algorithms.step import DivergedError
from palimpsest.simulator.attack_metrics.card import AnswerError
from palimpsest.simulator.cli.console import conclude
from palimpsest.simulator.experiment import assessed
from palimpsest.simulator.experiment.added_attack import score
from palimpsest.simulator.experiment.begun import new_directory
from palimpsest.simulator.experiment.result import Result
from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.figures.all import draw_all
from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles
from palimpsest.simulator.tracking.upload import track
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Params
from tests.support.scenarios import small_scenario, untracked
from tests.support.stores import new_store

ASCENT = "ascent--none--seed0"
WAYS = [{"method": "retrain"}, {"method": "ascent", "learning_rate": 1e300}, {"method": "none"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return untracked(small_scenario(unlearning=WAYS), tmp_path_factory.mktemp("diverged") / "run")


def test_unlearning_that_diverges_is_its_own_arms_outcome(run: RunDirectory) -> None:
    arms = {arm.arm: arm for arm in RunFiles.open(run.path).arms}
    assert len(arms) == 3
    lost = arms.pop(ASCENT)
    assert "lower the learning rate" in lost.diverged and lost.diverged in lost.verdict
    assert (lost.requests_made, lost.requests_completed, lost.utility, dict(lost.attacks)) == (2, 0, None, {})
    assert lost.cost.client_updates > 0  # of the step that diverged
    assert not run.arm(ASCENT).transcript.exists()
    assert all(not arm.diverged and arm.requests_completed == 2 and arm.attacks for arm in arms.values())
    events = [json.loads(line) for line in run.ledger.read_text().splitlines()]
    assert [event["event"] for event in events if event["arm"] == ASCENT][-1] == "failed"


def test_a_run_with_such_an_arm_is_finished(run: RunDirectory) -> None:
    before = run.arm(ASCENT).finished_at()
    scenario = small_scenario(unlearning=WAYS)
    simulate(scenario, prepare(scenario), run.path, SerialGrid(1))
    assert run.arm(ASCENT).finished_at() == before


def test_figures_tables_and_the_page_show_the_others_and_name_it(run: RunDirectory) -> None:
    assert draw_all(run.path)
    shown = Result.open(run.path)
    assert "1 of 3 arms has no scores" in shown.headline
    assert "lower the learning rate" in shown.to_html(run.path / "report.html").read_text()
    assert dict(zip(shown.arms["arm"], shown.arms["completed"], strict=True))[ASCENT] == 0
    assert set(shown.scores()["arm"]) == set(shown.arms["arm"]) - {ASCENT}


def test_the_command_warns_and_fails_only_where_no_arm_has_scores(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    files = RunFiles.open(run.path)
    conclude(Result(run.path, files.results))
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith(f"warning: 1 of 3 arms has no scores: {ASCENT} (the model diverged in")
    assert f"palimpsest run {run.scenario_file} --set KEY=VALUE --out NEW" in said
    lost = tuple(arm for arm in files.arms if arm.diverged)
    with pytest.raises(typer.Exit) as ended:
        conclude(Result(run.path, files.results.with_arms(lost)))
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err.startswith("error: 1 of 1 arms has no scores")


def test_mlflow_has_it_once_and_as_failed(run: RunDirectory, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    assert track(run.path, store).ok
    assert track(run.path, store).ok
    client = MlflowClient(store)
    [experiment] = [one.experiment_id for one in client.search_experiments() if one.name == "small"]
    runs = {found.info.run_name: found for found in client.search_runs([experiment])}
    assert len(runs) == 4 == len(client.search_runs([experiment]))
    lost = runs[ASCENT]
    assert (lost.info.status, lost.data.tags["outcome"]) == ("FAILED", "no scores")
    assert "success" not in lost.data.metrics and "utility" not in lost.data.metrics
    assert {one.info.status for name, one in runs.items() if name != ASCENT} == {"FINISHED"}


def test_an_attack_is_added_to_the_others(run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", new_store(tmp_path))
    scored, _ = score(run.path, {"kind": "class-score"})
    assert {arm.arm: "class-score" in arm.attacks for arm in scored.arms} == {
        "retrain--none--seed0": True,
        ASCENT: False,
        "none--none--seed0": True,
    }


@pytest.mark.parametrize(
    "defense",
    [{"kind": "central-dp", "clip": 1e300, "noise_multiplier": 1e6}, {"kind": "obfuscation", "sigma": 1e300}],
    ids=["in training", "of releases"],
)
def test_a_defense_that_diverges_costs_its_own_arms(defense: dict[str, Any], tmp_path: Path) -> None:
    scenario = small_scenario(unlearning=[{"method": "none"}], defense=[defense, {"kind": "none"}])
    directory = new_directory(scenario, tmp_path / "run")
    results = simulate(scenario, prepare(scenario), directory.path, SerialGrid(1))
    lost, kept = results.arms
    assert lost.diverged and lost.defense.kind == defense["kind"]
    assert not kept.diverged and kept.attacks


def test_models_too_large_to_be_measured_cost_what_they_cost(tmp_path: Path) -> None:
    scenario = small_scenario(unlearning=[{"method": "ascent", "learning_rate": 1e38}])
    [lost] = RunFiles.open(untracked(scenario, tmp_path / "run").path).arms
    assert "grown too large to be measured" in lost.diverged
    assert lost.cost.client_updates == 2  # one of the client who asks, in each request
    assert lost.cost.unlearning_seconds > 0


def test_what_unlearning_paid_before_it_diverged_is_in_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways, defense = [{"method": "none"}, {"method": "finetune"}], [{"kind": "central-dp", "noise_multiplier": 1.0}]
    scenario, heard = small_scenario(unlearning=ways, defense=defense), []

    def diverge_late(model: Params, where: str) -> None:
        heard.append(where)
        if heard.count("unlearning by finetune") == 3:
            raise DivergedError(f"the model diverged in {where}")

    monkeypatch.setattr(session, "check_finite", diverge_late)
    trained, lost = RunFiles.open(untracked(scenario, tmp_path / "run").path).arms
    assert lost.diverged == "the model diverged in unlearning by finetune"
    assert trained.privacy.epsilon_max is not None and lost.privacy.epsilon_max is not None
    assert lost.privacy.epsilon_max > trained.privacy.epsilon_max > 0


def test_an_answer_that_is_none_fails_its_attack_and_arms_without_attacks_have_no_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assessed, "score_answer", _refusing(AnswerError("it is no answer")))
    scenario = small_scenario(unlearning=[{"method": "none"}])
    [arm] = RunFiles.open(untracked(scenario, tmp_path / "run").path).arms
    assert set(arm.failed_attacks.values()) == {"it is no answer"}
    assert not arm.diverged and arm.attacks == {} and arm.privacy.bounds == ()


@pytest.mark.parametrize("fault", [np.linalg.LinAlgError("singular"), DataError("no data"), ValueError("shapes")])
def test_a_fault_of_the_scoring_itself_is_not_taken_for_the_attacks(
    fault: ValueError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assessed, "score_answer", _refusing(fault))
    with pytest.raises(type(fault), match=str(fault)):
        untracked(small_scenario(unlearning=[{"method": "none"}]), tmp_path / "run")


def _refusing(error: Exception) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise error

    return refuse
