"""The adversary alone: a transcript directory and the public knowledge beside it, and nothing else."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from palimpsest.attacks.cost import Cost, CostMeter
from palimpsest.attacks.queries import Window
from palimpsest.attacks.shadow_rules import not_simulated
from palimpsest.simulator.world.cards import Access
from palimpsest.simulator.world.models.kinds import suited, suits
from palimpsest.simulator.world.protocols.attack import Attack
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge, cases_of
from palimpsest.simulator.world.protocols.queries import QueryAttack
from palimpsest.simulator.world.protocols.streams import each_alone, withheld
from palimpsest.simulator.world.protocols.transcript import Transcript
from palimpsest.simulator.world.records import Case, Guess


@dataclass(frozen=True)
class Answer:
    """What one attack said, one guess a case, in order, and what it cost over all cases."""

    guesses: list[Guess]
    cost: Cost


def attack_transcript(
    directory: Path, attacks: Sequence[Attack | QueryAttack], knowledge: PublicKnowledge | None = None
) -> dict[str, Answer]:
    """Run attacks on one transcript; the same transcript gives the same answers, whatever else runs beside them.

    Args:
        directory: of the transcript.
        attacks: at most one of each kind.
        knowledge: what the adversary knows; ``knowledge.json`` beside the transcript where not given.

    Returns:
        Answers by the attack's kind.

    Raises:
        TranscriptError: the transcript or the knowledge cannot be read.
        ValueError: an attack does not work on this model, or two attacks are of one kind.
    """
    known = knowledge if knowledge is not None else PublicKnowledge.open(directory / "knowledge.json")
    check(attacks, known)
    if not withheld(known.facts):
        return _answers(directory, attacks, known)
    alone = [_answers(folder, attacks) for folder in each_alone(directory, known)]
    return {attack.kind: joined([of_case[attack.kind] for of_case in alone]) for attack in attacks}


def _answers(
    directory: Path, attacks: Sequence[Attack | QueryAttack], knowledge: PublicKnowledge | None = None
) -> dict[str, Answer]:
    """Of what is handed over together."""
    known, cases, digest = opened(directory, knowledge)
    check_heard(attacks, cases)
    return {attack.kind: answer(attack, cases, known, digest) for attack in attacks}


def joined(alone: Sequence[Answer]) -> Answer:
    """What one attack said of cases that it was handed one by one, case 0 first, as if they had come together."""
    answers: list[tuple[int, Any]] = [(case, guess) for case, one in enumerate(alone) for guess in one.guesses]
    costs = [one.cost for one in alone]
    asked = [cost.queries for cost in costs if cost.queries is not None]
    seconds, peak = sum(cost.seconds for cost in costs), max(cost.peak_bytes for cost in costs)
    cost = Cost(seconds, peak, sum(asked) if asked else None)
    return Answer([replace(guess, case=case) for case, guess in answers], cost)


def opened(directory: Path, knowledge: PublicKnowledge | None = None) -> tuple[PublicKnowledge, list[Case], str]:
    """Read a transcript: what is known beside it, its cases, and its digest.

    Raises:
        TranscriptError: the transcript or the knowledge cannot be read.
    """
    known = knowledge if knowledge is not None else PublicKnowledge.open(directory / "knowledge.json")
    transcript = Transcript.open(directory)
    return known, cases_of(transcript, known.facts), transcript.digest()


def randomness(digest: str, kind: str) -> np.random.Generator:
    """An attack's random numbers, derived from public things alone, so that they tell no secret.

    Args:
        digest: of the transcript that is attacked.
        kind: of the attack.
    """
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"{digest}|attack|{kind}".encode()).digest(), "big"))


def answer(attack: Attack | QueryAttack, cases: Sequence[Case], known: PublicKnowledge, digest: str = "") -> Answer:
    """Run one attack; one without the parameters gets a window on each case in the case's place.

    Args:
        attack: works on this model.
        cases: all of a transcript.
        known: what the adversary knows.
        digest: of the transcript; its random numbers are derived from it.
    """
    if not cases:
        return Answer([], Cost(0.0))
    rng = randomness(digest, attack.kind)
    if not isinstance(attack, QueryAttack):
        with CostMeter() as meter:
            guesses = attack.run(cases, known, rng)
        return Answer(list(guesses), meter.cost)
    windows = [Window(case, known.model, access_of(attack)) for case in cases]
    with CostMeter() as meter:
        guesses = attack.ask(windows, known, rng)
    return Answer(list(guesses), replace(meter.cost, queries=sum(window.queries for window in windows)))


def access_of(attack: QueryAttack) -> Access:
    """What an attack's questions are answered with.

    Raises:
        ValueError: its card does not say.
    """
    if attack.card.access is None:
        raise ValueError(
            f"attack {attack.kind} asks the models, and its card does not say what they answer with: "
            f"access is one of {', '.join(get_args(Access))}"
        )
    return attack.card.access


def check(attacks: Sequence[Attack | QueryAttack], known: PublicKnowledge) -> None:
    """Refuse attacks that cannot work on a transcript.

    Raises:
        ValueError: an attack does not work on this model or cannot repeat its unlearning, or two are of one kind.
    """
    kinds, model = [attack.kind for attack in attacks], known.facts.model.kind
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"attacks {', '.join(kinds)} were asked for together: at most one of each kind can run")
    for attack in attacks:
        if not suits(attack.card, model):
            works = ", ".join(suited(attack.card))
            raise ValueError(f"attack {attack.kind} does not work on {model} models: it works on {works}")
        if "classes" in attack.card.needs and known.facts.model.task == "regression":
            raise ValueError(f"attack {attack.kind} tells classes, and this model has none: it is a regression")
        if "challenge" in attack.card.needs and known.challenge is None:
            raise ValueError(
                f"attack {attack.kind} says of given records whether they were deleted, and there is no "
                f"challenge.safetensors here: it is written by runs of scenarios that name this attack"
            )
        if "simulated unlearning" in attack.card.needs and (why := not_simulated(known)):
            raise ValueError(f"attack {attack.kind} has models of its own unlearn as this one did: {why}")


def check_heard(attacks: Sequence[Attack | QueryAttack], cases: Sequence[Case]) -> None:
    """Refuse attacks that read messages where there are none, or none of single clients."""
    heard = [message for case in cases for message in case.messages]
    there = {"messages": bool(heard), "updates": any(len(message.clients) == 1 for message in heard)}
    for attack in attacks:
        for need in attack.card.needs:
            if cases and not there.get(need, True):
                tiers = "'updates' or 'aggregate'" if need == "messages" else "'updates'"
                raise ValueError(
                    f"attack {attack.kind} reads what clients sent to the server, and no such messages lie beside this "
                    f"transcript: they are written by runs of scenarios with adversary.sees = {tiers}"
                )
