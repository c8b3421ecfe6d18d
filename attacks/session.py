"""The adversary alone: a transcript directory and the public knowledge beside it, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from palimpsest.attacks.cost import Cost, Meter
from palimpsest.attacks.queries import Window
from palimpsest.simulator.world.cards import Access
from palimpsest.simulator.world.models.kinds import suited, suits
from palimpsest.simulator.world.protocols.attack import Attack
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge, cases_of
from palimpsest.simulator.world.protocols.queries import QueryAttack
from palimpsest.simulator.world.protocols.transcript import Transcript
from palimpsest.simulator.world.records import Case, Guess
from palimpsest.simulator.world.seeding import generator


@dataclass(frozen=True)
class Answer:
    """What one attack said, one guess a case, in order, and what it cost over all cases."""

    guesses: list[Guess]
    cost: Cost


def attack_transcript(
    directory: Path, attacks: Sequence[Attack | QueryAttack], knowledge: PublicKnowledge | None = None, seed: int = 0
) -> dict[str, Answer]:
    """Run attacks on one transcript.

    Args:
        directory: of the transcript.
        attacks: at most one of each kind.
        knowledge: what the adversary knows; ``knowledge.json`` beside the transcript where not given.
        seed: of the attacks' own randomness; each attack has a stream of its own, whatever others run beside it.

    Returns:
        Answers by the attack's kind.

    Raises:
        TranscriptError: the transcript or the knowledge cannot be read.
        ValueError: an attack does not work on this model, or two attacks are of one kind.
    """
    known = knowledge if knowledge is not None else PublicKnowledge.open(directory / "knowledge.json")
    _check(attacks, known)
    cases = cases_of(Transcript.open(directory), known.facts)
    _check_heard(attacks, cases)
    return {attack.kind: answer(attack, cases, known, seed) for attack in attacks}


def answer(attack: Attack | QueryAttack, cases: Sequence[Case], known: PublicKnowledge, seed: int = 0) -> Answer:
    """Run one attack; one without the parameters gets a window on each case in the case's place."""
    if not cases:
        return Answer([], Cost(0.0))
    rng = generator(seed, f"attack/{attack.kind}")
    if not isinstance(attack, QueryAttack):
        with Meter() as meter:
            found = attack.run(cases, known, rng)
        return Answer(list(found), meter.cost)
    windows = [Window(case, known.model, access_of(attack)) for case in cases]
    with Meter() as meter:
        found = attack.ask(windows, known, rng)
    return Answer(list(found), replace(meter.cost, queries=sum(window.queries for window in windows)))


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


def _check(attacks: Sequence[Attack | QueryAttack], known: PublicKnowledge) -> None:
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


def _check_heard(attacks: Sequence[Attack | QueryAttack], cases: Sequence[Case]) -> None:
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
