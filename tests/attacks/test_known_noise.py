"""What is known of a noised round is what the clients' private steps make of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from palimpsest.attacks.known_noise import round_noise
from palimpsest.clients.private import PrivateSlot, fit_privately
from palimpsest.simulator.testing.transcripts import digits
from palimpsest.simulator.world.models.model import flat, model_of
from palimpsest.simulator.world.specs import PrivateSteps, Recipe


def test_the_step_of_a_private_round_is_that_of_its_expected_batch() -> None:
    """25 records in batches of 10 make three steps an epoch, each over 25 / 3 records: not 2.5 steps."""
    data = digits(private=25, public=20)
    spec = data.spec("softmax", 0.0)
    model, rate, slots = model_of(spec), 1e-4, 400
    recipe = Recipe(batch_size=10, learning_rate=rate, private=PrivateSteps(clip=0.5, noise_multiplier=1e-9))
    zero = {name: np.zeros(shape) for name, shape in model.shapes.items()}
    start = {name: torch.from_numpy(value[None]).to(model.dtype) for name, value in zero.items()}
    x, y = np.repeat(data.x[:1], 25, axis=0), np.repeat(data.y[:1], 25)  # one record: all clipped gradients are equal
    each = [PrivateSlot(0, np.arange(25), np.random.default_rng(i)) for i in range(slots)]
    moved = fit_privately(model, start, each, torch.from_numpy(x).float(), torch.from_numpy(y), recipe)
    mean = flat({name: value.numpy().mean(axis=0, dtype=np.float64) for name, value in moved.items()})

    known = data.knowledge(spec)
    training = {"learning_rate": rate, "batch_size": 10, "local_epochs": 1, "local_steps": 0}
    facts = known.facts.model_copy(
        update={
            "n": 25,
            "clients": 1,
            "algorithm": "fedavg",
            "training": training | {"clients_per_round": 0, "sampling": None},
            "defense": ({"kind": "dp-sgd", "noise_multiplier": 1e-9, "clip": 0.5},),
        }
    )
    # All 25 gradients have the length of the clip.
    wanted = np.linalg.norm(mean) / (25 * 0.5)
    assert round_noise(replace(known, facts=facts)).step == pytest.approx(wanted, rel=0.03)
