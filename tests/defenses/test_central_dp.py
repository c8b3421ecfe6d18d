"""Client-level privacy at the server: equal weights, noise that nobody's absence shrinks, and a clip that adapts."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from palimpsest.clients.clipping import clipped_sum
from palimpsest.defenses.central_dp import CentralDp
from palimpsest.server.aggregation import aggregated
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.testing.servers import FEDAVG, SOFTMAX
from palimpsest.simulator.world.privacy.account import Account
from palimpsest.simulator.world.protocols.defense import Round
from palimpsest.simulator.world.protocols.federation import BlockResult
from palimpsest.simulator.world.seeding import generator
from tests.support.noise import assert_deviation

LARGE = 5000


def _round(expected: float, seed: int = 0, **memory: float) -> Round:
    return Round(expected, generator(seed, "noise"), memory)


def _zeros(clients: float = 0.0, **metrics: float) -> BlockResult:
    return BlockResult({"weight": np.zeros((50, 100)), "bias": np.zeros(10)}, clients, metrics)


def _setup(**changes: object) -> Setup:
    settings: dict[str, Any] = {
        "defense": CentralDp(noise_multiplier=1.5, clip=0.5),
        "account": Account("client", np.arange(1, 13)),
    }
    return Setup(SOFTMAX, **({"plan": FEDAVG, "sizes": np.arange(1, 13)} | settings | changes))


@pytest.mark.parametrize("came", [0.0, 3.0, 10.0])
def test_the_step_is_the_sum_over_the_expected_cohort_whoever_came(came: float) -> None:
    """With N(0, (z S)^2) on the sum, which is z S / m on the step."""
    through, _ = CentralDp(noise_multiplier=1.5, clip=0.5).aggregate(_zeros(came), _round(10.0))
    assert through.weight == 10.0
    assert_deviation(through.sums["weight"] / through.weight, 1.5 * 0.5 / 10.0)


def test_a_round_to_which_nobody_came_still_gets_its_noise() -> None:
    shapes = {"weight": np.zeros((50, 100))}
    through, _ = aggregated(_setup(), Lineage(branch=0, forget={}), 3, shapes, None, [], {})
    assert through.weight == FEDAVG.clients_per_round
    assert_deviation(through.sums["weight"], 1.5 * 0.5)


def test_noise_is_fresh_for_every_round_and_lineage() -> None:
    setup, shapes, found = _setup(plan=FEDAVG.model_copy(update={"shards": 2})), {"weight": np.zeros((4, 4))}, []
    lineages = [Lineage(0, {}), Lineage(0, {}, noise=("other",)), Lineage(0, {}, shard=0), Lineage(0, {}, shard=1)]
    for lineage, round in [(lineage, round) for lineage in lineages for round in (0, 1)]:
        found.append(aggregated(setup, lineage, round, shapes, None, [], {})[0].sums["weight"].tobytes())
    assert len(set(found)) == len(found)


def test_updates_are_clipped_to_the_same_length_and_weigh_the_same() -> None:
    """Whatever they hold: a client of 1000 records and one of a single record; a null update stays null."""
    updates = {"a": torch.tensor([[3.0, 0.0], [0.0, 0.1], [0.0, 0.0]]), "b": torch.tensor([[4.0], [0.0], [0.0]])}
    result = clipped_sum(updates, np.array([1000, 1, 0]), 1.0)
    np.testing.assert_allclose(result.sums["a"], [0.6, 0.1], atol=1e-12)
    np.testing.assert_allclose(result.sums["b"], [0.8], atol=1e-12)
    assert result.weight == 3.0
    assert result.metrics == {"unclipped": 1.0, "counted": 2.0}


@pytest.mark.parametrize("unclipped", [0, LARGE // 2, LARGE])
def test_the_clip_grows_where_too_many_are_clipped_and_shrinks_where_too_few_are(unclipped: int) -> None:
    """log C moves by -eta (share unclipped - target); with 5000 clients the count's noise is small."""
    defense = CentralDp(noise_multiplier=1.0, target_quantile=0.5, clip_learning_rate=0.2, count_noise=1.0)
    total = _zeros(LARGE, unclipped=float(unclipped), counted=float(LARGE))
    _, memory = defense.aggregate(total, _round(LARGE, clip=2.0))
    moved = math.log(memory["clip"] / 2.0)
    assert moved == pytest.approx(-0.2 * (unclipped / LARGE - 0.5), abs=0.2 * 6.0 / LARGE)
    assert defense.client_update(memory) == memory["clip"]


def test_the_count_has_its_noise_and_both_together_cost_what_z_says() -> None:
    """z^-2 = z'^-2 + (2 sigma_b)^-2: a count of +-1/2 has sensitivity 1/2."""
    defense = CentralDp(noise_multiplier=1.0, target_quantile=0.5, clip_learning_rate=1.0, count_noise=0.8)
    assert defense.update_noise(10.0) ** -2 + (2.0 * 0.8) ** -2 == pytest.approx(1.0)
    through, _ = defense.aggregate(_zeros(), _round(10.0))
    assert_deviation(through.sums["weight"], defense.update_noise(10.0))
    logs = [math.log(defense.aggregate(BlockResult({}, 0.0), _round(10.0, seed))[1]["clip"]) for seed in range(2000)]
    assert_deviation(np.array(logs), 0.8 / 10.0)
    with pytest.raises(ValidationError, match=r"count_noise = 0\.5 alone costs as much"):
        CentralDp(noise_multiplier=1.0, count_noise=0.5)


def test_who_took_part_pays_and_where_sampling_is_secret_everybody_does_at_its_rate() -> None:
    shapes = {"weight": np.zeros(3)}
    seen = _setup()
    aggregated(seen, Lineage(0, {}), 0, shapes, None, [2, 5], {})
    assert [bool(spent) for spent in seen.account.of_everybody(0)] == [client in (2, 5) for client in range(12)]
    assert seen.account.spent(0, 2) == {(1.5, 1.0): 1}
    poisson = FEDAVG.model_copy(update={"sampling_rate": 0.25, "clients_per_round": 0})
    secret = _setup(plan=poisson, sampling_is_secret=True, account=Account("client", np.arange(1, 13)))
    aggregated(secret, Lineage(0, {}), 0, shapes, None, [2, 5], {})
    assert secret.account.of_everybody(0) == [{(1.5, 0.25): 1}] * 12
    fixed = _setup(sampling_is_secret=True, account=Account("client", np.arange(1, 13)))
    aggregated(fixed, Lineage(0, {}), 0, shapes, None, [2, 5], {})
    assert fixed.account.spent(0, 2) == {(1.5, 1.0): 1}
