"""What is read from ``results.json`` is written again byte for byte, its figures are typed, and faults are named."""

import json
from pathlib import Path
from typing import Any

import pytest

from palimpsest.simulator.results.attack_results import LabelsResult, ReconstructionResult, ScoresResult
from palimpsest.simulator.results.schema import RunFilesError, RunResults
from tests.support.entries import arm, arm_result, inference, reconstruction, run_json

LABELS = {"label_accuracy": 0.5, "label_accuracy_prior": 0.1, "class_accuracy": 1, "class_accuracy_ci95": [1, 1]}
SCORES = {"negatives": 90, "membership_auc_trained": 0.5, "membership_valid": False, "withheld": "no power"}

OTHER = {"measured": "right", "chance": 0.5, "said": "it is right", "measured_by": "glow 2.1"}


def results() -> dict[str, Any]:
    """One arm with keys in an order that is not that of the fields, integers among floats, and further figures."""
    attacks = {
        "hrec": dict(reversed(reconstruction(1, 0.5, ssim_median=0.25).items())),
        "class-score": inference("labels", **LABELS),
        "deletion-lira": inference("scores", **SCORES, membership_tpr_at_1_percent_trained=0.0),
        "somebody-elses": inference("attributes", **OTHER, right=3),
    }
    bound = {"event": "x", "attack": "hrec", "span": "y", "n": 2, "kappa": 0.5, "gamma": 1, "success": 0.0}
    privacy = {"epsilon_max": None, "unit": "record", "delta": 1e-05, "bounds": [{**bound, "interval": [0, 1.0]}]}
    unlearning = {"steps": 3, "method": "retrain", "copy": True}
    entry = arm(unlearning=unlearning, attacks=attacks) | {"privacy": privacy, "forgetting": {"kl": 0.1, "exact": True}}
    return dict(reversed(run_json(dict(reversed(entry.items()))).items()))


def read(directory: Path, content: Any) -> RunResults:
    """Through the file."""
    path = directory / "results.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return RunResults.read(path)


def test_what_is_read_is_written_byte_for_byte(tmp_path: Path) -> None:
    text = json.dumps(results(), indent=1)
    found = read(tmp_path, text)
    assert found.to_text() == text
    assert found["arms"] == results()["arms"]


def test_a_file_of_schema_1_is_read_and_written_as_schema_2(tmp_path: Path) -> None:
    old = results()
    for entry in old["arms"]:
        made, completed = entry.pop("requests_made"), entry.pop("requests_completed")
        entry["requests"], entry["conditions"] = {"made": made, "completed": completed}, {"pattern": "sequential"}
        del entry["deletion"]["pattern"]
    found = read(tmp_path, old | {"schema": 1})
    [upgraded] = found.arms
    assert (upgraded.requests, upgraded.requests_made, upgraded.requests_completed) == ((), 3, 3)
    assert (upgraded.deletion.pattern, upgraded.is_chain) == ("sequential", False)
    assert read(tmp_path, found.to_text()).to_text() == found.to_text()
    assert found["schema"] == 2


def test_figures_are_attributes_by_the_kind_of_the_attack_and_further_ones_are_measures(tmp_path: Path) -> None:
    [found] = read(tmp_path, results()).arms
    hrec, labels, scores = (found.attacks[name] for name in ("hrec", "class-score", "deletion-lira"))
    assert isinstance(hrec, ReconstructionResult)
    assert isinstance(labels, LabelsResult)
    assert isinstance(scores, ScoresResult)
    assert (hrec.cosine_median, hrec.measures, hrec.queries) == (1, {"ssim_median": 0.25}, None)
    assert (labels.class_accuracy, scores.auc, scores.withheld) == (1, None, "no power")
    assert found.unlearning.measures == {"steps": 3, "copy": True}
    other = found.attacks["somebody-elses"]
    assert (other.kind, other.figure("right"), other.figure("kind"), other.figure("auc")) == (
        "attributes",
        3,
        None,
        None,
    )


def test_a_refusal_names_the_file_and_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(RunFilesError, match=r"holds no finished run: it has no results\.json"):
        RunResults.read(path)
    for content, says in [
        (results() | {"schema": 3}, "has schema 3; this version reads schemas 1 to 2"),
        ({}, "has schema None; this version reads schemas 1 to 2"),
        ([1], "holds list, and an object is wanted"),
        ("{", "cannot be read: Expecting property name"),
    ]:
        with pytest.raises(RunFilesError, match=says) as refusal:
            read(tmp_path, content)
        assert str(refusal.value).startswith(str(path))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.json").mkdir()
    with pytest.raises(RunFilesError, match=r"results\.json is no regular file"):
        RunResults.read(tmp_path / "results.json")


CONDITIONAL = {"utility"}
WITH_RETRAININGS = {"retraining_seconds", "retraining_client_updates", "retraining_client_seconds"}
"""Absent where no hidden retraining was asked for."""


@pytest.mark.parametrize("key", sorted(set(arm()) - CONDITIONAL))
def test_an_arm_without_a_key_that_is_always_written_is_refused(tmp_path: Path, key: str) -> None:
    entry = {name: value for name, value in arm().items() if name != key}
    with pytest.raises(RunFilesError, match=rf"arms\.0\.{key} is missing"):
        read(tmp_path, run_json(entry))


@pytest.mark.parametrize("place", ["data", "deletion", "cost"])
def test_so_is_an_entry_without_a_figure(tmp_path: Path, place: str) -> None:
    for key in set(arm()[place]) - WITH_RETRAININGS:
        entry = arm()
        del entry[place][key]
        with pytest.raises(RunFilesError, match=rf"arms\.0\.{place}\.{key} is missing"):
            read(tmp_path, run_json(entry))


def test_an_attack_lacks_no_figure_of_its_kind(tmp_path: Path) -> None:
    figures = reconstruction(0.9, 0.8)
    del figures["mse_median"], figures["n"]
    with pytest.raises(RunFilesError, match=r"hrec\.reconstruction\.n is missing \(and 1 more\)"):
        read(tmp_path, run_json(arm(attacks={"hrec": figures})))
    with pytest.raises(RunFilesError, match=r"hrec\.reconstruction\.cosine_median is 'high': a number is wanted$"):
        read(tmp_path, run_json(arm(attacks={"hrec": reconstruction(0.9, 0.8, cosine_median="high")})))


def test_what_was_not_measured_is_none() -> None:
    """No request completed under a defense with a budget: nothing is worth anything, and nothing was spent on it."""
    spent = {"unit": "record", "epsilon_max": 1.5, "delta": 1e-5, "accountant": "rdp", "deleted": {}, "retained": {}}
    found = arm_result(utility=None, privacy=spent)
    assert found.utility is None
    assert found.forgetting.forget_loss is None
    assert found.privacy.deleted is not None
    assert found.privacy.deleted.after is None
