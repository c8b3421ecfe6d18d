"""Attacks on classes and on given records: a change that is no deletion leaves them at the level of chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palimpsest.simulator.attack_metrics.card import Truth
from palimpsest.simulator.attack_metrics.challenge import Status
from palimpsest.simulator.attack_metrics.labels import score_labels
from palimpsest.simulator.attack_metrics.scores import score_challenge
from palimpsest.simulator.scenario.registry import card
from palimpsest.simulator.testing.attacks import guesses
from palimpsest.simulator.testing.transcripts import Data, challenged, digits, forgetting, optimum
from palimpsest.simulator.world.models.model import linear_params
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case
from palimpsest.simulator.world.seeding import generator

COUNT = 40
"""Deletions, of one record each."""


@dataclass(frozen=True)
class Deletions:
    """``COUNT`` records that were deleted from ridge, one by one.

    Attributes:
        data: private and public records; record i is that of case i.
        cases: exact deletions.
        knowledge: what an adversary knows, with a challenge.
        status: ``[cases, entries]`` what each entry of the challenge is in each case.
    """

    data: Data
    cases: Sequence[Case]
    knowledge: PublicKnowledge
    status: Array

    @classmethod
    def under(cls, regularisation: float) -> "Deletions":
        """Solve for them."""
        data = digits(private=700, public=800)
        spec = data.spec("ridge", regularisation)
        rows = [[row] for row in range(COUNT)]
        knowledge, solution = challenged(data.knowledge(spec), data, rows)
        status = np.where(solution < 0, Status.HELD_OUT, Status.RETAINED)
        stacked = np.stack([np.where(np.isin(solution, deleted_rows), Status.DELETED, status) for deleted_rows in rows])
        return cls(data, forgetting(data, spec, rows), knowledge, stacked.astype(np.int64))

    def without_signal(self) -> list[Case]:
        """Noise in the place of every change."""
        rng = np.random.default_rng(5)
        before = optimum(self.knowledge.facts.model, self.data.x, self.data.y)
        size = 1e-3 * np.abs(before).mean()
        return [
            Case(case.index, 1, case.before, linear_params(before + size * rng.standard_normal(before.shape)))
            for case in self.cases
        ]

    def success(self, name: str, cases: Sequence[Case], **settings: Any) -> float:
        """Share of cases whose class is named, or of held-out records that the deleted one outranks."""
        answers = guesses(name, cases, self.knowledge, **settings)
        if card("attack", name).promises == "labels":
            truths = [Truth(i, np.zeros((1, 2)), np.array([float(self.data.y[i])])) for i in range(COUNT)]
            return float(score_labels(truths, answers)["class_correct"].mean())
        return float(score_challenge(self.status, answers, generator(0, "ties"))["share"].mean())


def chance_of(name: str) -> tuple[float, float]:
    """What ``success`` is by chance, and its standard deviation: 0.1 for classes of digits, 0.5 for ranks."""
    if card("attack", name).promises == "labels":
        return 0.1, float(np.sqrt(0.1 * 0.9 / COUNT))
    return 0.5, float(np.sqrt(1 / 12 / COUNT))


def check_chance(name: str, **settings: Any) -> None:
    """Where noise takes the signal's place, an attack on classes or given records does as well as chance.

    Args:
        name: of an attack that works on ridge.
        **settings: its hyper-parameters.

    Raises:
        AssertionError: it is further from chance than 3.5 standard deviations.
    """
    deletions = Deletions.under(10.0)
    blind = deletions.success(name, deletions.without_signal(), **settings)
    chance, deviation = chance_of(name)
    said = f"{name}: success {blind:.2f} on noise, where chance is {chance} with deviation {deviation:.2f}"
    assert abs(blind - chance) <= 3.5 * deviation, said
