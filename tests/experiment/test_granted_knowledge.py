"""What a scenario grants an audit's adversary: the defense's clip and noise, all other records, and no ground truth."""

from pathlib import Path

import numpy as np

from palimpsest.simulator.experiment.attacked import grant
from palimpsest.simulator.experiment.observers import Observers
from palimpsest.simulator.experiment.runner import prepare
from palimpsest.simulator.experiment.served import ArmInputs, serve
from palimpsest.simulator.experiment.training import SharedTraining
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.federation.threads import one_thread
from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.planning.privacy import EpsilonMeter
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from tests.support.scenarios import small_scenario


def test_the_rest_is_every_record_but_those_of_any_deletion_in_no_order_that_tells(tmp_path: Path) -> None:
    scenario = small_scenario(
        data={"source": "digits", "clients": 3, "public_fraction": 0.3, "test_fraction": 0.1},
        model={"kind": "softmax"},
        training={"rounds": 1, "clients_per_round": 0, "batch_size": 50, "learning_rate": 0.1},
        deletion={"requests": 4},
        unlearning=[{"method": "ascent"}],
        defense=[{"kind": "stack", "of": [{"kind": "dp-sgd", "target_epsilon": 4.0}, {"kind": "obfuscation"}]}],
        attack=[{"kind": "likelihood-ratio"}],
        adversary={"knows": ["rest"]},
        seeds=[0],
    )
    [prefix], [ground] = plan(scenario).prefixes, prepare(scenario)
    with one_thread():
        trunk = SharedTraining.of(ground, SerialGrid(1), (), tmp_path / "scratch")
        for _ in trunk.train(EpsilonMeter(scenario.privacy.delta, scenario.privacy.accountant)):
            pass
        inputs = ArmInputs(scenario, prefix.arms[0], trunk)
        result = serve(inputs, tmp_path / "arm", tmp_path / "ledger.jsonl", Observers([]))
    grant(inputs, result).knowledge.save(tmp_path / "arm")
    known = PublicKnowledge.open(tmp_path / "arm" / "knowledge.json")
    assert known.facts.granted == ("rest",)
    [steps, releases] = known.facts.defense
    assert steps["kind"] == "dp-sgd"
    assert steps["noise_multiplier"] > 0.1, "as it was calibrated"
    assert releases["kind"] == "obfuscation"
    population = ground.population
    gone = np.concatenate([population.rows(c, r) for p in result.processed for c, r in p.case.request.forget.items()])
    kept = population.take(np.setdiff1d(np.arange(population.records), gone))[0].astype(np.float64)
    assert known.rest is not None
    assert len(known.rest.y) == population.records - 4
    assert np.array_equal(np.unique(known.rest.x, axis=0), np.unique(kept, axis=0))
    assert not np.array_equal(known.rest.x, kept), "shuffled"
