"""Objective perturbation: a random linear term that hides how far from the optimum a model is."""

from palimpsest.server.setup import Setup
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.seeding import Key, generator


def drawn(setup: Setup, key: Key) -> Params:
    """b ~ N(0, sigma^2) of the shape of the model, float64; zeros where the objective is not perturbed."""
    rng, shapes = generator(setup.seed, *key), model_of(setup.spec).shapes
    return {name: setup.plan.perturbation * rng.standard_normal(shape) for name, shape in shapes.items()}
