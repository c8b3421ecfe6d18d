"""A training as the server needs it, from a variant's settings and its data."""

from palimpsest.server.setup import Setup, TrainingPlan
from palimpsest.simulator.planning.plan import Setting
from palimpsest.simulator.scenario.strategy import strategy_of
from palimpsest.simulator.world.data.build import median_bandwidth
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.models.kinds import CARDS, model_card
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import FeatureSpec, ModelOptions, ModelSpec, Recipe


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
    return ModelSpec(
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
            batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            momentum=training.momentum,
            optimizer=training.optimizer,
            l2=penalty(setting, records) / records,
        ),
        gradient_norm=training.stop.gradient_norm,
        max_evaluations=training.stop.max_evaluations,
        perturbation=training.perturbation,
    )
