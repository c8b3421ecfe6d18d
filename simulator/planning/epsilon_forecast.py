"""What epsilon a training and its deletions will cost: a whole session before clients that say nothing."""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

from palimpsest.server.history import History
from palimpsest.server.ledger import Ledger
from palimpsest.server.rehearsal import SilentClients
from palimpsest.server.session import Session
from palimpsest.server.updates import UpdateStore
from palimpsest.simulator.planning.plan import Plan, Prefix
from palimpsest.simulator.planning.prepared import Groundwork
from palimpsest.simulator.planning.privacy import Meter, Treasurer, privacy_entry
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.errors import RunFailure
from palimpsest.simulator.world.protocols.defense import private_part
from palimpsest.simulator.world.protocols.unlearning import Unlearner
from palimpsest.simulator.world.records import Params, Release


def has_private(plan: Plan) -> bool:
    """Whether any arm is under differential privacy."""
    return any(map(_is_private, plan.prefixes))


def epsilons(scenario: Scenario, prefix: Prefix, root: Path) -> dict[str, float]:
    """The highest epsilon of any unit: by "" after the training, and by arm after all its deletions.

    An arm is left out where silent clients do not lead its method to an end; all are where nothing is private.

    Args:
        scenario: of the prefix.
        prefix: a training, and its arms.
        root: where populations are cached.

    Raises:
        DataError: a run would refuse the scenario too: the data do not fit, or the training passes the budget.
    """
    if not _is_private(prefix):
        return {}
    ground = Groundwork.of(scenario, prefix, root)
    treasurer = Treasurer(Meter(scenario.privacy.delta, scenario.privacy.accountant), scenario.privacy.budget)
    with TemporaryDirectory() as scratch:
        history = _rehearsed(ground, {need for arm in prefix.arms for need in arm.unlearning.card.needs}, Path(scratch))
        found = {"": treasurer.meter.highest(history.record.setup.account, [0])}
        of_method: dict[Unlearner, float | None] = {}  # arms of one training differ in what is done to releases, too
        for arm in prefix.arms:
            if arm.unlearning not in of_method:
                of_method[arm.unlearning] = _unlearned(ground, history, arm.unlearning, treasurer, Path(scratch))
            if (known := of_method[arm.unlearning]) is not None:
                found[arm.id] = known
    return found


def _is_private(prefix: Prefix) -> bool:
    return any(private_part(part) is not None for part in prefix.defenses)


def _rehearsed(ground: Groundwork, needs: set[str], scratch: Path) -> History:
    """The trunk's history, without training."""
    history = History.of(
        ground.setup,
        SilentClients(),
        updates=UpdateStore(scratch / "updates") if "client updates" in needs else None,
        public=ground.population.public_x,
        drifts=[] if "client drift" in needs else None,
    )
    for _ in history.train():
        pass
    return history


def _unlearned(
    ground: Groundwork, trunk: History, unlearner: Unlearner, treasurer: Treasurer, scratch: Path
) -> float | None:
    """The highest epsilon once a method has processed all requests; None where it cannot be known beforehand."""
    history, ids, deletion = trunk.under(SilentClients()), itertools.count(), ground.setting.deletion

    def unheard(release: Release, parent: int | None) -> tuple[int, Params]:
        return next(ids), release.params

    session = Session(
        history=history,
        unlearner=unlearner,
        federation=history.retrainer.federation,
        ledger=Ledger(scratch / "rehearsal.jsonl", "rehearsal"),
        publish=unheard,
        sequential=deletion.pattern == "sequential",
        rounds_between=deletion.rounds_between,
        treasurer=treasurer,
    )
    try:
        processed = session.serve(ground.requests)
    except RunFailure:  # a method that looks for something in the updates finds nothing in zeros
        return None
    return float(privacy_entry(history.record.setup.account, treasurer, processed)["epsilon_max"])
