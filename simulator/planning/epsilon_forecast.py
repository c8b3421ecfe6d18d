"""What epsilon a training and its deletions will cost: a whole session before clients that say nothing."""

import itertools
import math
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from palimpsest.server.history import History
from palimpsest.server.ledger import Ledger
from palimpsest.server.rehearsal import SilentClients
from palimpsest.server.session import Session
from palimpsest.server.setup import Setup
from palimpsest.server.updates import UpdateStore
from palimpsest.simulator.planning.plan import Plan, Prefix
from palimpsest.simulator.planning.prepared import PreparedTraining
from palimpsest.simulator.planning.privacy import (
    EpsilonMeter,
    NotingMeter,
    PriceByNoise,
    PrivacyBudget,
    by_noise,
    privacy_entry,
)
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.privacy.account import Spending
from palimpsest.simulator.world.protocols.defense import private_part
from palimpsest.simulator.world.protocols.unlearning import Unlearner
from palimpsest.simulator.world.records import Params, Release


def has_private(plan: Plan) -> bool:
    """Whether any arm is under differential privacy."""
    return any(map(is_private, plan.prefixes))


class EpsilonForecast:
    """The highest epsilon of any unit. Trainings that differ in their noise alone are rehearsed once for all.

    Args:
        scenario: of the trainings.
        root: where populations are cached.
    """

    def __init__(self, scenario: Scenario, root: Path) -> None:
        self._scenario = scenario
        self._root = root
        self._trained: dict[Hashable, PriceByNoise] = {}
        self._unlearned: dict[Hashable, PriceByNoise | None] = {}

    def of(self, prefix: Prefix) -> dict[str, float]:
        """By "" after the training, and by arm after all its deletions.

        An arm is left out where silent clients do not lead its method to an end; all are where nothing is private.

        Args:
            prefix: a training, and its arms.

        Raises:
            DataError: a run would refuse the scenario too: the data do not fit, or the training passes the budget.
        """
        if not is_private(prefix):
            return {}
        preparation, noise = self._at_unit_noise(PreparedTraining.of(self._scenario, prefix, self._root))
        training = (prefix.setting.trunk, prefix.seed, preparation.setup.defense)
        methods = dict.fromkeys(arm.unlearning for arm in prefix.arms)
        if any((training, method) not in self._unlearned for method in methods):
            self._rehearse(training, preparation, list(methods))
        found = {"": self._trained[training](noise)}
        for arm in prefix.arms:
            if (price := self._unlearned[training, arm.unlearning]) is not None:
                found[arm.id] = price(noise)
        return found

    def _at_unit_noise(self, preparation: PreparedTraining) -> tuple[PreparedTraining, float]:
        """The training at noise multiplier 1, and its own; itself and 1 where a budget or the defense forbids that."""
        unit = None if self._scenario.privacy.budget else preparation.setup.defense.at_unit_noise()
        if unit is None:
            return preparation, 1.0
        return replace(preparation, setup=replace(preparation.setup, defense=unit[0])), unit[1]

    def _rehearse(self, training: Hashable, preparation: PreparedTraining, methods: list[Unlearner]) -> None:
        with TemporaryDirectory() as scratch:
            needs = {need for method in methods for need in method.card.needs}
            history = _rehearsed(preparation, needs, Path(scratch))
            self._trained[training] = by_noise(self._noting(), history.record.setup.account)
            for method in methods:
                self._unlearned[training, method] = self._after_deletions(preparation, history, method, Path(scratch))

    def _after_deletions(
        self, preparation: PreparedTraining, trunk: History, method: Unlearner, scratch: Path
    ) -> PriceByNoise | None:
        """What has been paid once a method has processed all requests; None where it cannot be known beforehand."""
        noting, budget = self._noting(), self._scenario.privacy.budget
        spent = _unlearned(preparation, trunk, method, PrivacyBudget(noting, budget), scratch)
        if spent is None:
            return None
        return (lambda noise: spent) if budget else noting.highest_at

    def _noting(self) -> NotingMeter:
        privacy = self._scenario.privacy
        return NotingMeter(privacy.delta, privacy.accountant, reads=privacy.budget > 0.0)


def dearest(scenario: Scenario, prefix: Prefix, root: Path) -> tuple[Setup, dict[str, Spending]]:
    """A private training, and by arm what the unit with the highest epsilon has paid after all deletions.

    An arm whose method does not come to an end before silent clients has what the training costs.

    Args:
        scenario: of the training.
        prefix: a training, and its arms.
        root: where populations are cached.
    """
    preparation, privacy = PreparedTraining.of(scenario, prefix, root), scenario.privacy
    methods = dict.fromkeys(arm.unlearning for arm in prefix.arms)
    noting = {method: NotingMeter(privacy.delta, privacy.accountant, reads=False) for method in methods}
    with TemporaryDirectory() as scratch:
        needs = {need for method in methods for need in method.card.needs}
        history = _rehearsed(preparation, needs, Path(scratch))
        for method, meter in noting.items():
            meter.highest(history.record.setup.account, [0])
            _unlearned(preparation, history, method, PrivacyBudget(meter), Path(scratch))
    plain = EpsilonMeter(privacy.delta, privacy.accountant)
    paid = {
        method: max((dict(each) for each in meter.asked), key=plain.of, default={}) for method, meter in noting.items()
    }
    return preparation.setup, {arm.id: paid[arm.unlearning] for arm in prefix.arms}


def is_private(prefix: Prefix) -> bool:
    """Whether a training is under differential privacy."""
    return any(private_part(part) is not None for part in prefix.defenses)


class _NoLedger(Ledger):
    """Keeps nothing: nobody acts on a rehearsal."""

    def _append(self, text: str) -> None:
        pass


def _rehearsed(preparation: PreparedTraining, needs: set[str], scratch: Path) -> History:
    """The trunk's history, without training."""
    history = History.of(
        preparation.setup,
        SilentClients(),
        updates=UpdateStore(scratch / "updates") if "client updates" in needs else None,
        public=preparation.population.public_x,
        drifts=[] if "client drift" in needs else None,
    )
    for _ in history.train():
        pass
    return history


def _unlearned(
    preparation: PreparedTraining, trunk: History, unlearner: Unlearner, privacy_budget: PrivacyBudget, scratch: Path
) -> float | None:
    """The highest epsilon once a method has processed all requests; None where it cannot be known beforehand."""
    history, ids, deletion = trunk.under(SilentClients()), itertools.count(), preparation.setting.deletion

    def unheard(release: Release, parent: int | None) -> tuple[int, Params]:
        return next(ids), release.params

    session = Session(
        history=history,
        unlearner=unlearner,
        federation=history.retrainer.federation,
        ledger=_NoLedger(scratch / "rehearsal.jsonl", "rehearsal"),
        publish=unheard,
        sequential=deletion.pattern == "sequential",
        rounds_between=deletion.rounds_between,
        privacy_budget=privacy_budget,
    )
    try:
        processed = session.serve(preparation.requests)
    except RunFailure:  # a method that looks for something in the updates finds nothing in zeros
        return None
    highest = privacy_entry(history.record.setup.account, privacy_budget, processed)["epsilon_max"]
    return math.inf if highest is None else float(highest)
