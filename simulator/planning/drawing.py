"""How deletions are drawn, as far as it changes what somebody may guess of them before any model is seen."""

from collections.abc import Iterator

import numpy as np

from palimpsest.simulator.scenario.sections import DeletionConfig
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.records import Array


def strata_of(deletion: DeletionConfig, population: AbstractPopulation, alike: bool) -> Array | None:
    """Groups of records within which every record is equally likely to be deleted.

    Clients are drawn, and not records: a record of a small client is deleted more often than one of a large client.
    Classes are drawn in the same way.

    Args:
        deletion: how many of what.
        population: the clients.
        alike: whether all clients hold records of one distribution, so that it does not matter whose is deleted.

    Returns:
        ``[groups, 2]``: the group's share of all records, and the probability that a deletion concerns it. None where
        the scenario spells its deletions out: they may have been chosen for what they are.
    """
    if deletion.request:
        return None
    if deletion.level == "label":
        rows = np.array(list(_classes(deletion, population)), dtype=np.float64)
        shares: Array = rows / rows.sum(axis=0)
        return shares
    if alike:
        return np.ones((1, 2))
    sizes = np.asarray(population.sizes, dtype=np.float64)
    drawn = sizes >= (deletion.records_per_request if deletion.level == "record" else 1)
    of_clients: Array = np.stack([sizes / sizes.sum(), drawn / drawn.sum()], axis=1)[sizes > 0]
    return of_clients


def weighed_chance(strata: Array, chance: float) -> float:
    """The highest probability on drawn deletions of an event that has ``chance`` on records of all clients together.

    The event may happen for the records of the groups that are drawn too often, and for no others.

    Args:
        strata: of ``strata_of``.
        chance: in [0, 1].
    """
    shares, drawn = strata[np.argsort(-strata[:, 1] / strata[:, 0], kind="stable")].T
    before = np.concatenate([[0.0], np.cumsum(shares)[:-1]])
    taken = np.clip(chance - before, 0.0, shares)
    return float(min(1.0, (drawn * taken / shares).sum()))


def _classes(deletion: DeletionConfig, population: AbstractPopulation) -> Iterator[tuple[float, float]]:
    """Records and weight of each class, of all clients or of each client that has it."""
    labels = population.labels()
    owners = np.repeat(np.arange(len(population.sizes)), population.sizes)
    for label in np.unique(labels):
        counts = np.unique(owners[labels == label], return_counts=True)[1]
        if deletion.scope == "all":
            yield float(counts.sum()), 1.0
        else:
            yield from ((float(count), 1.0 / len(counts)) for count in counts)
