"""Hidden retrainings: what unlearning should have reached, how much retrainings differ, and what one costs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from server.history import History
from simulator.federation import Costs, GridFederation
from simulator.world.protocols import UnlearningCase
from simulator.world.records import Params


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
    on_test: Callable[[Params], float | None],
) -> Reference:
    """Retrain for every case, ``count`` times.

    Args:
        history: of the training.
        federation: makes the clients' side under a name of its own.
        cases: all requests.
        count: retrainings of each.
        on_test: a model's utility, None where there is no test data.
    """
    found = Reference()
    for number in range(count):
        stream = f"reference-{number}" if number else "reference"
        clients, judging, began = federation(stream), 0.0, time.perf_counter()
        models: dict[int, Params] = {}
        # Nobody sees it: what it would spend of anybody's privacy is dropped with it.
        for outcome in replace(history.under(clients), stream=stream).retrain(cases, "independent"):
            release = outcome.release
            if release.phase == "unlearning":
                models[release.branch - 1] = release.params
            if release.phase == "unlearning" and number == 0:
                paused = time.perf_counter()
                if (reached := on_test(release.params)) is not None:
                    found.curves.setdefault(release.branch - 1, []).append((release.round, reached))
                judging += time.perf_counter() - paused
        found.models.append(models)
        if number == 0:
            found.seconds, found.costs = time.perf_counter() - began - judging, clients.costs
    return found
