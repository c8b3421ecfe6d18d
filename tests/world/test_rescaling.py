"""Networks at other scales compute the same, and a step along a gradient survives them."""

import numpy as np
import pytest

from palimpsest.simulator.testing.transcripts import ascending, digits
from palimpsest.simulator.world.models.model import flat, model_of
from palimpsest.simulator.world.models.rescaling import KINDS, hidden_sizes, nearest, rescaled
from palimpsest.simulator.world.records import Params


def shaken(params: Params, sigma: float = 0.5) -> Params:
    rng = np.random.default_rng(1)
    return rescaled(params, [np.exp(sigma * rng.standard_normal(size)) for size in hidden_sizes(params)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_rescaled_network_computes_the_same_far_away(kind: str) -> None:
    data = digits()
    model = model_of(data.spec(kind, 0.0))
    params = model.init(np.random.default_rng(0))
    moved = shaken(params)
    assert np.abs(model.predict(params, data.x[:50]) - model.predict(moved, data.x[:50])).max() < 1e-9
    assert np.linalg.norm(flat(moved) - flat(params)) > 0.2 * np.linalg.norm(flat(params))


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_rescaling_gives_a_gradient_step_back(kind: str) -> None:
    """Off by the square of the step: a tenth of the step, a hundredth of the error."""
    data = digits()
    errors = []
    for step in (1e-2, 1e-3):
        [case] = ascending(data, data.spec(kind, 0.0), [[0]], step)
        change = flat(case.after) - flat(case.before)
        back = flat(nearest(shaken(case.after), case.before)) - flat(case.before)
        errors.append(np.linalg.norm(back - change))
        assert errors[-1] < 0.1 * np.linalg.norm(change)
    assert errors[1] < 0.03 * errors[0]
