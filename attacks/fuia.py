"""Reconstruction from the messages of a federated unlearning, by the server that receives them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import guesses
from palimpsest.attacks.descent import Ground, MatchingTarget, Search
from palimpsest.attacks.divergence import DivergingCase, single_step
from palimpsest.attacks.grouping import alike
from palimpsest.attacks.inversion import invert, quick_model, together_of
from palimpsest.attacks.matching import flat, gradients_apart
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import flat as vector
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Case, Message, Params, Reconstruction, same_model


class Fuia(Search):
    """Gradient matching on the difference of the leaver's messages before and after (FUIA; Zhou and Zhu, 2502.14558).

    The server compares what the client that asks sent in training with what it sends in unlearning, reads the forgotten
    records' gradient off the difference, and looks for records with that gradient: one minus a cosine, and a prior.

    Here the pair is the one sent from the models that are nearest to each other, the earliest of equals: the same model
    where a retraining repeats the training's order. With N records behind the message u, k of them forgotten, and u'
    the message without them, -(N u - (N - k) u') is their gradient: exact for one local step over all records, of
    several steps to first order, matched along the client's own way. Where it is exact its length is known too,
    and a last search uses it. A gradient of exactly the forgotten records, which
    ascending leavers send, is matched as it is. From sums over a cohort the same is done with N of the cohort. The
    paper starts from random pixels and smooths; the search is that of ``inversion``, in the public sample's
    components. Of deleted classes see ``class-score``. Where no
    message differs: the public mean, flagged. Guarantee: none.

    Attributes:
        restarts: random starts.
    """

    card: ClassVar[Card] = CARDS["fuia"]
    kind: Literal["fuia"] = "fuia"
    restarts: int = Field(default=4, ge=1)

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Reconstruct all cases, those of one size and model in one batch; every case has the same random starts."""
        told = {case.index: told_case for case in cases if (told_case := as_told(case, knowledge)) is not None}
        answered = guesses([case for case in cases if case.index not in told], knowledge, no_signal=True)
        if told:
            ground = Ground.of(knowledge)
            starts = ground.components.drawn((max(told_case.size for told_case in told.values()), self.restarts), rng)
            for together in alike(list(told.values()), together_of(knowledge, self.restarts)):
                for some in of_one_path([told[case.index] for case in together]):
                    same = starts[: some[0].size].transpose(1, 0, 2)
                    answers = invert(self, some, knowledge, ground, np.stack([same] * len(some)))
                    answered |= self._at_length(some, answers, knowledge, ground)
        return [answered[case.index] for case in cases]

    def _at_length(
        self,
        cases: "Sequence[ToldCase]",
        earlier: Mapping[int, Reconstruction],
        knowledge: PublicKnowledge,
        ground: Ground,
    ) -> dict[int, Reconstruction]:
        """Once more from the answers, by the gradient's length too: a server knows it, and contrast is in it."""
        if knowledge.facts.model.task == "regression" or not all(case.factor for case in cases):
            return dict(earlier)
        model = quick_model(knowledge)
        start = model.tensors(cases[0].before)
        changes = torch.stack([flat(model.tensors(case.after), model) - flat(start, model) for case in cases])
        target = changes / torch.tensor([[case.factor] for case in cases], dtype=changes.dtype)
        y = torch.tensor(np.stack([earlier[case.index].y for case in cases]).astype(np.int64))
        sought = MatchingTarget(ground, gradients_apart(model, start), y, target)
        x = torch.tensor(np.stack([earlier[case.index].x for case in cases]), dtype=torch.float32)
        refined, misfit = self.model_copy(update={"tv": 0.0}).refine(sought, x, self.polish)
        return {
            case.index: replace(
                earlier[case.index], x=refined[i].double().numpy(), notes={"matching_loss": float(misfit[i])}
            )
            for i, case in enumerate(cases)
        }


@dataclass(frozen=True)
class ToldCase(DivergingCase):
    """A case as messages tell it.

    Attributes:
        factor: the change of the model is so many times the forgotten records' gradient; 0 where it is not known.
        alone: whether nobody else's training is in the change.
    """

    factor: float = 0.0
    alone: bool = True


@dataclass(frozen=True)
class _Pair:
    """A message with the forgotten records in it, and one without."""

    with_them: Message
    without: Message

    @property
    def apart(self) -> float:
        """Distance of the models that they were sent from."""
        return float(np.linalg.norm(vector(self.with_them.start) - vector(self.without.start)))


def as_told(case: Case, knowledge: PublicKnowledge) -> ToldCase | None:
    """The case with the model that the leaver's message was sent from, and that model moved along the gradient.

    Returns:
        None where the messages tell nothing: the leaver sent none, or none that differs.
    """
    after = [message for message in case.messages if message.phase == "unlearning"]
    alone = next((message for message in after if message.kind == "gradient" and message.about == "forgotten"), None)
    if alone is not None:
        step = knowledge.facts.step
        return moved(case, alone.start, combined([(step, alone)]), factor=step)
    if ascents := ascents_of(case):  # to first order; for its steps see draun
        return moved(case, ascents[0].start, combined([(1.0, update) for update in ascents]))
    pair = _nearest(case, after)
    if pair is None:
        return None
    u, v = pair.with_them, pair.without
    if u.kind == "gradient":
        return moved(case, u.start, combined([(1.0, u), (-1.0, v)]), factor=1.0)
    change = combined([(v.weight / u.weight, v), (-1.0, u)])
    if single_step(knowledge):
        return moved(case, u.start, change, factor=knowledge.facts.training["learning_rate"] / u.weight)
    end = {name: np.asarray(value, np.float64) + u.sent[name] for name, value in u.start.items()}
    return moved(case, u.start, change, toward=end)


def ascents_of(case: Case) -> list[Message]:
    """The updates of leavers that ascend by themselves, of the first round in which any does."""
    ascents = [m for m in case.messages if m.phase == "unlearning" and m.kind == "update" and m.about == "forgotten"]
    return [message for message in ascents if message.round == ascents[0].round]


def combined(parts: Sequence[tuple[float, Message]]) -> Params:
    """A weighted sum of messages, in float64."""
    return {
        name: np.sum([weight * np.asarray(message.sent[name], np.float64) for weight, message in parts], axis=0)
        for name in parts[0][1].sent
    }


def _nearest(case: Case, after: Sequence[Message]) -> _Pair | None:
    """Of one client or cohort that a leaver is in: the two messages sent from the models nearest to each other."""
    best: _Pair | None = None
    for without in after:
        for with_them in case.messages:
            if with_them.phase != "training" or with_them.clients != without.clients or with_them.kind != without.kind:
                continue
            if case.clients and not set(case.clients) & set(without.clients):
                continue
            pair = _Pair(with_them, without)
            if (best is None or pair.apart < best.apart) and not same_model(with_them.sent, without.sent):
                best = pair
    return best


def moved(case: Case, start: Params, change: Params, factor: float = 0.0, toward: Params | None = None) -> ToldCase:
    """The case at a model that was sent, and that model moved by a change along the forgotten records' gradient."""
    before = {name: np.asarray(value, np.float64) for name, value in start.items()}
    after = {name: value + change[name] for name, value in before.items()}
    return ToldCase(
        case.index,
        case.size,
        before,
        after,
        labels=case.labels,
        clients=case.clients,
        toward=toward,
        factor=factor,
    )


def of_one_path(cases: Sequence[ToldCase]) -> list[list[ToldCase]]:
    """Cases whose gradients were taken at the same models: in several local steps each client goes its own way."""
    plain = [case for case in cases if case.toward is None]
    return ([plain] if plain else []) + [[case] for case in cases if case.toward is not None]
