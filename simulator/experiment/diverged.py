"""Arms that diverge: such an arm is done, without scores and with a sentence that says what to change; others go on."""

from palimpsest.server.ledger import Ledger
from palimpsest.simulator.experiment.identity import identity
from palimpsest.simulator.experiment.inputs import ArmInputs
from palimpsest.simulator.federation.federation import Costs
from palimpsest.simulator.planning.privacy import privacy_entry
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import verdict
from palimpsest.simulator.unlearning_metrics.costs import cost
from palimpsest.simulator.world.errors import SettledFailure
from palimpsest.simulator.world.protocols.events import Noted, Observer


class UnservedArm(SettledFailure):
    """An arm's server cannot go on, whoever tries again.

    Attributes:
        costs: what was asked of clients by then.
        seconds: that it took until then.
    """

    def __init__(self, why: str, costs: Costs, seconds: float) -> None:
        super().__init__(why)
        self.costs, self.seconds = costs, seconds


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
    costs, seconds = (error.costs, error.seconds) if isinstance(error, UnservedArm) else (Costs(), 0.0)
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
        "privacy": privacy_entry(shared.history.record.setup.account, inputs.privacy_budget, ()),
        "notes": {},
        "cost": cost(costs, seconds, stored, shared.reference, {}),
    }
    unjudged = ArmResult.model_validate({**entry, "verdict": ""})
    result = unjudged.model_copy(update={"verdict": verdict(unjudged)})
    files.write_result(result, directory.begun_with())
    return result
