"""What is written into a run's directory is read from it again, and a run is found where it was left."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palimpsest.attacks.cost import Cost
from palimpsest.attacks.session import Answer
from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles, newest_run, unused_directory
from palimpsest.simulator.results.schema import RunFilesError
from palimpsest.simulator.world.records import Guess, Reconstruction
from palimpsest.simulator.world.specs import ModelSpec
from tests.support.entries import arm_result, run_results


@pytest.fixture
def place(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def test_what_an_arm_leaves_is_read_again(place: RunDirectory) -> None:
    files, spec = (
        place.arm("a--b"),
        ModelSpec(kind="ridge", task="regression", shape=(2,), outputs=1, regularisation=1.0),
    )
    scores = pd.DataFrame({"attack": ["hrec"], "case": [0], "target": [0], "cosine": [0.5], "cosine_centred": [0.25]})
    forgotten = pd.DataFrame({"request": [0], "model": ["trained"]})
    truth = {"x": np.arange(4.0).reshape(2, 2), "y": np.array([0.0, 1.0]), "case": np.array([0, 1])}
    rounds = [{"round": 0, "phase": "training", "utility": float("nan")}, {"round": 1, "phase": "working", "loss": 0.5}]
    files.write_scores(scores)
    files.write_forgetting(forgotten)
    files.write_truth(truth)
    files.write_rounds(rounds)
    files.write_model(spec, {"weight": np.ones((1, 2))})
    guesses: list[Guess] = [Reconstruction(case, truth["x"][[case]], truth["y"][[case]]) for case in (0, 1)]
    files.write_answers({"hrec": Answer(guesses, Cost(1.0, 0))})
    scored = files.scores()
    assert scored is not None
    pd.testing.assert_frame_equal(scored, scores)
    pd.testing.assert_frame_equal(files.forgetting(), forgotten)
    deleted, model = files.truth(), files.model()
    assert deleted is not None
    assert model is not None
    np.testing.assert_array_equal(deleted.x, truth["x"])
    assert deleted.of_case(1).tolist() == [1]
    np.testing.assert_array_equal(files.reconstructions()["hrec"].x, truth["x"])
    assert (model[0], model[1]["weight"].tolist()) == (spec, [[1.0, 1.0]])
    first, second = files.rounds()
    assert np.isnan(first.utility or 0.0)
    assert (second.round, second.phase, second.utility, second.loss) == (1, "working", None, 0.5)
    assert not [path for path in place.path.rglob("*") if path.name.startswith(".")]  # drafts


def test_an_arm_that_left_nothing_has_nothing(place: RunDirectory) -> None:
    files = place.arm("a")
    assert (files.scores(), files.truth(), files.model()) == (None, None, None)
    assert (files.rounds(), files.reconstructions(), files.is_finished) == ([], {}, False)
    run = RunFiles(place, run_results(arm_result(arm="a")))
    assert list(run.scores(*run.arms)) == ["attack", "case", "target", "cosine", "cosine_centred"]


def test_an_arm_is_finished_by_its_result(place: RunDirectory) -> None:
    result = arm_result(arm="a", verdict="It is over.")
    place.arm("a").write_result(result)
    assert place.arm("a").is_finished
    assert place.arm("a").result() == result
    (place.path / "arms" / "a.json").write_text('{"arm": "a"}')
    with pytest.raises(RunFilesError, match=r"a\.json does not follow schema 2: variant is missing"):
        place.arm("a").result()


def test_broken_arrays_are_named(place: RunDirectory) -> None:
    place.arm("a").write_truth({"x": np.zeros((1, 1)), "y": np.zeros(1), "case": np.zeros(1)})
    (place.path / "truth" / "a.safetensors").write_bytes(b"no such thing")
    with pytest.raises(RunFilesError, match=r"truth/a\.safetensors is no safetensors file"):
        place.arm("a").truth()


def test_results_are_those_that_were_written(place: RunDirectory) -> None:
    results = run_results(arm_result(variant="x"), arm_result(variant="x", seed=1), arm_result(variant="y"))
    place.write_results(results)
    run = RunFiles.open(place.path)
    assert run.results == results
    assert run.variants() == ["x", "y"]
    assert [(s.label, [arm.seed for arm in s.arms]) for s in run.settings("x")] == [("ascent", [0, 1])]


def test_a_directory_says_what_it_was_made_with_and_has_one_identity(place: RunDirectory) -> None:
    assert place.provenance() is None
    place.write_provenance({"machine": {"cores": 2}})
    place.write_scenario('name = "x"')
    assert place.provenance() == {"machine": {"cores": 2}}
    assert place.scenario() == {"name": "x"}
    assert place.tracked.identity() == RunDirectory(place.path).tracked.identity()
    assert place.figure("summary").name == "summary.png"
    assert place.figure("gallery", "mnist") == place.path / "figures" / "gallery-mnist.png"


def test_the_newest_run_is_the_one_that_finished_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert newest_run() is None
    for age, name in enumerate(("new", "old")):
        Path("runs", name).mkdir(parents=True)
        place = RunDirectory(Path("runs", name))
        place.write_results(run_results())
        os.utime(place.results_file, (1_000 - age, 1_000 - age))
    Path("runs", "unfinished").mkdir()
    assert newest_run() == Path("runs", "new")
    first = unused_directory("x")
    first.mkdir()
    assert unused_directory("x") != first
