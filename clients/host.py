"""A host: many virtual clients behind one Flower SuperNode.

Every answer is a pure function of the question and the seed, except for the tombstones, which only ever refuse.
"""

from collections.abc import Callable, Mapping
from typing import Any

from palimpsest.clients.gradients import gradient
from palimpsest.clients.hessians import hessian
from palimpsest.clients.local_data import LocalData
from palimpsest.clients.reader import Reader
from palimpsest.clients.ridge import factors, statistics
from palimpsest.clients.tombstones import Tombstones
from palimpsest.clients.training import train
from palimpsest.simulator.world.models.precision import multiplying
from palimpsest.simulator.world.protocols.federation import Answer, Question
from palimpsest.simulator.world.protocols.questions import Gradient, Hessian, RidgeFactors, RidgeStatistics, Train
from palimpsest.simulator.world.specs import Precision

HANDLERS: Mapping[type[Question[Any]], Callable[[LocalData, Any], list[Any]]] = {
    Train: train,
    Gradient: gradient,
    Hessian: hessian,
    RidgeStatistics: statistics,
    RidgeFactors: factors,
}
"""Who answers which question: one answer a block, in their order."""

QUESTIONS: Mapping[str, type[Question[Any]]] = {kind.__name__: kind for kind in HANDLERS}
"""The kinds of questions by the names that messages give them."""


class Host:
    """Serves the clients of one population.

    Args:
        reader: of the clients' data.
        seed: the scenario's seed.
        arm: whose tombstones bind.
        tombstones: what the clients have deleted.
        device: where it trains and takes gradients; ridge statistics, in float64, are computed on the CPU.
        precision: of what is computed in float32.
    """

    def __init__(
        self,
        reader: Reader,
        seed: int,
        arm: str,
        tombstones: Tombstones,
        device: str = "cpu",
        precision: Precision = "highest",
    ) -> None:
        self._data = LocalData(reader, seed, arm, tombstones, device, precision)

    def ask(self, question: Question[Answer]) -> list[Answer]:
        """Answer for every block; see ``Federation.ask``.

        Raises:
            Refusal: a client was asked to read a record that it has deleted.
        """
        with multiplying(self._data.precision):
            answers: list[Answer] = HANDLERS[type(question)](self._data, question)
        return answers
