"""A teleported release hides the deleted record from who looks at the difference, and from nobody who rescales it."""

from dataclasses import replace

import numpy as np
import pytest

from palimpsest.attacks.inversion import Inversion
from palimpsest.defenses.teleportation import Teleportation
from palimpsest.simulator.scenario.load import ScenarioError
from palimpsest.simulator.testing.transcripts import ascending, cosines, digits
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.records import Release
from palimpsest.simulator.world.seeding import generator
from tests.support.scenarios import small_scenario


def test_training_is_released_as_it_is_and_unlearning_anew_each_time() -> None:
    [case] = ascending(digits(), digits().spec("cnn", 0.0), [[0]], 0.1)
    guard, rng = Teleportation(), np.random.default_rng(0)
    training, *unlearned = (
        flat(guard.release(Release(1, 0, phase, case.after), rng).params)
        for phase in ("training", "unlearning", "unlearning", "recovery")
    )
    assert np.array_equal(training, flat(case.after))
    assert all(np.linalg.norm(one - flat(case.after)) > 0.1 for one in unlearned)
    assert np.linalg.norm(unlearned[0] - unlearned[1]) > 0.1


def test_it_hides_the_difference_until_the_release_is_rescaled() -> None:
    data = digits(public=200)
    spec, rows = data.spec("cnn", 0.0), [0, 1, 2]
    rng = np.random.default_rng(0)
    cases = [
        replace(case, after=Teleportation().release(Release(1, 0, "unlearning", case.after), rng).params)
        for case in ascending(data, spec, [[row] for row in rows], 0.1)
    ]
    naive, realigned = (
        np.concatenate([one.x for one in how.run(cases, data.knowledge(spec, "identity", 0.1), generator(0, "test"))])
        for how in (Inversion(restarts=2), Inversion(restarts=2, realigns=True))
    )
    mean = data.public_x.mean(axis=0)
    assert np.median(cosines(naive, data.x[rows], mean)) < 0.3
    assert np.median(cosines(realigned, data.x[rows], mean)) > 0.9


def test_a_model_without_hidden_units_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"teleportation.*softmax"):
        small_scenario(model={"kind": "softmax"}, defense=[{"kind": "teleportation"}])
