"""Whole runs: what they leave, what they may not depend on, and what an interruption costs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.experiment.runner import prepare, resume, run, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.scenario.load import Scenario, dump_toml, scenario_from_dict
from palimpsest.simulator.scenario.sections import EvaluationConfig
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge, cases_of
from palimpsest.simulator.world.protocols.transcript import Transcript
from tests.support.stores import new_store

pytestmark = pytest.mark.mlflow

BARE = {"attack": [{"kind": "average"}], "evaluation": {"retrainings": 0}}
"""For what is not about attacks and retraining: transcripts depend on neither."""
ATTACKS = ("hrec", "raw-difference", "average", "max-difference", "public-draw")


def _scenario(**changes: Any) -> Scenario:
    """Two settings of digits, three arms: as small as a whole run gets."""
    base: dict[str, Any] = {
        "name": "small",
        "data": {"source": "digits", "clients": 8, "test_fraction": 0.2, "public_fraction": 0.4},
        "training": {"rounds": 3, "clients_per_round": 4},
        "deletion": {"requests": 4},
        "variant": [
            {"name": "softmax", "model": {"kind": "softmax"}},
            {"name": "ridge", "model": {"kind": "ridge", "lambda": 1.0}, "training": {"algorithm": "closed-form"}},
        ],
        "unlearning": [
            {"method": "retrain", "coupling": "same-order", "only": ["softmax"]},
            {"method": "ascent", "only": ["softmax"]},
            {"method": "downdate", "only": ["ridge"]},
        ],
        "runtime": {"backend": "serial"},
    }
    return scenario_from_dict(base | changes)


def _simulate(scenario: Scenario, directory: Path) -> dict[str, Any]:
    directory.mkdir(parents=True)
    return simulate(scenario, prepare(scenario), directory, SerialGrid(1))


def _digests(results: dict[str, Any]) -> dict[str, str]:
    return {arm["arm"]: arm["transcript_digest"] for arm in results["arms"]}


def test_without_a_reference_only_what_needs_one_is_left_out(tmp_path: Path) -> None:
    """Same transcripts and scores; what a model is worth is measured, how far it is from retraining is not."""
    one = _scenario(variant=[], unlearning=[{"method": "ascent"}], attack=[{"kind": "hrec"}])
    without = one.model_copy(update={"evaluation": EvaluationConfig(retrainings=0)})
    whole = _simulate(one, tmp_path / "whole")["arms"][0]
    [less] = _simulate(without, tmp_path / "less")["arms"]
    assert less["transcript_digest"] == whole["transcript_digest"]
    assert less["attacks"]["hrec"]["cosine_median"] == whole["attacks"]["hrec"]["cosine_median"]
    assert less["utility"]["unlearned"] == whole["utility"]["unlearned"]
    assert less["forgetting"]["forget_loss"] == whole["forgetting"]["forget_loss"]
    assert less["forgetting"]["retrainings"] == 0
    measured = [set(arm["forgetting"] | arm["utility"] | arm["cost"]) for arm in (whole, less)]
    left_out = measured[0] - measured[1]
    assert left_out and all("retrain" in key or key.startswith(("speed_up", "membership_")) for key in left_out)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole run, figures and MLflow included."""
    directory = tmp_path_factory.mktemp("run") / "out"
    uri = new_store(directory.parent)
    result = run(_scenario(tracking={"uri": uri}), directory)
    assert result.tracked.ok, result.tracked.message
    return directory


def test_a_run_leaves_what_it_promises(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert [arm["arm"] for arm in results["arms"]] == [
        "softmax--retrain--none--seed0",
        "softmax--ascent--none--seed0",
        "ridge--downdate--none--seed0",
    ]
    for arm in results["arms"]:
        name = arm["arm"]
        assert arm["transcript_digest"] == Transcript.open(finished / "transcripts" / name).digest()
        assert set(arm["attacks"]) == set(ATTACKS)
        assert {"trained", "unlearned", "retrained", "metric"} <= set(arm["utility"])
        assert {"request", "model", "utility", "distance"} <= set(
            pd.read_parquet(finished / "forgetting" / f"{name}.parquet")
        )
        assert arm["attacks"]["hrec"]["n"] == 4
        assert arm["verdict"].endswith(".")
        scores = pd.read_parquet(finished / "scores" / f"{name}.parquet")
        assert scores.groupby("attack").size().to_dict() == dict.fromkeys(ATTACKS, 4)
        assert set(load_file(finished / "truth" / f"{name}.safetensors")) == {"x", "y", "case"}
    assert len(list((finished / "figures").glob("*.png"))) >= 5
    assert tomllib.loads((finished / "scenario.toml").read_text())["data"]["clients"] == 8
    events = [json.loads(line)["event"] for line in (finished / "ledger.jsonl").read_text().splitlines()]
    assert {event: events.count(event) for event in set(events)} == dict.fromkeys(
        ("requested", "accepted", "completed"), 12
    )


def test_truth_is_what_the_clients_held(finished: Path) -> None:
    """Every deleted record is a digit of the data set, and none is in the public sample."""
    digits = {row.tobytes() for row in (load_digits().data / 16.0).astype(np.float32)}
    for path in (finished / "truth").iterdir():
        knowledge = PublicKnowledge.open(finished / "transcripts" / path.stem / "knowledge.json")
        public = {row.tobytes() for row in knowledge.x.astype(np.float32)}
        for row in load_file(path)["x"].astype(np.float32):
            assert row.tobytes() in digits
            assert row.tobytes() not in public


def test_the_adversary_is_given_nothing_but_its_grants(finished: Path) -> None:
    for directory in (finished / "transcripts").iterdir():
        names = sorted(path.name for path in directory.iterdir())
        assert names == ["knowledge.json", "knowledge.safetensors", "releases", "releases.jsonl"]
        facts = PublicKnowledge.open(directory / "knowledge.json").facts
        assert facts.granted == ()
        assert facts.seed is None
        assert all(view.labels is None and view.clients is None for view in facts.cases)


def test_the_command_gives_the_runs_answers_bit_for_bit(finished: Path, tmp_path: Path) -> None:
    """From a copy of the transcript elsewhere, and without a seed."""
    for directory in (finished / "transcripts").iterdir():
        place, out = tmp_path / directory.name / "copy", tmp_path / f"{directory.name}.safetensors"
        shutil.copytree(directory, place)
        named = [part for name in ATTACKS for part in ("--attack", name)]
        done = CliRunner().invoke(cli.app, ["attack", str(place), *named, "--out", str(out)])
        assert done.exit_code == 0, done.output
        answers, ours = load_file(out), load_file(finished / "reconstructions" / f"{directory.name}.safetensors")
        assert answers.keys() == ours.keys()
        for name, value in ours.items():
            assert np.array_equal(value, answers[name], equal_nan=True), name


def test_grants_and_handicaps_reach_the_adversary(tmp_path: Path) -> None:
    adversary = {
        "knows": ["labels", "client", "seeds"],
        "n_factor": 2.0,
        "public_records": 50,
        "round_to": 8,
        "knows_bracket": False,
    }
    results = _simulate(_scenario(adversary=adversary, seeds=[5]), tmp_path / "out")
    for directory in (tmp_path / "out" / "transcripts").iterdir():
        knowledge, transcript = PublicKnowledge.open(directory / "knowledge.json"), Transcript.open(directory)
        truth = load_file(tmp_path / "out" / "truth" / f"{directory.name}.safetensors")
        assert knowledge.facts.seed == 5
        assert len(knowledge.x) == 50
        assert knowledge.facts.n == 2 * results["arms"][0]["data"]["records"]
        assert [view.labels for view in knowledge.facts.cases] == [(label,) for label in truth["y"]]
        assert all(line.phase is None and line.round is None for line in transcript.heard)
        assert all(len(view.clients or ()) == 1 and view.before is None for view in knowledge.facts.cases)
        for value in cases_of(transcript, knowledge.facts)[0].after.values():
            mantissa, _ = np.frexp(np.asarray(value, np.float64))
            assert np.array_equal(mantissa * 2.0**8, np.round(mantissa * 2.0**8))


def test_an_arm_alone_and_among_twelve_has_one_digest(tmp_path: Path) -> None:
    everything: dict[str, Any] = {
        "variant": [],
        "seeds": [0, 1],
        "unlearning": [
            {"method": "retrain", "coupling": ["same-order", "reshuffled", "independent"]},
            {"method": "ascent", "learning_rate": [0.05, 0.5]},
            {"method": "none"},
        ],
        **BARE,
    }
    crowd = _simulate(_scenario(**everything), tmp_path / "crowd")
    assert len(crowd["arms"]) == 12
    alone = _simulate(
        _scenario(**everything | {"seeds": [1], "unlearning": [{"method": "retrain", "coupling": "independent"}]}),
        tmp_path / "alone",
    )
    [(_, digest)] = _digests(alone).items()
    assert digest == _digests(crowd)["retrain-independent--none--seed1"]


@pytest.mark.parametrize(
    "deletion",
    [
        {"level": "label", "requests": 2},
        {"level": "label", "requests": 2, "scope": "client"},
        {"level": "client", "requests": 2},
        {"pattern": "simultaneous", "group": 2, "requests": 2, "records_per_request": 2},
        {"pattern": "sequential", "requests": 3},
        {"request": [{"round": 2, "client": 1, "records": [0, 3]}, {"round": 3, "client": 2, "records": [1]}]},
    ],
    ids=["label", "label-client", "client", "simultaneous", "sequential", "explicit"],
)
def test_every_level_and_pattern_runs(tmp_path: Path, deletion: dict[str, Any]) -> None:
    changes = {"deletion": deletion}
    if "request" in deletion:  # rounds mean nothing where the optimum is solved for
        changes |= {"variant": [], "unlearning": [{"method": "retrain"}, {"method": "ascent"}]}
    if deletion.get("level") in ("label", "client"):
        changes |= {"adversary": {"knows": ["labels"]}}  # to find those of hundreds of records takes hrec seconds
    results = _simulate(_scenario(**changes), tmp_path / "out")
    for arm in results["arms"]:
        assert arm["requests_completed"] == arm["requests_made"] == len(arm["requests"]) > 0
        assert arm["attacks"]["average"]["cosine_centred_median"] == 0.0


def test_methods_with_and_without_histories_run_side_by_side(tmp_path: Path) -> None:
    changes = {"variant": [], "deletion": {"level": "client", "requests": 2}, **BARE}
    methods = ["retrain", "rollback", "federaser", "pga", "finetune"]
    out = tmp_path / "out"
    results = _simulate(_scenario(**changes, unlearning=[{"method": method} for method in methods]), out)
    arms = {arm["unlearning"]["method"]: arm for arm in results["arms"]}
    assert set(arms) == set(methods)
    stored = {method: arm["cost"]["server_bytes_stored"] for method, arm in arms.items()}
    model = 4 * (64 * 10 + 10)
    assert stored["rollback"] == 4 * model  # the releases of three rounds and of the start
    assert 12 * model < stored["federaser"] < 13 * model  # four clients in three rounds, and the files' heads
    assert stored["retrain"] == stored["pga"] == stored["finetune"] == 0
    assert set(arms["pga"]["notes"]) == {"steps", "projections", "radius"}
    assert arms["retrain"]["notes"] == {}
    assert arms["finetune"]["cost"]["rounds"] == 5
    assert not (out / "checkpoints").exists() or not list((out / "checkpoints").iterdir())
    alone = _scenario(**changes, unlearning=[{"method": "retrain"}])
    assert _digests(_simulate(alone, tmp_path / "alone")) == {
        arms["retrain"]["arm"]: arms["retrain"]["transcript_digest"]
    }


def test_without_test_data_utility_is_absent(tmp_path: Path) -> None:
    data = {"source": "digits", "clients": 8, "test_fraction": 0.0, "public_fraction": 0.5}
    for arm in _simulate(_scenario(data=data), tmp_path / "out")["arms"]:
        assert "unlearned" not in arm["utility"]
        assert 0.0 < arm["utility"]["retained_unlearned"] <= 1.0
        assert "speed_up_seconds" not in arm["cost"]
        assert "membership_auc" not in arm["forgetting"]
        assert "top1_of_1000" not in arm["attacks"]["hrec"]


@pytest.mark.slow
def test_a_run_that_was_killed_resumes_to_the_same_digests(tmp_path: Path) -> None:
    expected = _digests(_simulate(_scenario(**BARE), tmp_path / "unbroken"))
    scenario = tmp_path / "small.toml"
    scenario.write_text(dump_toml(_scenario(tracking={"uri": new_store(tmp_path)})))
    out = tmp_path / "broken"
    command = [sys.executable, "-m", "palimpsest.simulator", "run", str(scenario), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(out.glob("arms/*.json")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.stem: path.stat().st_mtime_ns for path in out.glob("arms/*.json")}
    assert 0 < len(done) < len(plan(_scenario()).arms)
    assert _digests(resume(out).results) == expected
    assert {name: (out / "arms" / f"{name}.json").stat().st_mtime_ns for name in done} == done


def test_arms_that_are_run_again_give_the_same_figures_to_the_last_bit(tmp_path: Path) -> None:
    """Models are evaluated with fewer others than in the unbroken run."""
    methods = [{"method": "retrain"}, {"method": "ascent"}, {"method": "none"}]
    scenario, out = _scenario(variant=[], unlearning=methods), tmp_path / "out"
    _simulate(scenario, out)
    unbroken = json.loads((out / "results.json").read_text())
    for arm in plan(scenario).arms[1:]:
        (out / "arms" / f"{arm.id}.json").unlink()
    simulate(scenario, prepare(scenario), out, SerialGrid(1))
    again = json.loads((out / "results.json").read_text())
    assert _without_meters(again) == _without_meters(unbroken)


def _without_meters(entry: Any) -> Any:
    """What a run says, less what it measured of this machine: seconds and bytes of memory."""
    if isinstance(entry, dict):
        kept = {key: value for key, value in entry.items() if "seconds" not in key and "memory" not in key}
        return {key: _without_meters(value) for key, value in kept.items()}
    return [_without_meters(value) for value in entry] if isinstance(entry, list) else entry
