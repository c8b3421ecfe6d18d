"""What a deletion of many records took out of the last layer's gradient, at which models, and what else is in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palimpsest.attacks.divergence import Reads, at_divergence, clients_of, parting, present_records
from palimpsest.attacks.linear import Operator, released_gradient
from palimpsest.simulator.world.models.model import Model, theta
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Params

_FIRST_ORDER = 0.25
"""Relative deviation that the share of each class is granted after several local steps: a model that has just learned a
class is moved less by it, by more than the way between the steps' ends tells."""
_POINTS = 5
_UNKNOWN = 0.5
"""The same where the step is not known, after the length was fitted."""


@dataclass(frozen=True)
class LastLayer:
    """G = sum of h~ r^T over the deleted records, h~ what the last layer sees of a record, as far as it was heard.

    Attributes:
        gradient: ``[p + 1, Q]`` G; its intercept row last.
        points: at least one model, evenly spaced on the way that the model went while it read the records.
        steps: taken on that way, the last of which ends at the last point.
        start: the other end of the way over which the public Hessian was averaged, where it was.
        aside: directions ``[p + 1, Q]`` that G may hold besides, each with the deviation of its multiple.
        length_deviation: relative, of the length of G.
        class_deviation: the same of what each class adds to it, independently.
        strays: how many records' terms, of either sign, G holds besides, at least.
        length_known: whether G has any length to speak of.
    """

    gradient: Array
    points: Sequence[Params]
    steps: int = 1
    start: Params | None = None
    aside: Sequence[tuple[Array, float]] = ()
    length_deviation: float = 0.0
    class_deviation: float = 0.0
    strays: float = 0.0
    length_known: bool = True


def last_layers(
    cases: Sequence[Case], knowledge: PublicKnowledge, operator: Operator, reads: Reads
) -> dict[int, LastLayer]:
    """Read every case, by index: the first round at which training and unlearning part, else the pair.

    Args:
        cases: none of them silent.
        knowledge: public facts and sample.
        operator: of the pair; of linear heads only.
        reads: ``pair`` leaves the first diverging round aside; later rounds are never read.
    """
    read = {case.index: _diverged(case, knowledge) for case in cases if reads != "pair" and case.divergence is not None}
    pairs = at_divergence([case for case in cases if case.index not in read], knowledge, "pair")
    if operator == "hessian" and knowledge.model.linear:
        return read | _solved(pairs, knowledge)
    return read | {case.index: _stepped(case, knowledge) for case in pairs}


def head_of(params: Params, model: Model) -> Array:
    """``[p + 1, Q]`` float64 Theta of the last layer, the intercept as its last row."""
    weight, bias = model.last_layer
    return theta({"weight": params[weight], "bias": params[bias]})


def _solved(cases: Sequence[Case], knowledge: PublicKnowledge) -> dict[int, LastLayer]:
    """Between two optima: the public Hessian gives G, at the model after the deletion."""
    if not cases:
        return {}
    before, after = (np.stack([theta(model) for model in models]) for models in _ends(cases))
    gradients = released_gradient(knowledge, before, after)
    return {
        case.index: LastLayer(gradient, [case.after], start=case.before)
        for case, gradient in zip(cases, gradients, strict=True)
    }


def _ends(cases: Sequence[Case]) -> tuple[list[Params], list[Params]]:
    return [case.before for case in cases], [case.after for case in cases]


def _stepped(case: Case, knowledge: PublicKnowledge) -> LastLayer:
    """Of a step along the deleted records' gradient; for networks that went otherwise, its direction is a guess."""
    model, known = knowledge.model, knowledge.facts.operator == "identity"
    change = head_of(case.before, model) - head_of(case.after, model)
    gradient = change / knowledge.facts.step if known else change
    return LastLayer(gradient, [case.before], length_deviation=0.0 if known else _UNKNOWN, length_known=known)


def _diverged(case: Case, knowledge: PublicKnowledge) -> LastLayer:
    """From the first round that differs: the leaver's message, with those of all others taken off.

    With Delta the leaver's change of the round's common model, w its weight and W that of all who took part,
    W (theta_{r+1} - theta_r) - (W - w) (theta'_{r+1} - theta_r) = w Delta. Where the server makes something else of the
    mean update, that is undone. W is known on average; what is wrong with it adds a multiple of the others' mean step
    and stretches the answer.
    """
    architecture, read = knowledge.model, parting(case, knowledge.facts.training)
    weight, present, doubt = _weights(case.size, knowledge)
    change = {name: value * (present / weight) for name, value in read.of_leavers(weight / present).items()}
    steps, length, uneven = _local(case.size, knowledge)
    others = head_of(read.without, architecture) / length
    return LastLayer(
        gradient=head_of(change, architecture) / length,
        points=_along(read.common, change, steps),
        steps=steps,
        aside=[(others, doubt * present / weight)] if doubt else [],
        length_deviation=doubt,
        class_deviation=_FIRST_ORDER if steps > 1 else 0.0,
        strays=uneven * case.size,
    )


def _weights(size: int, knowledge: PublicKnowledge) -> tuple[float, float, float]:
    """The leaver's weight in a round, that of all who took part, and the relative deviation of the latter.

    Clients differ in size by a deviation about as large as their mean.
    """
    training, clients = knowledge.facts.training, clients_of(knowledge)
    drawn = training["sampling"]["rate"] * clients if training.get("sampling") else training["clients_per_round"]
    doubt = float(np.sqrt(max(0.0, 1.0 / drawn - 1.0 / clients))) if drawn else 0.0
    if training["local_steps"]:
        return 1.0, float(drawn or clients), 0.0 if not training.get("sampling") else doubt
    others = (present_records(knowledge) - knowledge.facts.n / clients) / max(1.0 - 1.0 / clients, 1.0 / clients)
    return float(size), size + max(others, 0.0) * (1.0 - size / knowledge.facts.n), doubt


def _local(size: int, knowledge: PublicKnowledge) -> tuple[int, float, float]:
    """How many steps the leaver took, how far a record's gradient moved its model over all of them, how unevenly.

    A step follows the mean over its batch, so that records of an epoch's last batch, which holds fewer, count more; of
    batches drawn afresh some records are in more than others. Unevenness is the relative variance of what they count.
    """
    facts = knowledge.facts
    training = facts.training
    rate = float(training["learning_rate"])
    if facts.algorithm == "fedsgd":
        return 1, rate / size, 0.0
    batch = min(int(training["batch_size"]), size)
    if training["local_steps"]:
        steps = int(training["local_steps"])
        return steps, rate * steps / size, (size / batch - 1.0) / steps
    full, rest = divmod(size, batch)
    visits = full + (rest > 0)
    squares = full / batch + (1.0 / rest if rest else 0.0)
    epochs = int(training["local_epochs"])
    return visits * epochs, rate * epochs * visits / size, max(0.0, size * squares / visits**2 - 1.0) / epochs


def _along(common: Params, change: Params, steps: int) -> list[Params]:
    """Models on the leaver's way, from before its first step to after its last."""
    if steps == 1:
        return [common]
    places = np.linspace(0.0, 1.0, _POINTS)
    return [{name: value + place * change[name] for name, value in common.items()} for place in places]
