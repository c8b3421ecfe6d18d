"""The records that the adversary holds: the public sample, or what a scenario makes of it."""

import numpy as np

from palimpsest.simulator.scenario.sections import Setting
from palimpsest.simulator.world.data.foreign import foreign_sample
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import generator


def sample(setting: Setting, population: AbstractPopulation, seed: int) -> tuple[Array, Array]:
    """``([m, d] float64, [m])`` the records that the adversary holds.

    Raises:
        DataError: there are none, or fewer than it shall know, or they have other columns than the data.
    """
    adversary = setting.adversary
    x, y = np.asarray(population.public_x), np.asarray(population.public_y)
    if adversary.public_source or adversary.public_sites:
        source = adversary.public_source or setting.data.source
        x, y = foreign_sample(setting.data, seed, source, adversary.public_sites, len(x))
    chosen = np.arange(len(x))
    if adversary.public_classes:
        if population.schema.task == "regression":
            raise DataError(f"adversary.public_classes needs classes, and {population.schema.name!r} has none")
        chosen = chosen[np.isin(y, adversary.public_classes)]
        if not len(chosen):
            raise DataError(
                f"adversary.public_classes = {list(adversary.public_classes)}: the sample has no record of these"
            )
    if adversary.public_records > len(chosen):
        raise DataError(
            f"adversary.public_records = {adversary.public_records}: the public sample has {len(chosen)} records that "
            f"it may know; give at most as many, or 0 for all"
        )
    if 0 < adversary.public_records < len(chosen):
        drawn = generator(seed, "adversary-sample").permutation(chosen)
        chosen = np.sort(drawn[: adversary.public_records])
    records = x[chosen].astype(np.float64)
    if adversary.public_noise:
        records += adversary.public_noise * generator(seed, "adversary-sample-noise").standard_normal(records.shape)
        records = np.clip(records, population.box_low, population.box_high)
    return records, y[chosen]
