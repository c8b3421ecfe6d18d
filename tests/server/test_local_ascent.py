"""The leaver unlearns by itself within a round: its steps and what they count for, against autograd."""

from pathlib import Path

import numpy as np
import torch

from palimpsest.server.unlearning.finetune import Finetune
from palimpsest.server.unlearning.local_ascent import LocalAscent
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, SOFTMAX, Bench
from palimpsest.simulator.world.models.model import flat, model_of
from palimpsest.simulator.world.records import Array, DeletionRequest, Params

LEAVER, RATE = 4, 0.1


def climbed(bench: Bench, before: Params, batches: list[list[int]]) -> Array:
    """Where steps up the mean loss of these records of the leaver lead, less where they began."""
    model, population = model_of(SOFTMAX), bench.population
    here = {name: value.clone() for name, value in model.tensors(before).items()}
    rows = population.rows(LEAVER)
    for batch in batches:
        params = {name: value.clone().requires_grad_() for name, value in here.items()}
        x = torch.tensor(population.train_x[rows[batch]], dtype=model.dtype)
        loss = model.losses(model.scores(params, x), torch.tensor(population.train_y[rows[batch]])).mean()
        slopes = torch.autograd.grad(loss, list(params.values()))
        here = {name: here[name] + RATE * slope for name, slope in zip(params, slopes, strict=True)}
    return flat({name: value.numpy() for name, value in here.items()}) - flat(before)


def test_the_leaver_climbs_alone_and_counts_by_what_it_had(tmp_path: Path) -> None:
    bench = Bench(digits_population(), tmp_path)
    batch = bench.plan.recipe.batch_size
    gone = list(range(batch + 2))  # a minibatch and a rest
    request = DeletionRequest(0, bench.plan.rounds, "record", {LEAVER: tuple(gone)})
    [processed] = bench.serve(LocalAscent(epochs=2, learning_rate=RATE), [request])
    [ordinary] = bench.but(arm="ordinary").serve(Finetune(rounds=1), [request])
    before = processed.case.before
    cohort = [client for client in bench.history().retrainer.members(processed.case, 0) if client != LEAVER]
    leaver = climbed(bench, before, [gone[:batch], gone[batch:]] * 2)
    sizes = bench.population.sizes
    assert LEAVER not in bench.history().retrainer.members(ordinary.case, 0)  # else its training would be in the rest
    rest = flat(ordinary.released) - flat(before)
    share = sizes[LEAVER] / (sizes[LEAVER] + sizes[cohort].sum())
    assert np.linalg.norm(share * leaver) > 1e-3
    expected = (1.0 - share) * rest + share * leaver
    assert np.abs(flat(processed.released) - flat(before) - expected).max() < 1e-6


def test_the_round_is_followed_by_as_many_of_recovery_as_asked(tmp_path: Path) -> None:
    bench = Bench(digits_population(), tmp_path, plan=FEDAVG)
    bench.serve(LocalAscent(rounds=2), [DeletionRequest(0, FEDAVG.rounds, "record", {LEAVER: (0,)})])
    phases = [(release.round, release.phase) for release in bench.broadcast if release.branch == 1]
    assert phases == [(5, "unlearning"), (6, "recovery"), (7, "recovery")]
