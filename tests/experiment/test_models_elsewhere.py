"""Whole runs of a model of another package: trained, unlearned, attacked, logged."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.specs import ModelSpec
from tests.support.packaged_models import install
from tests.support.scenarios import small_scenario

pytestmark = pytest.mark.slow

ATTACKS = [
    "inversion",
    "igf",
    "compound",
    "candidate-match",
    "class-score",
    "probing",
    "probing-top1",
    "max-difference",
]
SHORT = {
    "inversion": {"iterations": 8, "restarts": 1, "polish": 1},
    "compound": {"iterations": 8, "candidates": 1, "polish": 1},
}
METHODS = ["retrain", "ascent", "finetune"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(tmp_path, monkeypatch)
    yield
    model_of.cache_clear()


@pytest.mark.parametrize("kind", ["net", "in-place"])
def test_every_method_that_needs_gradients_alone_works(tmp_path: Path, kind: str) -> None:
    base: dict[str, Any] = {
        "model": {"kind": kind, "width": 4},
        "training": {"rounds": 2, "clients_per_round": 3, "batch_size": 32},
        "unlearning": [{"method": method} for method in METHODS],
    }
    scenario = small_scenario(**base, attack=[{"kind": name, **SHORT.get(name, {})} for name in ATTACKS])
    directory = tmp_path / "run"
    directory.mkdir()
    results = simulate(scenario, prepare(scenario), directory, SerialGrid(1))
    assert {arm["unlearning"]["method"] for arm in results["arms"]} == {*METHODS}
    for arm in results["arms"]:
        assert {*ATTACKS, "average", "public-draw"} == set(arm["attacks"])
        spec = ModelSpec.model_validate_json((directory / "models" / f"{arm['arm']}.json").read_text())
        assert (spec.kind, spec.options.root) == (kind, {"width": 4})
    again = tmp_path / "again"
    again.mkdir()
    digests = {arm["arm"]: arm["transcript_digest"] for arm in results["arms"]}
    bare = small_scenario(**base, attack=[{"kind": "class-score"}], evaluation={"retrainings": 0})  # same transcripts
    repeated = simulate(bare, prepare(bare), again, SerialGrid(2))
    assert digests == {arm["arm"]: arm["transcript_digest"] for arm in repeated["arms"]}


def test_it_goes_through_updates_of_single_clients_and_clipped_steps(tmp_path: Path) -> None:
    scenario = small_scenario(
        model={"kind": "net", "width": 4},
        training={"rounds": 2, "clients_per_round": 3, "batch_size": 32},
        deletion={"level": "client", "requests": 2},
        unlearning=[{"method": "federaser"}, {"method": "puf"}, {"method": "retrain"}],
        defense=[{"kind": "none"}, {"kind": "dp-sgd"}],
        attack=[{"kind": "class-score"}],
    )
    directory = tmp_path / "run"
    directory.mkdir()
    results = simulate(scenario, prepare(scenario), directory, SerialGrid(1))
    assert len(results["arms"]) == 6
    assert len({arm["transcript_digest"] for arm in results["arms"]}) == 6


def test_an_attack_on_a_last_layer_that_is_not_there_is_refused_before_anything_starts() -> None:
    scenario = small_scenario(model={"kind": "headless"}, attack=[{"kind": "class-score"}])
    with pytest.raises(ModelError, match=r"attack\.kind = 'class-score': .*'headless' has no last linear layer"):
        prepare(scenario)
