"""What unlearning is measured by, always beside retraining: what models are worth, and what they still know."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from palimpsest.simulator.unlearning_metrics.evaluation import Evaluated, UtilityEvaluator, utility
from palimpsest.simulator.unlearning_metrics.measures import distances, measures
from palimpsest.simulator.unlearning_metrics.measures.measure import Observed, Portrait, Retained
from palimpsest.simulator.unlearning_metrics.membership import ranks, remembers
from palimpsest.simulator.unlearning_metrics.summary import summary
from palimpsest.simulator.world.data.backdoor import BackdoorConfig, marked
from palimpsest.simulator.world.data.population import AbstractPopulation
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import Array, Forget, Params
from palimpsest.simulator.world.seeding import generator

_RECORDS = 20_000
"""Clients' records on which models are judged: whole clients, drawn at random where all of them would be more."""


@dataclass(frozen=True)
class Ended:
    """One request, and the models that it is measured by.

    Attributes:
        case: what was processed; ``before`` is the trained model.
        unlearned: the model that it ended in, as it was broadcast.
        retrained: retrainings without it that nobody saw; none where nobody asked for any.
    """

    case: UnlearningCase
    unlearned: Params
    retrained: Sequence[Params]


@dataclass(frozen=True)
class _Views:
    """What some models say, whatever requests they belong to; the first axis of everything is the models'.

    Attributes:
        test: of the test records.
        answers: ``[models, n]`` of the judged clients' records.
        hits: ``[models, n]`` whether these are right.
        hits_of_owner: ``[models, owners]`` how many are.
        backdoor: ``[models]`` share of triggered records that are taken for the target.
    """

    test: Evaluated | None
    answers: Array
    hits: Array
    hits_of_owner: Array
    backdoor: Array | None


class UnlearningEvaluator:
    """Measures the models of one training on the same records; retrained ones only once for all arms.

    Models are evaluated many at a time: one after the other, each would read all of the records anew. Which ones are
    evaluated together changes no figure.

    Args:
        model: the architecture.
        population: clients' and test records; without test records, what needs them is absent.
        backdoor: what was planted in the clients' records.
        seed: of the scenario; draws clients where there are too many to judge on.
    """

    def __init__(
        self, model: Model, population: AbstractPopulation, backdoor: BackdoorConfig | None, seed: int
    ) -> None:
        self._model = model
        self._population = population
        self._classes = model.spec.task == "classification"
        x, y = population.test_x, np.asarray(population.test_y)
        self._held_out = len(y) if len(y) and (self._classes or np.ptp(y) > 0.0) else 0
        self._test = UtilityEvaluator(model, x, y) if self._held_out else None
        self._rows, owners = _judged_clients(population, seed)
        self._firsts, self._owners, self._owned = np.unique(
            owners, return_index=True, return_inverse=True, return_counts=True
        )[1:]
        clients_x, self._labels = population.take(self._rows)
        self._clients = UtilityEvaluator(model, clients_x, self._labels)
        others = np.flatnonzero(y != backdoor.target) if backdoor is not None else ()
        self._triggered: UtilityEvaluator | None = None
        if backdoor is not None and len(others):
            target = np.full(len(others), backdoor.target)
            self._triggered = UtilityEvaluator(model, marked(backdoor, population.schema, x[others]), target)
        self._retrained: dict[int, list[Portrait]] = {}
        self._measures, self._distances = measures(), distances()

    def on_test(self, models: Sequence[Params]) -> Array:
        """``[models]`` utility on the test records; empty where there are none."""
        return np.zeros(0) if self._test is None else self._test.alone(models)

    def loss_of(self, forget: Forget) -> Callable[[Params], float]:
        """The mean loss of a model on some records of the clients."""
        judge = UtilityEvaluator(self._model, *self._records(forget))
        return lambda params: float(judge([params]).losses.mean())

    def worth(self, ended: Sequence[Ended], chain: bool = False) -> tuple[dict[str, Any], pd.DataFrame]:
        """Measure one arm.

        Args:
            ended: its requests, in order.
            chain: whether each began with the model that the one before ended in.

        Returns:
            The entries ``utility`` and ``forgetting`` of ``results.json``, and a row for each request and model:
            ``request``, ``model`` (trained, unlearned, retrained), ``retraining``, ``records`` and the measures, NaN
            where one does not apply.
        """
        if not ended:
            return {"forgetting": {}}, pd.DataFrame()
        rows: list[dict[str, Any]] = []
        distances: dict[str, list[Array]] = {"trained": [], "retrained": []}
        for end, (before, after, *again) in zip(ended, self._portraits_of(ended), strict=True):
            request = end.case.request
            models = [("trained", 0, before), ("unlearned", 0, after)]
            models += [("retrained", number, portrait) for number, portrait in enumerate(again)]
            for name, number, portrait in models:
                row = {"request": request.index, "model": name, "retraining": number, "records": request.size}
                others = [other for place, other in enumerate(again) if name != "retrained" or place != number]
                rows.append(row | portrait.measured | self._apart(portrait, others))
                if name in distances and number == 0 and portrait.ranks is not None:
                    distances[name].append(portrait.ranks)
        frame = pd.DataFrame(rows)
        entry = summary(frame, "accuracy" if self._classes else "r2", self._measures, self._distances, chain)
        if distances["retrained"]:
            entry["forgetting"]["membership_valid"] = remembers(distances["trained"], distances["retrained"])
        return entry, frame

    def _apart(self, portrait: Portrait, others: Sequence[Portrait]) -> dict[str, float]:
        """Mean distances to retrainings; a retraining's own are to the others."""
        apart: dict[str, float] = {}
        for name, measure in self._distances.items():
            values = [value for other in others if (value := measure.between(portrait, other)) is not None]
            apart |= {name: float(np.mean(values))} if values else {}
        return apart

    def _portraits_of(self, ended: Sequence[Ended]) -> Iterator[list[Portrait]]:
        """For each request its models: trained, unlearned, retrained ones."""
        together = max(1, self._clients.together // (1 + len(ended[0].retrained)))
        for begin in range(0, len(ended), together):
            some = ended[begin : begin + together]
            asked = [
                [end.case.before, end.unlearned, *(() if end.case.request.index in self._retrained else end.retrained)]
                for end in some
            ]
            for end, drawn in zip(some, self._portraits([end.case for end in some], asked), strict=True):
                yield [*drawn[:2], *self._retrained.setdefault(end.case.request.index, drawn[2:])]

    def _portraits(
        self, cases: Sequence[UnlearningCase], asked: Sequence[Sequence[Params]]
    ) -> Iterator[list[Portrait]]:
        """Measure for each case some models; one that several cases share is evaluated once."""
        models = {id(params): params for of_case in asked for params in of_case}
        near = {id(params): case.before for case, of_case in zip(cases, asked, strict=True) for params in of_case}
        places = {key: place for place, key in enumerate(models)}
        views = self._views(list(models.values()), [near[key] for key in models])
        for case, asked_of in zip(cases, asked, strict=True):
            yield self._measured(case, asked_of, views, [places[id(params)] for params in asked_of])

    def _views(self, models: Sequence[Params], near: Sequence[Params]) -> _Views:
        answers = self._clients.answers(models, near)
        hits = answers == self._labels
        return _Views(
            test=self._test(models) if self._test is not None else None,
            answers=answers,
            hits=hits,
            hits_of_owner=np.add.reduceat(hits, self._firsts, axis=1, dtype=np.int64),
            backdoor=self._triggered(models).utility if self._triggered is not None else None,
        )

    def _measured(
        self, case: UnlearningCase, models: Sequence[Params], views: _Views, places: Sequence[int]
    ) -> list[Portrait]:
        """Some models for one request, given where each stands among ``views``."""
        observed = self._observed(case, models, views, places)
        figures = {
            name: _checked(name, values, len(models))
            for name, measure in self._measures.items()
            if (values := measure.values(observed)) is not None
        }
        probabilities = self._model.probabilities
        portraits = []
        for i, params in enumerate(models):
            measured = {name: float(values[i]) for name, values in figures.items()}
            ranks_of_model = None if observed.ranks is None else observed.ranks[i]
            scores = observed.test.scores[i].copy() if observed.test is not None and probabilities else None
            portraits.append(Portrait(params, measured, ranks_of_model, scores))
        return portraits

    def _observed(
        self, case: UnlearningCase, models: Sequence[Params], views: _Views, places: Sequence[int]
    ) -> Observed:
        """What measures may look at."""
        on_forgotten = UtilityEvaluator(self._model, *self._records(case.request.forget))(models)
        test = None if views.test is None else views.test.some(places)
        against = None
        if test is not None:
            pairs = zip(on_forgotten.losses, test.losses, strict=True)
            against = np.stack([ranks(members, held_out) for members, held_out in pairs])
        return Observed(
            case=case,
            model=self._model,
            models=models,
            forgotten=on_forgotten,
            retained=self._on_retained(case, views, places),
            test=test,
            held_out=self._held_out,
            ranks=against,
            backdoor=None if views.backdoor is None else views.backdoor[places],
        )

    def _on_retained(self, case: UnlearningCase, views: _Views, places: Sequence[int]) -> Retained:
        """On the judged records that are left: counts on all of them less counts on those that are gone."""
        forgotten = self._positions(case.forgotten)
        nearest = np.searchsorted(self._rows, forgotten).clip(max=len(self._rows) - 1)
        gone = nearest[self._rows[nearest] == forgotten]
        if not self._classes:
            kept = np.delete(np.arange(len(self._rows)), gone)
            answers = views.answers[places].take(kept, axis=1)
            worth = utility(self._model.spec.task, self._labels[kept], answers)
            return Retained(worth, np.zeros(0), np.zeros((len(places), 0)))
        owners, count = self._owners[gone], len(self._owned)
        left = self._owned - np.bincount(owners, minlength=count)
        lost = np.stack([np.bincount(owners, views.hits[place, gone], count) for place in places])
        right = views.hits_of_owner[places] - lost
        with np.errstate(invalid="ignore"):  # NaN where nothing is left
            return Retained(right.sum(axis=1) / left.sum(), left, right)

    def _records(self, forget: Forget) -> tuple[Array, Array]:
        return self._population.take(self._positions(forget))

    def _positions(self, forget: Forget) -> Array:
        return np.concatenate([self._population.rows(client, records) for client, records in forget.items()])


def _checked(name: str, values: Array, models: int) -> Array:
    """A measure's values, one a model.

    Raises:
        ValueError: it returned something else.
    """
    if np.shape(values) != (models,):
        raise ValueError(f"the measure {name!r} returned shape {np.shape(values)} for {models} models, not ({models},)")
    return values


def _judged_clients(population: AbstractPopulation, seed: int) -> tuple[Array, Array]:
    """Rows of the clients' records on which models are judged, and the client of each."""
    order = np.arange(population.clients)
    if population.records > _RECORDS:
        order = generator(seed, "judged-clients").permutation(population.clients)
    sizes = population.sizes[order]
    chosen = np.sort(order[: max(1, int(np.searchsorted(np.cumsum(sizes), _RECORDS, side="right")))])
    rows = np.concatenate([population.rows(client) for client in chosen])
    return rows, np.repeat(chosen, population.sizes[chosen])
