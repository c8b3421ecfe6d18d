"""Arms that diverge or do not converge: each is done, without scores and with a sentence that says what to change."""

import math
from typing import Any

from palimpsest.server.ledger import Ledger
from palimpsest.simulator.experiment.identity import identity
from palimpsest.simulator.experiment.inputs import ArmInputs
from palimpsest.simulator.federation.federation import Costs
from palimpsest.simulator.planning.privacy import privacy_entry
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import judged
from palimpsest.simulator.unlearning_metrics.costs import cost
from palimpsest.simulator.world.errors import SettledFailure
from palimpsest.simulator.world.privacy.account import Account
from palimpsest.simulator.world.protocols.events import Noted, Observer
from palimpsest.simulator.world.records import branch_of


class UnservedArm(SettledFailure):
    """An arm's server cannot go on, or its models cannot be measured, whoever tries again.

    Attributes:
        costs: what was asked of clients by then.
        seconds: that it took until then.
        account: what units of privacy have paid by then, the arm's unlearning included.
    """

    def __init__(self, why: str, costs: Costs, seconds: float, account: Account) -> None:
        super().__init__(why)
        self.costs, self.seconds, self.account = costs, seconds, account


def settle(directory: RunDirectory, inputs: ArmInputs, error: SettledFailure, observer: Observer) -> ArmResult:
    """Write down that an arm has no scores, and why; return its entry.

    What it broadcast until then is removed: no attack was run on it, and nobody shall take it for a whole transcript.

    Args:
        directory: of the run.
        inputs: of the arm.
        error: what ended its training, its unlearning or its measurement, and would end it again.
        observer: is told.
    """
    files, arm, shared = directory.arm(inputs.arm.id), inputs.arm, inputs.shared
    why = str(error).rstrip(".")
    files.clear()
    observer.noted(Noted(f"{arm.id} has no scores: {why}"))
    Ledger(directory.ledger, arm.id).write("failed", None, reason=why)
    costs, seconds, account = Costs(), 0.0, shared.history.record.setup.account
    if isinstance(error, UnservedArm):
        costs, seconds, account = error.costs, error.seconds, error.account
    stored = shared.history.record.stored_for(arm.unlearning.card.needs)
    entry = {
        **identity(inputs),
        "diverged": why,
        "requests_made": len(shared.preparation.requests),
        "requests_completed": 0,
        "requests": (),
        "transcript_digest": "",
        "forgetting": {"exact": arm.unlearning.card.promises == "exact"},
        "attacks": {},
        "privacy": _privacy(inputs, account),
        "notes": {},
        "cost": cost(costs, seconds, stored, shared.reference, {}),
    }
    result = judged(entry)
    files.write_result(result, directory.begun_with())
    return result


def _privacy(inputs: ArmInputs, account: Account) -> dict[str, Any]:
    """What was spent on all branches, by units that stay and by those that were to be deleted; of no single request."""
    budget = inputs.privacy_budget
    entry = privacy_entry(account, budget, ())
    if account.unit is None:
        return entry
    branches = {0, *(payment.branch for payment in account.entries)}
    asked = {
        frozenset(account.spent(branch, client, record).items())
        for request in inputs.shared.preparation.requests
        for branch in branches & {0, branch_of(request)}
        for client, records in request.forget.items()
        for record in (records if account.unit == "record" else records[:1])
    }
    highest = max([budget.meter.highest(account, branches), *(budget.meter.of(dict(paid)) for paid in asked)])
    return entry | {"epsilon_max": highest if math.isfinite(highest) else None}
