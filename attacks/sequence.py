"""Reconstruction of the records of many deletions jointly: each release tells of the others' operator."""

from collections.abc import Sequence as Listed
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import guesses
from palimpsest.attacks.evidence import operator_of
from palimpsest.attacks.joint import JointEquations, families, lineage
from palimpsest.attacks.prior import PrincipalComponents
from palimpsest.attacks.unmix import Unmix, records_of
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Reconstruction
from palimpsest.simulator.world.specs import Frozen


class Sequence(Frozen):
    """Independent branches or a chain of exact deletions from one optimum, solved jointly (no publication known).

    ``unmix`` gives each deletion's labels and a start. Then all records of all deletions are found together from
    ``JointEquations``: the deleted records are taken out of the public estimate of the Hessian and put in as unknowns,
    and the error of what is left, common to all releases, cancels as far as the releases depend on each other. The more
    of the training data is deleted, the better is the operator known. One deletion alone: what ``unmix`` says. Where
    nothing changed: the public mean, flagged. Guarantee: none.

    Attributes:
        components, exchanges, iterations: as for ``unmix``.
        refinements: how often the prior is moved to the neighbourhood of the answer, first by ``unmix``, then jointly.
    """

    card: ClassVar[Card] = CARDS["sequence"]
    kind: Literal["sequence"] = "sequence"
    components: int = Field(default=100, ge=1)
    exchanges: int = Field(default=20, ge=0)
    refinements: int = Field(default=3, ge=1)
    iterations: int = Field(default=150, ge=1)

    def run(self, cases: Listed[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Reconstruct the cases that go back to one model together."""
        loud = [case for case in cases if not case.silent]
        answers = guesses([case for case in cases if case.silent], knowledge, no_signal=True)
        alone = Unmix(
            components=self.components,
            exchanges=self.exchanges,
            refinements=self.refinements,
            iterations=self.iterations,
        )
        answers |= {answer.case: answer for answer in alone.run(loud, knowledge, rng)}
        if knowledge.facts.model.task == "classification" and operator_of(knowledge, "auto", loud, "pair") == "hessian":
            space = PrincipalComponents(knowledge, self.components)
            for family in families(loud):
                if len(family) > 1 and sum(case.size for case in family) < knowledge.facts.n:
                    answers |= self._together(family, knowledge, space, answers)
        return [answers[case.index] for case in cases]

    def _together(
        self,
        cases: Listed[Case],
        knowledge: PublicKnowledge,
        space: PrincipalComponents,
        starts: dict[int, Reconstruction],
    ) -> dict[int, Reconstruction]:
        """Answers by case index."""
        equations = JointEquations(knowledge, space, cases, lineage(cases))
        labels = np.concatenate([starts[case.index].y for case in cases])
        z: Array = space.coordinates(np.concatenate([starts[case.index].x for case in cases]), knowledge)
        for _ in range(self.refinements):
            z = equations.refine(z, labels, self.iterations)
        records = records_of(equations.features(z, labels), knowledge)
        ends = np.cumsum([case.size for case in cases])
        return {
            case.index: Reconstruction(case.index, records[end - case.size : end], labels[end - case.size : end])
            for case, end in zip(cases, ends, strict=True)
        }
