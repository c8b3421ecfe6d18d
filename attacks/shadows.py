"""Deletions that the adversary carries out on models of its own, made from the public sample."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import solve
from torch import Tensor

from palimpsest.attacks.linear import class_targets, precise_model
from palimpsest.attacks.queries import public_scores
from palimpsest.attacks.shadow_rules import shared_with
from palimpsest.simulator.world.models.batches import fillable
from palimpsest.simulator.world.models.gradients import gradients, onto
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.models.training import Slot, fit
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import Recipe


@dataclass(frozen=True)
class Shadow:
    """One model trained on half of the public sample, and deletions from it; answers as a service would show them.

    Attributes:
        members: ``[h]`` public rows that it was trained on.
        deleted: ``[c, k]`` public rows that each deletion took away.
        before: ``[a, Q]`` its answers to the records asked about.
        after: ``[c, a, Q]`` those of each unlearned model.
    """

    members: Array
    deleted: Array
    before: Array
    after: Array


@dataclass(frozen=True)
class ShadowPlan:
    """How many shadows.

    Attributes:
        models: trained, each on another random half.
        deletions: from each model.
        size: records that each deletion takes.
        epochs: of a model that SGD trains; the clients' own number of passes is not public.
    """

    models: int
    deletions: int
    size: int
    epochs: int = 5


def make_shadows(
    knowledge: PublicKnowledge, plan: ShadowPlan, asked: Array, rng: np.random.Generator
) -> Iterator[Shadow]:
    """Yield one shadow a model.

    Ridge is solved and downdated exactly. Every other model is trained by SGD with the public learning rate and batch
    size. Its unlearning is the rule's gradient step where that is public (operator ``identity``), else a retraining
    without the records, whose start and order are those of the shadow or fresh ones as the rule's ``coupling`` says
    (``shadow_rules``); the same where the rule solves for an optimum, which has no randomness of its own. lambda / n is
    that of the model attacked. Effects are larger than on the n private records, about in proportion to ``n / h``.

    Args:
        knowledge: the public sample and the rule.
        plan: how many; sizes beyond a quarter of the half are cut to that.
        asked: ``[a, d]`` records to ask about.
        rng: draws halves, deletions, orders and start models.
    """
    half = max(2, len(knowledge.x) // 2)
    size = max(1, min(plan.size, half // 4))
    for _ in range(plan.models):
        members = np.sort(rng.permutation(len(knowledge.x))[:half])
        turns = -(-plan.deletions * size // half)
        order = np.concatenate([rng.permutation(half) for _ in range(turns + 1)])
        deleted = order[: plan.deletions * size].reshape(plan.deletions, size)
        yield shadow_of(knowledge, members, deleted, asked, plan.epochs, rng)


def shadow_of(
    knowledge: PublicKnowledge, members: Array, deleted: Array, asked: Array, epochs: int, rng: np.random.Generator
) -> Shadow:
    """One shadow of ``make_shadows``: ``members [h]`` are rows of the public sample, ``deleted [c, k]`` of these."""
    if knowledge.model.linear and knowledge.model.squared:
        before, after = _solved(knowledge, members, deleted, asked)
    else:
        before, after = _trained(knowledge, members, deleted, asked, epochs, rng)
    return Shadow(members, members[deleted], before, after)


def _solved(knowledge: PublicKnowledge, members: Array, deleted: Array, asked: Array) -> tuple[Array, Array]:
    """Theta' = Theta - A^-1 X_d^T (I - X_d A^-1 X_d^T)^-1 (Y_d - X_d Theta), seen through the records asked about."""
    model, facts = precise_model(knowledge), knowledge.facts
    trained_on, seen = (_features(knowledge, rows) for rows in (np.asarray(knowledge.x)[members], asked))
    y = class_targets(knowledge)[members]
    wanted = model.residual(torch.zeros(len(members), facts.model.outputs, dtype=torch.float64), y).numpy()
    ridge = facts.model.regularisation * len(members) / facts.n
    solved = _pseudo_inverse(trained_on, ridge)
    residual = wanted - trained_on @ (solved @ wanted)
    reach = seen @ solved
    before = reach @ wanted
    after = np.empty((len(deleted), *before.shape))
    for i, rows in enumerate(deleted):
        pull = np.linalg.solve(np.eye(len(rows)) - trained_on[rows] @ solved[:, rows], residual[rows])
        after[i] = before - reach[:, rows] @ pull
    return before, after


def _pseudo_inverse(x: Array, ridge: float) -> Array:
    """``[d, n]`` (X^T X + ridge I)^-1 X^T = X^T (X X^T + ridge I)^-1, by the smaller of the two matrices."""
    if x.shape[1] > len(x):
        return _pseudo_inverse(x.T, ridge).T
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += ridge
    inverse: Array = solve(gram, x.T, assume_a="pos")
    return inverse


def _features(knowledge: PublicKnowledge, x: Array) -> Array:
    phi = precise_model(knowledge).embed(torch.tensor(np.asarray(x, np.float64))).numpy()
    return np.concatenate([phi, np.ones((len(phi), 1))], axis=1)


def _trained(
    knowledge: PublicKnowledge, members: Array, deleted: Array, asked: Array, epochs: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """By SGD; all retrainings of a shadow run together."""
    facts = knowledge.facts
    given = {
        key: facts.training[key]
        for key in ("batch_size", "learning_rate", "momentum", "optimizer")
        if key in facts.training
    }
    recipe = Recipe(**given, l2=facts.model.regularisation / facts.n)
    recipe = recipe.model_copy(update={"batch_size": fillable(recipe.batch_size, len(members))})
    model, x, asked_x = in_front(knowledge, np.asarray(knowledge.x)[members], asked)
    y = class_targets(knowledge)[members]
    orders = [rng.permutation(len(members)) for _ in range(epochs)]
    starts = [model.init(rng)]
    slots = [_slot(0, orders, (), recipe.batch_size)]
    stepped = facts.operator == "identity"
    if not stepped:
        shared = shared_with(facts.unlearning) if facts.algorithm in ("fedavg", "fedsgd") else "start and order"
        for rows in deleted:
            if shared == "nothing":
                starts.append(model.init(rng))
            if shared != "start and order":
                orders = [rng.permutation(len(members)) for _ in range(epochs)]
            slots.append(_slot(len(starts) - 1, orders, rows, recipe.batch_size))
    stacked = {name: torch.tensor(np.stack([start[name] for start in starts])) for name in starts[0]}
    params = fit(model, stacked, slots, x, y, recipe)
    if stepped:
        params = ascended(model, facts.step, params, x, y, deleted)
    with torch.no_grad():
        scores = [model.scores({name: v[i] for name, v in params.items()}, asked_x) for i in range(len(deleted) + 1)]
    shown = public_scores(torch.stack(scores).double().numpy(), model)
    return shown[0], shown[1:]


def _slot(start: int, orders: list[Array], without: Array | tuple[int, ...], batch_size: int) -> Slot:
    """All epochs as one training from a model, batches padded; forgotten records leave their places empty."""
    epochs = []
    for order in orders:
        rows = np.full(-(-len(order) // batch_size) * batch_size, -1, dtype=np.int64)
        rows[: len(order)] = np.where(np.isin(order, without), -1, order)
        epochs.append(rows.reshape(-1, batch_size))
    return Slot(start, np.concatenate(epochs))


def in_front(knowledge: PublicKnowledge, x: Array, asked: Array) -> tuple[Model, Tensor, Tensor]:
    """The model without a fixed feature map, and records to train on and to ask about that went through it.

    Features are no parameters: they are computed once, and not in every step.
    """
    model = knowledge.model
    trained_on, seen = (torch.tensor(records, dtype=model.dtype) for records in (x, asked))
    if knowledge.facts.model.features is None:
        return model, trained_on, seen
    trained_on, seen = model.embed(trained_on), model.embed(seen)
    without = {"features": None, "shape": (trained_on.shape[1],), "row_clip": 0.0}
    return model_of(knowledge.facts.model.model_copy(update=without)), trained_on, seen


def ascended(
    model: Model, step: float, params: dict[str, Tensor], x: Tensor, y: Tensor, deleted: Array
) -> dict[str, Tensor]:
    """The trained model, then for each deletion a step up the deleted records' losses from it."""
    count, size = deleted.shape
    moved = {name: value[:1].expand(count, *value.shape[1:]).clone() for name, value in params.items()}
    filled = torch.ones(count, size, dtype=torch.bool)
    share = torch.ones(count, dtype=model.dtype)  # a count of 1: sums of losses
    slopes = gradients(model, moved, x[deleted], y[deleted], filled, share)
    for name, slope in slopes.items():
        onto(moved[name], 1.0, slope, step)
    return {name: torch.cat([value[:1], moved[name]]) for name, value in params.items()}
