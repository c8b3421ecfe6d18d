"""What a retraining under privacy draws again, coins or noise or both, and what that costs whom."""

import math
from pathlib import Path

import numpy as np
import pytest

from palimpsest.defenses.bound import blow_up
from palimpsest.defenses.dp_sgd import DpSgd
from palimpsest.server import lineages
from palimpsest.server.history import History
from palimpsest.server.training import train
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.simulator.planning.privacy import EpsilonMeter, PrivacyBudget, privacy_entry
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, Bench
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import DeletionRequest
from tests.support.scenarios import small_scenario

METER = EpsilonMeter(1e-5)
REQUEST = DeletionRequest(0, FEDAVG.rounds, "record", {3: (0,)})


def _distance(history: History, coupling: str) -> float:
    """How far a retraining that forgets nothing ends from the training, relative to the model."""
    last = history.record.releases[-1].params
    nothing = DeletionRequest(0, FEDAVG.rounds, "record", {})
    case = UnlearningCase(1, nothing, {}, FEDAVG.rounds, last, None)
    fresh = history.retrainer.noise_key("retraining", case)
    lineage = lineages.retraining(case, coupling, "unlearning", fresh)
    *_, step = train(history.record.setup, [lineage], history.retrainer.federation)
    return float(np.linalg.norm(flat(step.models[0]) - flat(last)) / np.linalg.norm(flat(last)))


def test_coins_and_noise_are_drawn_again_as_the_coupling_says(tmp_path: Path) -> None:
    """Nothing is forgotten, so that what differs is the randomness: no noise to speak of leaves the coins alone."""
    (tmp_path / "quiet").mkdir()
    (tmp_path / "loud").mkdir()
    quiet = Bench(digits_population(), tmp_path / "quiet", defense=DpSgd(noise_multiplier=1e-6, clip=0.5)).history()
    assert _distance(quiet, "same-noise") == 0.0
    assert _distance(quiet, "same-coins") < 1e-4
    assert _distance(quiet, "same-order") > 0.01
    loud = Bench(digits_population(), tmp_path / "loud", defense=DpSgd(noise_multiplier=2.0, clip=0.5)).history()
    assert _distance(loud, "same-noise") == 0.0
    assert _distance(loud, "same-coins") > 0.5


def test_repeated_coins_amplify_nothing_and_repeated_noise_protects_nobody(tmp_path: Path) -> None:
    spent = {}
    for coupling in ("same-order", "same-coins", "same-noise"):
        (tmp_path / coupling).mkdir()
        bench = Bench(
            digits_population(), tmp_path / coupling, defense=DpSgd(clip=0.5), privacy_budget=PrivacyBudget(METER)
        )
        processed = bench.serve(Retrain(coupling=coupling), [REQUEST])
        assert bench.account is not None
        spent[coupling] = bench.account, privacy_entry(bench.account, PrivacyBudget(METER), processed)
    of_order, of_coins, of_noise = (account for account, _ in spent.values())
    deleted = of_order.spent(1, 3, record=0)
    assert deleted == of_coins.spent(1, 3, record=0)
    assert of_coins.spent(1, 3)[1.0, 1.0] == sum(of_order.spent(1, 3).values()) - sum(deleted.values())
    assert spent["same-order"][1]["epsilon_max"] < spent["same-coins"][1]["epsilon_max"] < math.inf
    assert spent["same-noise"][1]["epsilon_max"] is None
    assert spent["same-noise"][1]["deleted"].keys() == spent["same-noise"][1]["retained"].keys() == {"before"}
    assert METER.of(of_noise.spent(1, 3, record=0)) == math.inf
    assert blow_up(of_noise.spent(1, 3, record=0), 0.01) == 1.0


def test_a_budget_refuses_noise_that_is_drawn_twice(tmp_path: Path) -> None:
    bench = Bench(
        digits_population(), tmp_path, defense=DpSgd(clip=0.5), privacy_budget=PrivacyBudget(METER, budget=100.0)
    )
    assert bench.serve(Retrain(coupling="same-noise"), [REQUEST]) == []
    assert "would have a record spend epsilon = inf" in (tmp_path / "ledger.jsonl").read_text()


@pytest.mark.parametrize("coupling", ["same-coins", "same-noise"])
def test_what_the_operating_system_drew_is_not_drawn_again(coupling: str) -> None:
    with pytest.raises(ScenarioError, match=f"coupling = '{coupling}' with privacy.secure_noise = true: .*same-order"):
        small_scenario(
            name="twice",
            unlearning=[{"method": "retrain", "coupling": coupling}],
            defense=[{"kind": "dp-sgd"}],
            privacy={"secure_noise": True},
        )
