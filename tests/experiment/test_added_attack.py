"""Attacks added to runs that are done: what they find is what the run would have found with them."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from typer.testing import CliRunner

from palimpsest.attacks.session import Answer
from palimpsest.simulator.attack_metrics.card import Material
from palimpsest.simulator.attack_metrics.score import AttackScore, score_answer
from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.experiment import added_attack
from palimpsest.simulator.experiment.added_attack import score
from palimpsest.simulator.experiment.runner import run
from palimpsest.simulator.figures import all as all_figures
from palimpsest.simulator.results.intact import alone
from palimpsest.simulator.results.reading import RunFilesError
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.tracking.upload import Tracked
from tests.support.scenarios import small_scenario, untracked
from tests.support.stores import new_store

pytestmark = [pytest.mark.slow, pytest.mark.mlflow]

MEASURED = ("seconds", "seconds_per_record", "peak_memory_bytes")


def figures(directory: RunDirectory, kind: str) -> list[dict[str, Any]]:
    arms = json.loads(directory.results_file.read_text())["arms"]
    return [{key: v for key, v in arm["attacks"][kind].items() if key not in MEASURED} for arm in arms]


def files(folder: Path) -> dict[str, str]:
    """Digests of a run's files; its lock, which is empty, says nothing."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != RunDirectory(folder).run_lock
    }


def test_it_is_scored_as_if_the_scenario_had_named_it_and_nothing_else_changes(tmp_path: Path) -> None:
    tracking = {"uri": new_store(tmp_path)}
    whole = untracked(small_scenario(attack=[{"kind": "hrec"}, {"kind": "class-score"}]), tmp_path / "whole")
    given = run(small_scenario(attack=[{"kind": "hrec"}], tracking=tracking), tmp_path / "given")
    directory = RunDirectory(given.directory)
    before = json.loads(directory.results_file.read_text())
    heard, scenario = files(given.directory / "transcripts"), directory.scenario_file.read_text()
    client = mlflow.MlflowClient(tracking["uri"])
    versions = len(client.search_model_versions())

    found, tracked = score(given.directory, {"kind": "class-score"})

    assert tracked.ok, tracked.message
    assert figures(directory, "class-score") == figures(whole, "class-score")
    after = json.loads(directory.results_file.read_text())
    for old, new in zip(before["arms"], after["arms"], strict=True):
        added = new["attacks"].pop("class-score")
        assert all(row["attacks"].pop("class-score") for row in new["requests"])
        assert {key: v for key, v in new.items() if key != "verdict"} == {
            key: v for key, v in old.items() if key != "verdict"
        }
        stored = client.search_runs([_experiment(client)], f"tags.`palimpsest.arm` = '{new['arm']}'")
        assert len(stored) == 1
        metrics = stored[0].data.metrics
        assert metrics["attack/class-score/class_accuracy"] == added["class_accuracy"]
        assert metrics["attack/hrec/cosine_median"] == old["attacks"]["hrec"]["cosine_median"]
    assert files(given.directory / "transcripts") == heard
    assert directory.scenario_file.read_text() == scenario
    assert len(client.search_model_versions()) == versions
    assert set(found.arms[0].attacks) == {"hrec", "average", "max-difference", "public-draw", "class-score"}
    assert (given.directory / "figures/inference.png").is_file()
    assert json.loads(directory.added_attacks.read_text())["attack"]["kind"] == "class-score"
    with pytest.raises(ScenarioError, match="has the attack 'class-score' already"):
        score(given.directory, {"kind": "class-score"})


def _experiment(client: "mlflow.MlflowClient") -> str:
    found = client.get_experiment_by_name("small")
    assert found is not None
    return str(found.experiment_id)


def test_a_challenge_is_solved_again(tmp_path: Path) -> None:
    """The list that was written for one attack is put to another; the answers are scored as in a whole run."""
    lira = {"kind": "deletion-lira", "shadows": 8}
    whole = untracked(small_scenario(attack=[{"kind": "candidate-match"}, lira]), tmp_path / "whole")
    tracking = {"uri": new_store(tmp_path)}
    given = untracked(small_scenario(attack=[{"kind": "candidate-match"}], tracking=tracking), tmp_path / "given")
    score(given.path, lira)
    assert figures(given, "deletion-lira") == figures(whole, "deletion-lira")


def test_what_cannot_be_added_is_one_sentence(tmp_path: Path) -> None:
    given = untracked(small_scenario(), tmp_path / "given")
    untouched = files(given.path)
    for arguments, said in (
        (["--attack", "inversion"], "works on"),
        (["--attack", "candidate-match"], "no challenge.safetensors here"),
        (["--attack", "hrec"], "has the attack 'hrec' already"),
        (["--attack", "hrek"], "hrek"),
        (["--attack", "class-score", "--set", "sharpness=3"], "sharpness"),
    ):
        found = CliRunner().invoke(cli.app, ["score", str(given.path), *arguments])
        assert found.exit_code == 2, found.output
        assert said in " ".join(found.stderr.split())
    assert files(given.path) == untouched
    found = CliRunner().invoke(cli.app, ["score", str(tmp_path), "--attack", "hrec"])
    assert found.exit_code == 2
    assert "holds no finished run" in " ".join(found.stderr.split())


def test_figures_that_are_not_finite_leave_the_run_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = untracked(small_scenario(unlearning=[{"method": "retrain"}]), tmp_path / "given")
    untouched = files(given.path)

    def overflowing(kind: str, answer: Answer, material: Material) -> AttackScore:
        marked = score_answer(kind, answer, material)
        return replace(marked, figures={**marked.figures, "class_accuracy": math.nan})

    monkeypatch.setattr(added_attack, "score_answer", overflowing)
    with pytest.raises(ScenarioError, match="the class_accuracy of the attack 'class-score' is not finite"):
        score(given.path, {"kind": "class-score"})
    assert files(given.path) == untouched


def test_nobody_else_is_let_in_until_the_last_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = untracked(small_scenario(unlearning=[{"method": "retrain"}]), tmp_path / "given")
    refused = []

    def sent(path: Path, uri: str) -> Tracked:
        with pytest.raises(RunFilesError, match="another process is at work") as found, alone(given):
            pass
        refused.append(found.value)
        return Tracked(ok=True, message="", uri=uri)

    monkeypatch.setattr(added_attack, "track", sent)
    monkeypatch.setattr(all_figures, "draw_all", lambda path: [])
    score(given.path, {"kind": "class-score"})
    assert len(refused) == 1
    with alone(given):
        pass
