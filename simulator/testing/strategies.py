"""What every strategy of federated training must do.

Each function checks one thing of a strategy that is registered, built in or announced by an entry point, on small
federations of digits; ``check_strategy`` checks all of them. ``settings`` are its hyper-parameters.
"""

from pathlib import Path
from typing import Any

import numpy as np

from palimpsest.server.setup import TrainingPlan
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.scenario.registry import card, method_class
from palimpsest.simulator.testing.frozen import check_frozen
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, Bench, record_requests
from palimpsest.simulator.testing.unlearners import counterfactual_distances
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.strategy import CLIENT_STEP, SINGLE_UPDATES, Strategy
from palimpsest.simulator.world.records import DeletionRequest

_HOOKS = {CLIENT_STEP: ("local_training", "shifts")}
"""The methods that a strategy overrides, by the need that its card then names."""


def check_strategy(name: str, directory: Path, **settings: Any) -> None:
    """Check everything that is asked of a strategy.

    Args:
        name: under which it is registered.
        directory: to work in; empty.
        **settings: its hyper-parameters; all have defaults.

    Raises:
        AssertionError: what it does not do, in one sentence.
    """
    made: Any = method_class("strategy", name)(**settings)
    assert isinstance(made, Strategy), f"{name}: it is no subclass of Strategy"
    check_frozen(made, "strategy", name)
    check_needs(name)
    plan = FEDAVG.model_copy(update={"strategy": made})
    check_training(name, plan, _new(directory, "training"))
    check_retraining(name, plan, _new(directory, "retraining"))


def check_needs(name: str) -> None:
    """Its card names what it changes at the clients, and no need that there is not."""
    needs, cls = set(card("strategy", name).needs), method_class("strategy", name)
    assert needs <= {CLIENT_STEP, SINGLE_UPDATES}, f"{name}: its card needs {', '.join(sorted(needs))}"
    for need, hooks in _HOOKS.items():
        changes = [hook for hook in hooks if getattr(cls, hook) is not getattr(Strategy, hook)]
        assert not changes or need in needs, f"{name}: it overrides {changes[0]}, and its card does not need {need!r}"


def check_training(name: str, plan: TrainingPlan, directory: Path) -> None:
    """It trains finite models that differ, the same bits again and on two hosts."""
    ends = []
    for number, hosts in enumerate((1, 1, 2)):
        bench = Bench(digits_population(), _new(directory, str(number)), plan=plan, grid=SerialGrid(hosts))
        try:
            releases = bench.history().record.releases
        except KeyError as error:
            raise AssertionError(
                f"{name}: there is no {error} in what it received; a strategy that reads received.each names the need "
                f"{SINGLE_UPDATES!r}"
            ) from error
        ends.append([flat(release.params) for release in releases])
    assert all(np.isfinite(model).all() for model in ends[0]), f"{name}: a model is not finite"
    assert not np.array_equal(ends[0][0], ends[0][-1]), f"{name}: training changes nothing"
    for other, said in zip(ends[1:], ("a second training", "a training on two hosts"), strict=True):
        same = all(np.array_equal(a, b) for a, b in zip(ends[0], other, strict=True))
        assert same, f"{name}: {said} ends in other bits; what it keeps belongs into the ServerState"


def check_retraining(name: str, plan: TrainingPlan, directory: Path) -> None:
    """Retraining does not depend on what the deleted records were, whether some or all of a client's are deleted."""
    everything = tuple(range(int(digits_population().sizes[1])))
    requests = {
        "records": record_requests(digits_population(), 1, plan.rounds, size=2),
        "client": [DeletionRequest(0, plan.rounds, "client", {1: everything})],
    }
    for said, some in requests.items():
        unlearner: Any = Retrain(coupling="same-order")
        worst = max(counterfactual_distances(unlearner, some, _new(directory, said), plan=plan))
        assert worst == 0.0, f"{name}: retrained models differ by {worst:g} where only deleted {said} differ"


def _new(directory: Path, name: str) -> Path:
    place = directory / name
    place.mkdir(parents=True)
    return place
