"""A training as the server needs it, from a variant's settings and its data."""

import math

from palimpsest.server.setup import Setup, TrainingPlan
from palimpsest.simulator.planning.plan import Setting
from palimpsest.simulator.scenario.strategy import strategy_of
from palimpsest.simulator.world import machine
from palimpsest.simulator.world.data.build import median_bandwidth
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.models.batches import fillable
from palimpsest.simulator.world.models.kinds import CARDS, model_card
from palimpsest.simulator.world.models.size import bytes_of
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import FeatureSpec, ModelOptions, ModelSpec, Recipe

_COPIES = 4
"""Of a model that is trained, at least: as it was, as it is, its gradient, and room for a step."""


def model_spec(setting: Setting, population: AbstractPopulation, seed: int) -> ModelSpec:
    """Resolve a model for a population.

    Raises:
        DataError: the model does not fit the data.
    """
    model, schema, card = setting.model, population.schema, model_card(setting.model.kind)
    if schema.task not in card.tasks:
        target = "a real-valued target" if schema.task == "regression" else "classes"
        others = [name for name, other in CARDS.items() if schema.task in other.tasks]
        raise DataError(
            f"model.kind = {model.kind!r} is for {' and '.join(card.tasks)}, but {schema.name} has {target}: take one "
            f"of {', '.join(others)}"
        )
    if card.images_only and not schema.is_image:
        others = [name for name, other in CARDS.items() if not other.images_only]
        raise DataError(
            f"model.kind = {model.kind!r} needs images, but {schema.name} is a table: take one of {', '.join(others)}"
        )
    features = None
    if model.features is not None:
        given = model.features.bandwidth
        width = median_bandwidth(population.public_x) if given == "median" else float(given)
        # The features' seed is public; the scenario's, from which all draws of private data derive, must not be it.
        public_seed = int(generator(seed, "features").integers(2**31))
        features = FeatureSpec(dimension=model.features.dimension, bandwidth=width, seed=public_seed)
    spec = ModelSpec(
        kind=model.kind,
        task=schema.task,
        shape=schema.shape,
        outputs=schema.outputs,
        regularisation=penalty(setting, population.records),
        options=ModelOptions(model.options),
        dropout=model.dropout,
        features=features,
        dtype="float64" if setting.training.algorithm in ("lbfgs", "closed-form") else "float32",
    )
    _check_size(setting, spec)
    return spec


def _check_size(setting: Setting, spec: ModelSpec) -> None:
    """Refuse a model that no run on this machine could hold, before it takes any memory.

    Raises:
        DataError: names the key that is too large.
    """
    needed, there = _COPIES * bytes_of(spec), machine.memory()
    if needed <= there:
        return
    keys = {f"model.{key}": value for key, value in spec.options.root.items() if isinstance(value, int)}
    if spec.features is not None:
        keys["model.features.dimension"] = spec.features.dimension
    largest, width = max(keys, key=lambda key: keys[key], default=""), math.prod(spec.shape)
    of_records = f"data.source = {setting.data.source!r}, whose records have {width:,} values"
    named = of_records if keys.get(largest, 0) <= width else f"{largest} = {keys[largest]}"
    raise DataError(
        f"{named}: the model alone takes {machine.shown(needed)} with its gradient, and this machine has "
        f"{machine.shown(there)}: give less"
    )


def setup_of(setting: Setting, population: AbstractPopulation, seed: int) -> Setup:
    """The training of a setting on a population.

    Raises:
        DataError: they do not fit.
    """
    return Setup(
        model_spec(setting, population, seed), _training_plan(setting, population), population.sizes, seed=seed
    )


def penalty(setting: Setting, records: int) -> float:
    """lambda for so many training records: as given, or l2 times their number."""
    if setting.model.regularisation is not None:
        return setting.model.regularisation
    return (setting.model.l2 or 0.0) * records


def _training_plan(setting: Setting, population: AbstractPopulation) -> TrainingPlan:
    training = setting.training
    records = population.records
    if training.clients_per_round and training.clients_per_round > population.clients:
        raise DataError(
            f"training.clients_per_round = {training.clients_per_round}: there are {population.clients} clients"
        )
    if training.shards > population.clients:
        raise DataError(f"training.shards = {training.shards}: there are {population.clients} clients")
    return TrainingPlan(
        algorithm=training.algorithm,
        rounds=training.rounds,
        clients_per_round=0 if training.sampling else training.clients_per_round or 0,
        sampling_rate=training.sampling.rate if training.sampling else 0.0,
        schedule=training.schedule,
        decay=training.decay,
        strategy=strategy_of(training.strategy, training.strategy_options),
        shards=training.shards,
        recipe=Recipe(
            local_epochs=training.local_epochs,
            local_steps=training.local_steps,
            batch_size=fillable(training.batch_size, int(population.sizes.max())),
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            optimizer=training.optimizer,
            l2=penalty(setting, records) / records,
        ),
        gradient_norm=training.stop.gradient_norm,
        max_evaluations=training.stop.max_evaluations,
        perturbation=training.perturbation,
    )
