"""A training that goes on from a model which the public sample made, as where a published model is fine-tuned."""

import numpy as np
import torch

from palimpsest.server.setup import Setup
from palimpsest.simulator.scenario.sections import Setting
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.models.batches import drawn, fillable
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.models.precision import multiplying
from palimpsest.simulator.world.models.training import Slot, fit
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.seeding import generator


def public_start(setting: Setting, population: AbstractPopulation, setup: Setup, seed: int) -> Params | None:
    """Release 0: a model that clients' SGD has trained on the public sample; None where it is drawn at random.

    Raises:
        DataError: there is no public sample.
    """
    if setting.training.start != "public":
        return None
    count = len(population.public_x)
    if not count:
        raise DataError("training.start = 'public': there are no public records; give data.public_fraction")
    model, plan = model_of(setup.spec), setup.plan.recipe
    epochs, batch = setting.training.start_epochs, fillable(setting.training.batch_size, count)
    changes = {"local_epochs": epochs, "local_steps": 0, "private": None, "batch_size": batch}
    recipe = plan.model_copy(update=changes)
    batches = drawn(count, (), recipe, generator(seed, "public start"), False)
    classes = setup.spec.task == "classification"
    x = torch.tensor(np.asarray(population.public_x), dtype=model.dtype)
    y = torch.tensor(np.asarray(population.public_y), dtype=torch.int64 if classes else model.dtype)
    initial = model.tensors(model.init(generator(seed, "init")))
    with multiplying("highest"):
        trained = fit(model, {name: value[None] for name, value in initial.items()}, [Slot(0, batches)], x, y, recipe)
    return {name: value[0].numpy() for name, value in trained.items()}
