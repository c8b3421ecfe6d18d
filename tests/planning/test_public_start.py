"""Release 0 that the public sample has trained."""

from pathlib import Path

import numpy as np
import pytest
import torch

from palimpsest.simulator.planning.plan import plan
from palimpsest.simulator.planning.prepared import PreparedTraining
from palimpsest.simulator.scenario.load import Scenario, ScenarioError, scenario_from_dict
from palimpsest.simulator.world.models.batches import drawn
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.seeding import generator


def scenario(**training: object) -> Scenario:
    return scenario_from_dict(
        {
            "name": "started",
            "data": {"source": "digits", "clients": 4},
            "model": {"kind": "softmax", "l2": 0.01},
            "training": {"start": "public", "start_epochs": 2, **training},
        }
    )


def preparation(chosen: Scenario, root: Path) -> PreparedTraining:
    return PreparedTraining.of(chosen, plan(chosen).prefixes[0], root)


def test_it_is_the_clients_own_sgd_on_public_records(tmp_path: Path) -> None:
    """A plain torch loop over the same batches ends in the same model."""
    prepared = preparation(scenario(batch_size=16, learning_rate=0.1), tmp_path)
    setup, population = prepared.setup, prepared.population
    recipe = setup.plan.recipe.model_copy(update={"local_epochs": 2})
    batches = drawn(len(population.public_x), (), recipe, generator(0, "public start"), False)
    model = model_of(setup.spec)
    start = {name: torch.tensor(value) for name, value in model.init(generator(0, "init")).items()}
    weight, bias = (torch.nn.Parameter(start[name].clone()) for name in ("weight", "bias"))
    optimiser = torch.optim.SGD([weight, bias], lr=0.1)
    x, y = torch.tensor(np.asarray(population.public_x)).float(), torch.tensor(np.asarray(population.public_y))
    for rows in batches:
        some = rows[rows >= 0]
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(x[some] @ weight.T + bias, y[some])
        (loss + recipe.l2 / 2 * (weight.square().sum() + bias.square().sum())).backward()
        optimiser.step()
    made = setup.start
    assert made is not None
    np.testing.assert_allclose(made["weight"], weight.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(made["bias"], bias.detach().numpy(), atol=1e-5)


def test_it_reads_no_private_record(tmp_path: Path) -> None:
    def started(clients: int) -> Params:
        made = preparation(
            scenario_from_dict(
                {
                    "name": "started",
                    "data": {"source": "digits", "clients": clients},
                    "model": {"kind": "cnn"},
                    "training": {"start": "public", "start_epochs": 1},
                }
            ),
            tmp_path,
        ).setup.start
        assert made is not None
        return made

    few, many = started(3), started(9)
    assert all(np.array_equal(few[name], many[name]) for name in few)


@pytest.mark.parametrize("algorithm", ["lbfgs", "closed-form"])
def test_an_optimum_has_no_start(algorithm: str) -> None:
    with pytest.raises(ScenarioError, match=r"start = 'public' is for algorithm = 'fedavg' or 'fedsgd'"):
        scenario(algorithm=algorithm)
