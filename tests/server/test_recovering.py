"""Methods that change the model in one go and then train on: the change itself, against its formula."""

from pathlib import Path
from typing import Any

import numpy as np

from palimpsest.server.unlearning.finetune import Finetune
from palimpsest.server.unlearning.negate import Not
from palimpsest.server.unlearning.puf import Puf
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, SOFTMAX, Bench
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.federation import Block
from palimpsest.simulator.world.protocols.questions import Gradient
from palimpsest.simulator.world.records import DeletionRequest
from palimpsest.simulator.world.specs import Recipe

FULL_BATCH = FEDAVG.model_copy(update={"recipe": Recipe(batch_size=300, learning_rate=0.1, l2=0.01)})


def _bench(directory: Path, **settings: Any) -> Bench:
    directory.mkdir(parents=True, exist_ok=True)
    return Bench(digits_population(), directory, **settings)


def _leave(bench: Bench, *clients: int) -> DeletionRequest:
    sizes = bench.population.sizes
    return DeletionRequest(0, bench.plan.rounds, "client", {c: tuple(range(int(sizes[c]))) for c in clients})


def test_puf_subtracts_the_leavers_ordinary_update_by_their_share(tmp_path: Path) -> None:
    """In one full-batch step the leavers' weighted mean update is minus the rate times their pooled gradient."""
    bench = _bench(tmp_path, plan=FULL_BATCH)
    request = _leave(bench, 3, 5)
    [once] = bench.serve(Puf(scale=1.0, rounds=0), [request])
    [thrice] = bench.but(arm="thrice").serve(Puf(scale=3.0, rounds=0), [request])
    before = once.case.before
    [result] = bench.but(arm="other").federation().ask(Gradient(SOFTMAX, [Block(0, 1, (3, 5), {})], [before]))
    step = -0.1 * (flat(result.sums) / result.weight + 0.01 * flat(before))
    sizes, cohort = bench.population.sizes, bench.history().retrainer.members(once.case, 0)
    assert not {3, 5}.intersection(cohort)
    share = sizes[[3, 5]].sum() / (sizes[[3, 5]].sum() + sizes[list(cohort)].sum())
    assert np.abs((flat(once.released) - flat(thrice.released)) - 2.0 * share * step).max() < 1e-5
    [ordinary] = bench.but(arm="ordinary").serve(Finetune(rounds=1), [request])
    rest = flat(ordinary.released) - flat(before)
    assert np.abs(flat(once.released) - (flat(before) + (1.0 - share) * rest - share * step)).max() < 1e-5


def test_a_puf_leaver_counts_as_much_as_in_the_authors_code(tmp_path: Path) -> None:
    """Where everybody takes part and all are equal, one of m leavers' updates counts -20 / m times."""
    assert Puf().scale == 20.0
    bench = _bench(tmp_path, plan=FULL_BATCH.model_copy(update={"clients_per_round": 0}))
    request = _leave(bench, 3)
    [processed] = bench.serve(Puf(rounds=0), [request])
    before = flat(processed.case.before)
    [result] = bench.but(arm="o").federation().ask(Gradient(SOFTMAX, [Block(0, 1, (3,), {})], [processed.case.before]))
    leaver = -0.1 * (flat(result.sums) / result.weight + 0.01 * before)
    [ordinary] = bench.but(arm="ordinary").serve(Finetune(rounds=1), [request])
    share = bench.population.sizes[3] / bench.population.sizes.sum()
    expected = before + (1.0 - share) * (flat(ordinary.released) - before) - 20.0 * share * leaver
    assert np.abs(flat(processed.released) - expected).max() < 1e-5


def test_not_negates_the_first_weights_alone(tmp_path: Path) -> None:
    for kind, first in (("mlp", "0.weight"), ("cnn", "1.weight")):
        bench = _bench(tmp_path / kind, spec=SOFTMAX.model_copy(update={"kind": kind}))
        [processed] = bench.serve(Not(rounds=0), [_leave(bench, 3)])
        for name, value in processed.released.items():
            expected = -processed.case.before[name] if name == first else processed.case.before[name]
            assert np.array_equal(value, expected), (kind, name)


def test_recovery_goes_on_where_the_change_ended(tmp_path: Path) -> None:
    for unlearner, rounds in ((Puf(rounds=2), [5, 6, 7]), (Not(rounds=2), [4, 5, 6])):
        bench = _bench(tmp_path / unlearner.method)
        [processed] = bench.serve(unlearner, [_leave(bench, 3)])
        releases = [release for release in bench.broadcast if release.branch == 1]
        assert [release.round for release in releases] == rounds
        assert [release.phase for release in releases] == ["unlearning", "recovery", "recovery"]
        [processed] = bench.but(arm="change").serve(type(unlearner)(rounds=0), [_leave(bench, 3)])
        assert np.array_equal(flat(processed.released), flat(releases[0].params))
