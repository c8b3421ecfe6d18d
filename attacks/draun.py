"""Reconstruction from the update of a client that unlearns by itself, in several local steps."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import guesses
from palimpsest.attacks.descent import Ground, MatchingTarget, Search
from palimpsest.attacks.fuia import ToldCase, as_told, ascents_of, combined, moved, of_one_path
from palimpsest.attacks.grouping import alike
from palimpsest.attacks.inversion import invert, quick_model, together_of
from palimpsest.attacks.matching import flat, steps_apart
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Case, Message, Reconstruction


class Draun(Search):
    """Search for records whose own unlearning, step by step, would move the model as the leaver's update did.

    After Lamri et al. 2025 (DRAUN, 2506.01777), of which the abstract was at hand and no code: a server that attacks
    unlearning which clients do by themselves, by optimisation, without knowing which method it is, and whose object is
    the leaver's update, not the difference of two models. What follows is ours. The update is u = end - start, the sum
    of the leaver's steps up its deleted records' loss. First the records are sought whose gradients, added up along
    the way from start to end, point along u: one minus a cosine, public gradients turned down, as ``inversion`` does.
    That needs to know nothing of the method but that it ascends. Where the server knows passes and rate, having told
    them to the client, each candidate's steps are then taken anew from the start, and the records sought whose steps
    end where the leaver's did.

    A gradient that the leaver sends is read as one step, as ``fuia`` reads it. From sums it reads the first round of
    unlearning that a leaver is in, to first order: the others' training is in it. Where the leaver sends nothing that
    holds what it deletes, as after retraining: the public mean, flagged. Guarantee: none.

    Attributes:
        restarts: random starts.
        resteps: iterations of the last search.
    """

    card: ClassVar[Card] = CARDS["draun"]
    kind: Literal["draun"] = "draun"
    restarts: int = Field(default=4, ge=1)
    resteps: int = Field(default=300, ge=0)

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Reconstruct all cases; every case has the same random starts."""
        told = {case.index: heard for case in cases if (heard := as_ascended(case, knowledge)) is not None}
        found = guesses([case for case in cases if case.index not in told], knowledge, no_signal=True)
        if told:
            ground = Ground.of(knowledge)
            starts = ground.components.drawn((max(one.size for one in told.values()), self.restarts), rng)
            for together in alike(list(told.values()), together_of(knowledge, self.restarts)):
                for some in of_one_path([told[case.index] for case in together]):
                    same = starts[: some[0].size].transpose(1, 0, 2)
                    answers = invert(self, some, knowledge, ground, np.stack([same] * len(some)))
                    found |= self._stepped(some, answers, knowledge, ground)
        return [found[case.index] for case in cases]

    def _stepped(
        self,
        cases: Sequence[ToldCase],
        found: dict[int, Reconstruction],
        knowledge: PublicKnowledge,
        ground: Ground,
    ) -> dict[int, Reconstruction]:
        """Once more from the answers, by the steps that the leaver was told to take."""
        rule, batch = knowledge.facts.unlearning, knowledge.facts.training.get("batch_size", 0)
        known = rule.get("method") == "local-ascent" and all(case.size <= batch and case.alone for case in cases)
        if not known or not self.resteps or knowledge.facts.model.task == "regression":
            return found
        model = quick_model(knowledge)
        start = model.tensors(cases[0].before)
        target = torch.stack([flat(model.tensors(case.after), model) - flat(start, model) for case in cases])
        y = torch.tensor(np.stack([found[case.index].y for case in cases]).astype(np.int64))
        match = steps_apart(model, start, int(rule["epochs"]), float(rule["learning_rate"]))
        x = torch.tensor(np.stack([found[case.index].x for case in cases]), dtype=torch.float32)
        sought = MatchingTarget(ground, match, y, target)
        refined, misfit = self.model_copy(update={"tv": 0.0}).refine(sought, x, self.resteps)
        notes = [{"matching_loss": float(value)} for value in misfit]
        return {
            case.index: replace(found[case.index], x=refined[i].double().numpy(), notes=notes[i])
            for i, case in enumerate(cases)
        }


def as_ascended(case: Case, knowledge: PublicKnowledge) -> ToldCase | None:
    """The case at the model that the leaver began from, and that model moved by its update.

    Returns:
        None where no message holds what is deleted, or the difference of two would have to be taken.
    """
    updates = ascents_of(case)
    alone = len(updates) == 1
    if not updates and (cohort := _sum_of(case, knowledge)) is not None:
        updates = [cohort]
    if updates:
        start, sent = updates[0].start, combined([(1.0, update) for update in updates])
        if not any(np.any(value) for value in sent.values()):
            return None
        end = {name: np.asarray(value, np.float64) + sent[name] for name, value in start.items()}
        return replace(moved(case, start, sent, toward=end), alone=alone)
    heard = [m for m in case.messages if m.phase == "unlearning" and m.about == "forgotten"]
    return as_told(case, knowledge) if heard else None


def _sum_of(case: Case, knowledge: PublicKnowledge) -> Message | None:
    """The first sum of a cohort in which a leaver ascends."""
    if knowledge.facts.unlearning.get("method") != "local-ascent":
        return None
    leavers = set(case.clients or ())
    sums = [m for m in case.messages if m.phase == "unlearning" and m.kind == "update" and len(m.clients) > 1]
    return next((m for m in sums if leavers & set(m.clients)), None)
