"""An arm's adversary: what it is granted, and what its attacks answer from the transcript's directory alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from palimpsest.attacks.session import Answer
from palimpsest.simulator.attack_metrics.challenge import ChallengeWithAnswers, pose
from palimpsest.simulator.experiment.attackers import run_attacks
from palimpsest.simulator.experiment.inputs import ArmInputs
from palimpsest.simulator.experiment.knowledge import knowledge_of
from palimpsest.simulator.experiment.served import Served
from palimpsest.simulator.world.protocols.attack import Attack
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge


@dataclass(frozen=True)
class Granted:
    """What the scenario grants the adversary, and what scoring keeps of it.

    Attributes:
        knowledge: written beside the transcript: all that attacks read but for it.
        posed: the challenge with its solution, where an attack is on such.
    """

    knowledge: PublicKnowledge
    posed: ChallengeWithAnswers | None


@dataclass(frozen=True)
class Attacked:
    """What an arm's attacks said.

    Attributes:
        answers: by the attack's kind.
        failures: of each attack that failed, why, as the rest of a sentence.
    """

    answers: Mapping[str, Answer]
    failures: Mapping[str, str]


def grant(inputs: ArmInputs, served: Served) -> Granted:
    """What the adversary may know, and no more."""
    arm, preparation, processed = inputs.arm, inputs.shared.preparation, served.processed
    labels = [inputs.forgotten(p)[1] for p in processed]
    posed = None
    if processed and any("challenge" in attack.card.needs for attack in arm.attacks):
        posed = pose(processed, preparation.population, arm.entropy)
    known = knowledge_of(inputs.scenario.name, arm, preparation, processed, labels)
    return Granted(replace(known, challenge=None if posed is None else posed.challenge), posed)


def attack(transcript: Path, attacks: Sequence[Attack], meanwhile: Callable[[], object] | None = None) -> Attacked:
    """Run an arm's attacks on its transcript, with the knowledge that lies beside it.

    Args:
        transcript: its directory.
        attacks: one of each kind.
        meanwhile: what is done while they work, see ``run_attacks``.

    Raises:
        RunFailure: the transcript or the knowledge cannot be read.
    """
    return Attacked(*run_attacks(transcript, attacks, meanwhile=meanwhile))


def public_of(inputs: ArmInputs, granted: Granted) -> PublicKnowledge:
    """The same facts with the whole public sample: scores are centred by its mean, whatever the adversary holds."""
    population = inputs.shared.preparation.population
    x, y = np.asarray(population.public_x, np.float64), np.asarray(population.public_y)
    return replace(granted.knowledge, x=x, y=y)
