"""One arm: its server unlearns, its transcript goes to the adversary, and ground truth meets the answers."""

from pathlib import Path
from typing import Any

from palimpsest.simulator.experiment.arm_files import ArmFiles
from palimpsest.simulator.experiment.assessed import assess
from palimpsest.simulator.experiment.attacked import attack, grant
from palimpsest.simulator.experiment.served import ArmInputs, serve
from palimpsest.simulator.world.protocols.transcript import Transcript


def run_arm(directory: Path, inputs: ArmInputs) -> dict[str, Any]:
    """Unlearn, attack and score in a run's directory; return this arm's entry of ``results.json``."""
    files = ArmFiles(directory, inputs.arm.id)
    served = serve(inputs, files.transcript, files.ledger)
    granted = grant(inputs, served)
    granted.knowledge.save(files.transcript)
    attacked = attack(files.transcript, inputs.arm.attacks)
    digest = Transcript.open(files.transcript).digest()
    assessed = assess(inputs, served, granted, attacked, digest)
    files.write(inputs.trunk.ground.setup.spec, served, attacked, assessed)
    return dict(assessed.entry)
