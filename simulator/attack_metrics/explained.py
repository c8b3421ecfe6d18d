"""How much of a model's change records explain: told without any ground truth."""

import numpy as np
import torch

from palimpsest.attacks.linear import precise_model, released_gradients
from palimpsest.simulator.world.models.model import flat, theta
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Params, Reconstruction


def explained(guess: Reconstruction, case: Case, knowledge: PublicKnowledge) -> float:
    """Cosine between the gradient of the answer's records and what the deletion left in the parameters.

    1: the records explain the change fully; that many others would not is likely where there are many more parameters
    than numbers in a record. After a gradient step it is the change itself, at an optimum of a linear model the change
    through the public Hessian.

    Args:
        guess: records and labels that an attack answered.
        case: the deletion.
        knowledge: the public sample and the rule.

    Returns:
        In [-1, 1]; 0 where nothing changed.
    """
    model = precise_model(knowledge)
    before = model.tensors(case.before)
    kind = torch.float64 if model.spec.task == "regression" else torch.int64
    params = {name: value.requires_grad_() for name, value in before.items()}
    loss = model.losses(model.scores(params, torch.tensor(guess.x)), torch.tensor(guess.y).to(kind)).sum()
    slopes = torch.autograd.grad(loss, list(params.values()))
    gradient = {name: slope.numpy() for name, slope in zip(params, slopes, strict=True)}
    if model.linear and knowledge.facts.operator == "hessian":
        released = released_gradients([case], knowledge, "hessian", "pair").gradients[0]
        return _cosine(-theta(gradient).ravel(), released.ravel())
    return _cosine(flat(gradient), flat(_change(case)))


def _change(case: Case) -> Params:
    return {name: np.asarray(case.after[name], np.float64) - value for name, value in case.before.items()}


def _cosine(a: Array, b: Array) -> float:
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0.0 else 0.0
