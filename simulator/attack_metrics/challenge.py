"""The challenge: given records, which of them were deleted? Drawn here, put to the adversary without its solution."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from palimpsest.server.session import Processed
from palimpsest.simulator.attack_metrics.measures.measure import CANDIDATES
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.records import Array, Challenge
from palimpsest.simulator.world.seeding import generator


class Status(IntEnum):
    """What one deletion means for one record: it took it away, left it, found it gone already, or it was never in."""

    DELETED = 0
    RETAINED = 1
    GONE = 2
    HELD_OUT = 3


@dataclass(frozen=True)
class ChallengeWithAnswers:
    """A challenge and its solution.

    Attributes:
        challenge: what the adversary is asked.
        status: ``[cases, e]`` a ``Status`` for every case and record: ground truth, for scoring only.
    """

    challenge: Challenge
    status: NDArray[np.int64]


def pose(processed: Sequence[Processed], population: AbstractPopulation, seed: int) -> ChallengeWithAnswers:
    """Draw a challenge: the deleted records of all cases and held-out ones, in random order.

    One list serves all cases: what another case deleted is a record that this one retained, so that nothing in the
    list tells the cases apart. There are up to 999 held-out records, the same among which reconstructions are looked
    for: more than are deleted, as low false positive rates need many. Of deletions of more than 1,000 records in all,
    the same number of each is asked for.

    Args:
        processed: the deletions, at least one.
        population: whose test data are held out.
        seed: of the scenario.
    """
    forgets = [[population.rows(c, r) for c, r in p.case.request.forget.items()] for p in processed]
    deleted = [np.concatenate(rows) for rows in forgets]
    most = max(1, CANDIDATES // len(deleted))
    rng = generator(seed, "challenge")
    asked = np.unique(np.concatenate([rng.permutation(rows)[:most] for rows in deleted]))
    held = generator(seed, "candidates").permutation(len(population.test_x))[: CANDIDATES - 1]
    order = rng.permutation(len(asked) + len(held))
    asked_x, asked_y = population.take(asked)
    x = np.concatenate([asked_x, population.test_x[held]])[order]
    y = np.concatenate([asked_y, population.test_y[held]])[order]
    rows = np.concatenate([asked, np.full(len(held), -1)])[order]
    gone = [_rows_of(p, population) for p in processed]
    status = np.stack([_status(rows, now, all_) for now, all_ in zip(deleted, gone, strict=True)])
    return ChallengeWithAnswers(Challenge(x.astype(np.float64), y), status)


def _rows_of(processed: Processed, population: AbstractPopulation) -> Array:
    """Everything deleted on a branch once this request is done, earlier requests included."""
    return np.concatenate([population.rows(client, records) for client, records in processed.case.forgotten.items()])


def _status(rows: Array, deleted: Array, gone: Array) -> NDArray[np.int64]:
    status = np.full(len(rows), Status.RETAINED, dtype=np.int64)
    status[np.isin(rows, gone)] = Status.GONE
    status[np.isin(rows, deleted)] = Status.DELETED
    status[rows < 0] = Status.HELD_OUT
    return status
