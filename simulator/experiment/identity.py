"""Which arm this is, and under which conditions it was attacked: the beginning of its entry of ``results.json``."""

from typing import Any

from palimpsest.simulator.experiment.inputs import ArmInputs
from palimpsest.simulator.experiment.knowledge import conditions
from palimpsest.simulator.world.data.population import AbstractPopulation


def identity(inputs: ArmInputs) -> dict[str, Any]:
    """Which arm this is, and under which conditions it was attacked."""
    arm, preparation = inputs.arm, inputs.shared.preparation
    return {
        "arm": arm.id,
        "variant": arm.setting.variant,
        "unlearning": arm.unlearning.model_dump(mode="json"),
        "defense": arm.defense.model_dump(mode="json"),
        "seed": arm.seed,
        "data": _data(preparation.population),
        "deletion": {
            "level": arm.setting.deletion.level,
            "records": max(r.size for r in preparation.requests),
            "pattern": arm.setting.deletion.pattern,
        },
        "conditions": conditions(arm, preparation),
    }


def _data(population: AbstractPopulation) -> dict[str, Any]:
    """What the data are, and how many."""
    schema = population.schema
    about = {"source": schema.name, **schema.model_dump(mode="json", include={"task", "shape", "class_names"})}
    about["feature_names"] = schema.feature_names
    counts = {"clients": population.clients, "records": population.records}
    return {**about, **counts, "public": len(population.public_x), "test": len(population.test_x)}
