"""How much noise the adversary knows to be in what it reads: from the defense's public clip and noise multiplier."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from palimpsest.attacks.divergence import clients_of, present_records, step_of_a_round
from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.privacy.strengths import STRENGTHS
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array

_RARE = 1e-9
"""Numbers of readings that are less probable than this are left out."""


@dataclass(frozen=True)
class RoundNoise:
    """What a round of federated training says of a record, in the length of one reading of its gradient.

    Attributes:
        step: how far the global model moves along a record's (clipped) gradient where all goes as expected.
        deviation: of the Gaussian noise on the round's change, over ``step``.
        clip: bound on the length of a record's gradient; 0: none.
        update_clip: bound on the length of a client's update; 0: none.
        readings: ``[b]`` how often the record may have been read, over the expected number.
        probability: ``[b]`` of each of these.
        coins: variance of another record's number of readings, over the square of what is expected.
        fixed_weights: whether weights take no notice of deletions.
    """

    step: float
    deviation: float
    clip: float
    update_clip: float
    readings: Array
    probability: Array
    coins: float
    fixed_weights: bool


def hyper_parameter(knowledge: PublicKnowledge, kind: str, name: str, default: float = 0.0) -> float:
    """A number of one of the arm's defenses; ``default`` where there is no such defense, or it does not say.

    Raises:
        TranscriptError: it is no number, or negative.
    """
    for part in knowledge.facts.defense:
        if part.get("kind") == kind:
            value: Any = part.get(name)
            if value is None:
                return default
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0.0:
                raise TranscriptError(f"public knowledge: {name} = {value!r} of defense {kind!r} must be 0 or more")
            return float(value)
    return default


def noise_of(knowledge: PublicKnowledge, kind: str) -> float:
    """The strength of the noise of one of the arm's defenses, 0 where there is no such defense.

    Raises:
        TranscriptError: it is no number, or negative.
    """
    return max(hyper_parameter(knowledge, kind, name) for name in STRENGTHS)


def clipped_noise(knowledge: PublicKnowledge, kind: str) -> tuple[float, float]:
    """The noise multiplier and the clip of one of the arm's defenses."""
    return noise_of(knowledge, kind), hyper_parameter(knowledge, kind, "clip")


def release_noise(knowledge: PublicKnowledge) -> float:
    """Deviation of the noise on every parameter of every release."""
    return noise_of(knowledge, "obfuscation")


def round_noise(knowledge: PublicKnowledge) -> RoundNoise:
    """What is publicly known of one round of fedavg or fedsgd; clients are taken to be of equal size."""
    facts = knowledge.facts
    clients, present = clients_of(knowledge), present_records(knowledge)
    here = max(1.0, clients * present / facts.n)
    taking_part = min(1.0, present / facts.n)
    sigma, clip = clipped_noise(knowledge, "dp-sgd")
    multiplier, bound = clipped_noise(knowledge, "central-dp")
    private = any(part.get("kind") == "dp-sgd" for part in facts.defense)
    steps, rate = _local_steps(knowledge) if private else (1, 1.0)
    # Private steps divide by the expected batch, whole batches an epoch: the batch size cancels.
    step = float(facts.training["learning_rate"]) * steps / present if private else step_of_a_round(knowledge)
    # A client's noise is lr sqrt(steps) sigma C / (expected batch); the mean over clients has it over sqrt(clients).
    deviation = sigma * clip * math.sqrt(steps * here) / (steps * rate)
    if multiplier:
        deviation = math.hypot(deviation, multiplier * bound / here / step)
    deviation = math.hypot(deviation, math.sqrt(2.0) * release_noise(knowledge) / step)
    readings, probability = _readings(steps, rate, taking_part)
    return RoundNoise(
        step=step,
        deviation=deviation,
        clip=clip,
        update_clip=bound,
        readings=readings,
        probability=probability,
        coins=float(probability @ readings**2) / max(taking_part, _RARE) - 1.0,
        fixed_weights=bool(private or multiplier),
    )


def _local_steps(knowledge: PublicKnowledge) -> tuple[int, float]:
    """Poisson steps of a client in a round, and the probability that a record is in one."""
    facts = knowledge.facts
    if facts.algorithm == "fedsgd":
        return 1, 1.0
    share = facts.n / clients_of(knowledge)
    batches = max(1, math.ceil(share / float(facts.training["batch_size"])))
    steps = facts.training["local_steps"] or batches * facts.training["local_epochs"]
    return int(steps), 1.0 / batches


def _readings(steps: int, rate: float, taking_part: float) -> tuple[Array, Array]:
    """How often a record is read in a round, over what is expected where its client takes part, and how probably."""
    from scipy.stats import binom  # takes a third of a second to import, and releases without noise do not need it

    counts = np.arange(steps + 1)
    chance = binom.pmf(counts, steps, rate) * taking_part
    chance[0] += 1.0 - taking_part
    likely = chance > _RARE
    return counts[likely] / (steps * rate), chance[likely] / chance[likely].sum()
