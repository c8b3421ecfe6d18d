"""Hidden retrainings: what unlearning should have reached, how much retrainings differ, and what one costs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from palimpsest.server.history import History
from palimpsest.simulator.federation.federation import Costs, GridFederation
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import Array, Params, Release

_WAITING = 2**23
"""Bytes of models that wait to be judged together."""


@dataclass
class Reference:
    """Retrainings of every request with randomness of their own. Nobody sees them.

    Attributes:
        models: of each retraining the model by request index.
        curves: of the first retraining, by request index, (rounds, utility) of every release; empty without test data.
        relearning: rounds in which the first retraining's models learn what they never saw, by request index; empty
            where nobody asks.
        seconds, costs: of the first retraining.
    """

    models: list[dict[int, Params]] = field(default_factory=list)
    curves: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    relearning: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0
    costs: Costs = field(default_factory=Costs)

    def of(self, index: int) -> list[Params]:
        """One request's model from every retraining."""
        return [of_one[index] for of_one in self.models]

    def share_to(self, index: int, utility: float) -> float:
        """Share of a retraining's rounds after which it is as good as that, by the first; 1 if it never is."""
        curve = self.curves[index]
        return next((round for round, reached in curve if reached >= utility), curve[-1][0]) / curve[-1][0]


def retrained(
    history: History,
    federation: Callable[[str], GridFederation],
    cases: Sequence[UnlearningCase],
    count: int,
    on_test: Callable[[Sequence[Params]], Array],
) -> Reference:
    """Retrain for every case, ``count`` times.

    Args:
        history: of the training.
        federation: makes the clients' side under a name of its own.
        cases: all requests.
        count: retrainings of each.
        on_test: the utility of some models; of none where there is no test data.
    """
    reference = Reference()
    for number in range(count):
        stream = f"reference-{number}" if number else "reference"
        clients, curves, began = federation(stream), _Curves(on_test), time.perf_counter()
        models: dict[int, Params] = {}
        # Nobody sees it: what it would spend of anybody's privacy is dropped with it.
        for outcome in history.under(clients).on_stream(stream).retrainer.retrain(cases, "independent"):
            release = outcome.release
            if release.phase == "unlearning":
                models[release.branch - 1] = release.params
                if number == 0:
                    curves.add(release)
        reference.models.append(models)
        if number == 0:
            reference.seconds, reference.costs = time.perf_counter() - began - curves.seconds, clients.costs
            reference.curves = curves.whole()
    return reference


class _Curves:
    """Judges releases as they come, many at a time, and minds how long that takes."""

    def __init__(self, on_test: Callable[[Sequence[Params]], Array]) -> None:
        self._on_test = on_test
        self._waiting: list[Release] = []
        self._bytes = 0
        self._found: dict[int, list[tuple[int, float]]] = {}
        self.seconds = 0.0

    def add(self, release: Release) -> None:
        """Take in one release of a request's branch."""
        self._waiting.append(release)
        self._bytes += sum(np.asarray(value).nbytes for value in release.params.values())
        if self._bytes >= _WAITING:
            self._judge()

    def whole(self) -> dict[int, list[tuple[int, float]]]:
        """By request index, (rounds, utility) of every release."""
        self._judge()
        return self._found

    def _judge(self) -> None:
        began, waiting = time.perf_counter(), self._waiting
        self._waiting, self._bytes = [], 0
        if waiting:
            # Nothing is found where there are no test records.
            for release, reached in zip(
                waiting, self._on_test([waiting_release.params for waiting_release in waiting]), strict=False
            ):
                self._found.setdefault(release.branch - 1, []).append((release.round, float(reached)))
        self.seconds += time.perf_counter() - began
