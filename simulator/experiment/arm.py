"""One arm: its server unlearns, its transcript goes to the adversary, and ground truth meets the answers."""

from functools import cache

from palimpsest.simulator.experiment.assessed import Assessed, assess, evaluate
from palimpsest.simulator.experiment.attacked import Attacked, attack, grant
from palimpsest.simulator.experiment.diverged import UnservedArm, settle
from palimpsest.simulator.experiment.inputs import ArmInputs
from palimpsest.simulator.experiment.served import Served, serve
from palimpsest.simulator.results.arm_files import ArmFiles
from palimpsest.simulator.results.run_directory import RunDirectory
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import judged
from palimpsest.simulator.world.errors import SettledFailure
from palimpsest.simulator.world.protocols.events import Noted, Observer
from palimpsest.simulator.world.protocols.transcript import Transcript


def run_arm(directory: RunDirectory, inputs: ArmInputs, observer: Observer) -> ArmResult:
    """Unlearn, attack and score in a run's directory; what was found is written last, and returned.

    An arm that diverges is done too, without scores, but with what it cost until then.
    """
    try:
        served = serve(inputs, directory.arm(inputs.arm.id).transcript, directory.ledger, observer)
        try:
            return _judged(directory, inputs, served, observer)
        except SettledFailure as error:
            raise UnservedArm(str(error), served.costs, served.seconds, served.account) from error
    except SettledFailure as error:
        return settle(directory, inputs, error, observer)


def _judged(directory: RunDirectory, inputs: ArmInputs, served: Served, observer: Observer) -> ArmResult:
    """Attack and score what an arm's server broadcast."""
    files = directory.arm(inputs.arm.id)
    granted = grant(inputs, served)
    granted.knowledge.save(files.transcript)
    evaluation = cache(lambda: evaluate(inputs, served, granted))  # done once, while attacks work
    attacked = attack(files.transcript, inputs.arm.attacks, evaluation)
    digest = Transcript.open(files.transcript).digest()
    assessed = assess(inputs, served, granted, attacked, evaluation(), digest)
    for kind, why in assessed.failures.items():
        observer.noted(Noted(f"{inputs.arm.id}: the attack {kind} failed: {why}"))
    _write(files, inputs, served, attacked, assessed)
    result = judged(assessed.entry)
    files.write_requests(result.requests)
    files.write_result(result, directory.begun_with())
    return result


def _write(files: ArmFiles, inputs: ArmInputs, served: Served, attacked: Attacked, assessed: Assessed) -> None:
    """Write what figures, reports and tracking draw from; what is empty leaves no file, but for answers and rounds."""
    if len(assessed.scores):
        files.write_scores(assessed.scores)
    files.write_answers({kind: said for kind, said in attacked.answers.items() if kind not in assessed.failures})
    if served.processed:
        files.write_truth(assessed.truth)
        files.write_model(inputs.shared.preparation.setup.spec, served.processed[0].released)
        files.write_forgetting(assessed.forgetting)
    files.write_rounds(assessed.rounds)
