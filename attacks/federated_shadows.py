"""Shadow networks trained by rounds of federated averaging, as the model attacked was: many of them at a time."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest

import numpy as np
import torch
from torch import Tensor

from palimpsest.attacks.linear import class_targets
from palimpsest.attacks.queries import public_scores
from palimpsest.attacks.shadow_rules import shared_with
from palimpsest.attacks.shadows import Shadow, ascended, in_front
from palimpsest.simulator.world.models.batches import drawn, fillable, weigh
from palimpsest.simulator.world.models.training import WIDEST, Slot, fit
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.specs import Recipe

Stacked = dict[str, Tensor]
_LOCAL = ("local_epochs", "local_steps", "batch_size", "learning_rate", "momentum", "optimizer")
_BYTES = 2**28
"""Clients' models that are held at once, about."""


@dataclass(frozen=True)
class ShadowRows:
    """What one shadow trains on and unlearns.

    Attributes:
        members: ``[h]`` rows of the sample.
        deleted: ``[c, k]`` rows that each deletion takes away.
    """

    members: Array
    deleted: Array


@dataclass(frozen=True)
class _Life:
    """What a model goes through.

    Attributes:
        start: its first parameters.
        clients: rows of each client.
        seed: of who takes part, and of the order in which each visits its rows.
        rounds: how many.
        gone: rows that are left out.
        compact: whether what is left is visited in a fresh order; else ``gone`` leaves its places empty.
        orders: seed of the order of visits alone, where it is another one than that of who takes part.
    """

    start: Stacked
    clients: Sequence[Array]
    seed: int
    rounds: int
    gone: Array
    compact: bool
    orders: int | None = None


class FederatedShadows:
    """Trains shadows on given rows, and unlearns from them by the rule attacked.

    Records are dealt to as many clients as there are, at random, as nobody tells who has which. Rounds, who takes part
    (a number of clients, or each with the probability of ``sampling``), and local training, the proximal term of
    ``fedprox`` included, are those of the public plan; ``shadow_rules.by_rounds`` says of which it can be
    followed. Defenses are left out. An unlearning is a gradient step where that is the rule (operator ``identity``);
    further rounds without the records where it is ``finetune``; else a retraining whose start, cohorts and orders are
    those of the shadow or fresh ones as its ``coupling`` says, and fresh ones where a rule has none. Shadows and their
    retrainings are stepped together.

    Args:
        knowledge: the sample, and what is public of training and unlearning.
        asked: ``[a, d]`` records to ask about.
        rng: draws clients, orders and start models.
    """

    def __init__(self, knowledge: PublicKnowledge, asked: Array, rng: np.random.Generator) -> None:
        facts = knowledge.facts
        plan = facts.training
        local = {key: plan[key] for key in _LOCAL if key in plan}
        proximal = plan["proximal_mu"] if plan.get("strategy") == "fedprox" else 0.0
        self._recipe = Recipe(**local, proximal=proximal, l2=facts.model.regularisation / facts.n)
        self._rounds = int(plan["rounds"])
        self._clients = facts.clients or 1
        self._taking_part = min(self._clients, plan.get("clients_per_round") or self._clients)
        self._rate = float(plan["sampling"]["rate"]) if plan.get("sampling") else 0.0
        if self._rate:
            self._taking_part = max(1, round(self._rate * self._clients))  # expected: it decides about memory alone
        self._facts, self._rng = facts, rng
        self._model, self._x, self._asked = in_front(knowledge, np.asarray(knowledge.x), asked)
        self._y = class_targets(knowledge)

    def of(self, plans: Sequence[ShadowRows]) -> list[Shadow]:
        """The shadow of each plan."""
        longest = -(-max(len(plan.members) for plan in plans) // self._clients)
        width = fillable(self._recipe.batch_size, longest)
        self._recipe = self._recipe.model_copy(update={"batch_size": width})
        lives = [self._life(plan) for plan in plans]
        trained = list(self._lived(lives))
        models = {name: torch.cat([some[name] for some in trained]) for name in self._model.names}
        before = self._shown(models)
        if self._facts.operator == "identity":
            step = self._facts.step
            climbed = [
                ascended(self._model, step, _one(models, i), self._x, self._y, plan.deleted)
                for i, plan in enumerate(plans)
            ]
            after = [self._shown(some)[1:] for some in climbed]
        else:
            again = self._lived(
                self._without(gone, life, _one(models, i))
                for i, (plan, life) in enumerate(zip(plans, lives, strict=True))
                for gone in plan.deleted
            )
            ends = np.cumsum([len(plan.deleted) for plan in plans])[:-1]
            after = np.split(np.concatenate([self._shown(some) for some in again]), ends)
        return [Shadow(plan.members, plan.deleted, before[i], after[i]) for i, plan in enumerate(plans)]

    def _life(self, plan: ShadowRows) -> _Life:
        """A training on all of a plan's members."""
        clients = np.array_split(self._rng.permutation(plan.members), self._clients)
        return _Life(self._start(), clients, self._seed(), self._rounds, np.zeros(0, dtype=np.int64), compact=True)

    def _without(self, gone: Array, life: _Life, trained: Stacked) -> _Life:
        """What the rule makes of a shadow's life once some rows are to be forgotten."""
        rule = self._facts.unlearning
        if rule.get("method") == "finetune":
            return replace(life, start=trained, seed=self._seed(), rounds=int(rule["rounds"]), gone=gone)
        shared = shared_with(rule)
        if shared == "start and order":
            return replace(life, gone=gone, compact=False)
        if shared == "start":
            return replace(life, gone=gone, orders=self._seed())
        return replace(life, start=self._start(), seed=self._seed(), gone=gone)

    def _start(self) -> Stacked:
        return {name: torch.tensor(value)[None] for name, value in self._model.init(self._rng).items()}

    def _seed(self) -> int:
        return int(self._rng.integers(2**62))

    def _shown(self, models: Stacked) -> Array:
        """``[models, a, Q]`` answers to the records asked about."""
        count = len(next(iter(models.values())))
        with torch.no_grad():
            scores = [
                self._model.scores({name: value[i] for name, value in models.items()}, self._asked)
                for i in range(count)
            ]
        return public_scores(torch.stack(scores).double().numpy(), self._model)

    def _lived(self, lives: Iterable[_Life]) -> Iterator[Stacked]:
        """The models that lives end in, ``[some, ...]``, as many at a time as fill a step and fit into memory."""
        together = max(2, min(WIDEST, _BYTES // (self._taking_part * self._model.bytes)))
        coming = iter(lives)
        while some := list(islice(coming, together)):
            models = {name: torch.cat([life.start[name] for life in some]) for name in self._model.names}
            courses = [self._course(life) for life in some]
            for of_round in zip_longest(*courses, fillvalue=()):
                models = self._round(models, of_round)
            yield models

    def _course(self, life: _Life) -> Iterator[list[tuple[Array, float]]]:
        """For each round the batches and the weight of every client that takes part and has something left."""
        rng = np.random.default_rng(life.seed)
        fresh = None if life.orders is None else np.random.default_rng(life.orders)
        for _ in range(life.rounds):
            parts = []
            for client in self._cohort(rng):
                rows = life.clients[client]
                gone = tuple(int(place) for place in np.flatnonzero(np.isin(rows, life.gone)))
                if fresh is not None:
                    drawn(len(rows), (), self._recipe, rng, compact=True)  # later cohorts follow it in this stream
                places = drawn(len(rows), gone, self._recipe, fresh or rng, life.compact)
                if len(rows) > len(gone):
                    batches = np.where(places < 0, -1, rows[places])
                    parts.append((batches, float(weigh(np.array(len(rows) - len(gone)), self._recipe))))
            yield parts

    def _cohort(self, rng: np.random.Generator) -> Array:
        """Ids of the clients that take part in a round: so many, or each with the public probability."""
        if self._rate:
            return np.flatnonzero(rng.random(self._clients) < self._rate)
        return rng.permutation(self._clients)[: self._taking_part]

    def _round(self, models: Stacked, parts: Sequence[Sequence[tuple[Array, float]]]) -> Stacked:
        """One round of every model: its clients train, and their models are averaged by their weights."""
        owners = [i for i, of_model in enumerate(parts) for _ in of_model]
        if not owners:
            return models
        slots = [Slot(i, batches) for i, of_model in enumerate(parts) for batches, _ in of_model]
        weights = torch.tensor([weight for of_model in parts for _, weight in of_model], dtype=torch.float64)
        owner = torch.tensor(owners)
        totals = torch.zeros(len(parts), dtype=torch.float64).index_add(0, owner, weights)
        shares = weights / totals[owner]
        updated = fit(self._model, models, slots, self._x, self._y, self._recipe)
        averaged = {}
        for name, value in models.items():
            of_clients = updated[name] * shares.to(value.dtype).view(-1, *[1] * (value.dim() - 1))
            mean = torch.zeros_like(value).index_add(0, owner, of_clients)
            idle = (totals == 0).view(-1, *[1] * (value.dim() - 1))
            averaged[name] = torch.where(idle, value, mean)
        return averaged


def _one(models: Stacked, place: int) -> Stacked:
    """One model of several, as a stack of its own."""
    return {name: value[place : place + 1] for name, value in models.items()}
