"""What the adversary may be denied, variant by variant, and the figure of what it costs it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.figures.knowledge import knowledge, lines
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import reconstructions
from palimpsest.simulator.scenario.load import Scenario, ScenarioError, dump_toml, scenario_from_dict
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge, cases_of
from palimpsest.simulator.world.protocols.transcript import Transcript
from tests.support.entries import run_results

RIDGE = {"model": {"kind": "ridge", "lambda": 1.0}, "training": {"algorithm": "closed-form"}}
DATA = {"source": "digits", "clients": 4, "test_fraction": 0.1, "public_fraction": 0.4}


def _scenario(variants: dict[str, dict[str, Any]], **changes: Any) -> Scenario:
    base: dict[str, Any] = {
        "name": "knowing",
        "data": DATA,
        "deletion": {"requests": 6},
        "unlearning": [{"method": "downdate"}],
        "variant": [{"name": name, "adversary": granted} for name, granted in variants.items()],
        "runtime": {"backend": "serial"},
    }
    return scenario_from_dict(base | RIDGE | changes)


def _simulated(scenario: Scenario, place: Path) -> dict[str, ArmResult]:
    place.mkdir()
    results = simulate(scenario, prepare(scenario), place, SerialGrid(1))
    (place / "scenario.toml").write_text(dump_toml(scenario))
    return {arm.variant: arm for arm in results.arms}


def _known(place: Path, arm: ArmResult) -> PublicKnowledge:
    return PublicKnowledge.open(place / "transcripts" / arm.arm / "knowledge.json")


@pytest.fixture(scope="module")
def degraded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, ArmResult]]:
    """One ridge, deletions from it, and adversaries that know less and less of it."""
    place = tmp_path_factory.mktemp("knowing")
    rng = np.random.default_rng(3)
    foreign = (rng.random((900, 8, 8)) * 255).astype(np.uint8)
    np.savez(place / "foreign.npz", x=foreign, y=np.arange(900) % 10)
    variants = {
        "all": {},
        "fewer": {"public_records": 100},
        "fewest": {"public_records": 30},
        "zeros": {"public_classes": [0]},
        "noisy": {"public_noise": 0.2},
        "foreign": {"public_source": str(place / "foreign.npz")},
    }
    return place / "run", _simulated(_scenario(variants), place / "run")


def test_adversaries_of_one_training_share_it(degraded: tuple[Path, dict[str, ArmResult]]) -> None:
    """One prefix, and bit for bit the same releases: what the adversary holds changes nothing that is broadcast."""
    _, arms = degraded
    outline = plan(_scenario({"a": {}, "b": {"n_factor": 2.0}, "c": {"sees": "broadcasts"}}, seeds=[0, 1]))
    assert [[arm.id[0] for arm in prefix.arms] for prefix in outline.prefixes] == [["a", "b"], ["a", "b"], ["c"], ["c"]]
    assert len({arm.transcript_digest for arm in arms.values()}) == 1


def test_the_sample_is_what_the_variant_says(degraded: tuple[Path, dict[str, ArmResult]]) -> None:
    place, arms = degraded
    known = {variant: _known(place, arm) for variant, arm in arms.items()}
    whole = known["all"].x
    assert len(known["fewer"].x) == 100
    assert {row.tobytes() for row in known["fewer"].x} <= {row.tobytes() for row in whole}
    assert set(known["zeros"].y) == {0}
    np.testing.assert_array_equal(known["zeros"].x, whole[known["all"].y == 0])
    inside = (whole > 0.35) & (whole < 0.65)
    assert (known["noisy"].x - whole)[inside].std() == pytest.approx(0.2, rel=0.05)  # cutting leaves 1.75 deviations
    assert known["noisy"].x.min() == 0.0
    foreign = np.load(place.parent / "foreign.npz")["x"].reshape(900, -1) / np.float32(255)
    assert {row.tobytes() for row in known["foreign"].x.astype(np.float32)} <= {row.tobytes() for row in foreign}
    assert len(known["foreign"].x) == len(whole)


def test_scores_are_centred_by_the_same_mean_whatever_the_adversary_holds(
    degraded: tuple[Path, dict[str, ArmResult]],
) -> None:
    """Its own mean, of noise, says nothing about digits; centred by itself it would score 0 as the public mean does."""
    place, arms = degraded
    mean = _known(place, arms["all"]).mean
    for variant in ("all", "foreign"):
        name = arms[variant].arm
        truth = load_file(place / "truth" / f"{name}.safetensors")["x"] - mean
        answer = load_file(place / "reconstructions" / f"{name}.safetensors")["hrec/x"] - mean
        expected = (truth * answer).sum(1) / np.linalg.norm(truth, axis=1) / np.linalg.norm(answer, axis=1)
        scores = pd.read_parquet(place / "scores" / f"{name}.parquet")
        np.testing.assert_allclose(scores.loc[scores["attack"] == "hrec", "cosine_centred"], expected, atol=1e-9)
    assert arms["all"].attacks["average"].figure("cosine_centred_median") == 0.0
    assert arms["foreign"].attacks["average"].figure("cosine_centred_median") != 0.0


def test_an_axis_is_what_varies_alone(degraded: tuple[Path, dict[str, ArmResult]]) -> None:
    place, arms = degraded
    [line] = lines(list(arms.values()), "public_records")
    assert (line.attack, line.values) == ("hrec", (30, 100, arms["all"].data.public))
    of = {v: reconstructions(arms[v])["hrec"] for v in ("fewest", "fewer", "all")}
    assert line.medians == tuple(figures.cosine_centred_median for figures in of.values())
    assert line.low == tuple(figures.cosine_centred_ci95[0] for figures in of.values())
    [line] = lines(list(arms.values()), "public_source")
    assert line.values == ("", str(place.parent / "foreign.npz"))
    for axis in ("public_classes", "public_noise", "lambda"):  # two values, or one
        assert lines(list(arms.values()), axis) == []
    drawn = knowledge(RunFiles.open(place))
    assert drawn is not None
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_no_axis_no_figure(degraded: tuple[Path, dict[str, ArmResult]], tmp_path: Path) -> None:
    _, arms = degraded
    few = run_results(*(arms[variant] for variant in ("all", "fewer", "noisy")))
    assert knowledge(RunFiles(RunDirectory(tmp_path), few)) is None


def test_missed_rounds_are_not_in_the_transcript_and_change_nothing_else(tmp_path: Path) -> None:
    training = {"algorithm": "fedavg", "rounds": 4, "clients_per_round": 2}
    scenario = _scenario(
        {"heard": {}, "missed": {"missed_rounds": 3}},
        model={"kind": "softmax"},
        training=training,
        deletion={"requests": 2},
        unlearning=[{"method": "ascent"}],
    )
    arms = _simulated(scenario, tmp_path / "run")
    told = {}
    for variant, arm in arms.items():
        transcript = Transcript.open(tmp_path / "run" / "transcripts" / arm.arm)
        rounds = [line.round for line in transcript.heard if line.branch == 0]
        assert rounds == {"heard": [0, 1, 2, 3, 4], "missed": [0, 1]}[variant]
        told[variant] = (transcript, cases_of(transcript, _known(tmp_path / "run", arm).facts))
    for heard, missed in zip(told["heard"][1], told["missed"][1], strict=True):
        assert len(missed.between) == 0
        for name in heard.after:
            np.testing.assert_array_equal(heard.after[name], missed.after[name])
            np.testing.assert_array_equal(told["heard"][0].load(1)[name], missed.before[name])


def test_a_sample_of_other_sites_is_read_by_ones_own_statistics_and_holds_no_client(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    site = np.repeat([0, 1, 2], 60)
    x = rng.standard_normal((180, 3)) * [1.0, 4.0, 0.5] + site[:, None]
    np.savez(tmp_path / "sites.npz", x=x, y=(x[:, 0] > 1).astype(np.int64), client=site)
    data = {"source": str(tmp_path / "sites.npz"), "clients": 3, "sites": [0], "test_fraction": 0.1}
    scenario = _scenario({"own": {}, "other": {"public_sites": [0, 2]}}, data=data | {"public_fraction": 0.4})
    arms = _simulated(scenario, tmp_path / "run")
    own, other = (_known(tmp_path / "run", arms[variant]) for variant in ("own", "other"))
    statistics = own.facts.preprocessing
    expected = (x[site == 2] - statistics["mean"]) / statistics["scale"]
    found = {tuple(np.round(row, 4)) for row in other.x}
    assert found <= {tuple(np.round(row.astype(np.float32).astype(np.float64), 4)) for row in expected}
    assert other.facts.preprocessing == statistics


@pytest.mark.parametrize(
    ("adversary", "says"),
    [
        ({"missed_rounds": 1}, "closed-form releases its solution alone; take fedavg or fedsgd, or 0"),
        ({"public_classes": [1, 1]}, "names a class twice"),
        ({"public_source": "digit"}, "did you mean 'digits'"),
        ({"public_noise": -1.0}, "public_noise"),
    ],
)
def test_refusals(adversary: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        _scenario({"x": adversary})


@pytest.mark.parametrize(
    ("adversary", "says"),
    [
        ({"public_source": "mnist5k"}, r"records of shape \(28, 28\), and the data \(8, 8\)"),
        ({"public_source": "digits"}, "no records that are not clients'"),
        ({"public_classes": [11]}, "has no record of these"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_before_training(adversary: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        prepare(_scenario({"x": adversary}))
