"""What unlearning is measured by, always beside retraining: what models are worth, and what they still know."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simulator.evaluation import Judge, Judged, distance, symmetric_kl, utility
from simulator.membership import ranks, remembers, true_positives
from simulator.world.backdoor import BackdoorConfig, marked
from simulator.world.data import AbstractPopulation
from simulator.world.models import Model
from simulator.world.protocols import UnlearningCase
from simulator.world.records import Array, Forget, Params
from simulator.world.seeding import generator

_RECORDS = 20_000
"""Clients' records on which models are judged: whole clients, drawn at random where all of them would be more."""
_FEWEST = 10
"""Retained records from which a client counts as a worst client: accuracy on fewer is a throw of dice."""

_UTILITIES = ("utility", "retained", "worst_client")
"""Measures of the entry ``utility`` of ``results.json``; all others are of ``forgetting``."""
_DISTANCES = ("distance", "kl")


@dataclass(frozen=True)
class Ended:
    """One request, and the models that it is measured by.

    Attributes:
        case: what was processed; ``before`` is the trained model.
        unlearned: the model that it ended in, as it was broadcast.
        retrained: retrainings without it that nobody saw, at least one.
    """

    case: UnlearningCase
    unlearned: Params
    retrained: Sequence[Params]


@dataclass(frozen=True)
class _View:
    """What one model says, whatever request it belongs to: of test records, of clients' records, of triggered ones."""

    params: Params
    test: Judged | None
    answers: Array
    backdoor: float | None


class Yardstick:
    """Measures the models of one training on the same records; retrained ones only once for all arms.

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
        self._test = Judge(model, x, y) if self._held_out else None
        self._rows, self._owners = _judged_clients(population, seed)
        clients_x, self._labels = population.take(self._rows)
        self._clients = Judge(model, clients_x, self._labels)
        others = np.flatnonzero(y != backdoor.target) if backdoor is not None else ()
        self._triggered: Judge | None = None
        if backdoor is not None and len(others):
            target = np.full(len(others), backdoor.target)
            self._triggered = Judge(model, marked(backdoor, population.schema, x[others]), target)
        self._retrained: dict[tuple[int, int], _View] = {}

    def on_test(self, params: Params) -> float | None:
        """Utility on the test records; None where there are none."""
        return None if self._test is None else self._test(params).utility

    def loss_of(self, forget: Forget) -> Callable[[Params], float]:
        """The mean loss of a model on some records of the clients."""
        judge = Judge(self._model, *self._records(forget))
        return lambda params: float(judge(params).losses.mean())

    def worth(self, ended: Sequence[Ended]) -> tuple[dict[str, Any], pd.DataFrame]:
        """Measure one arm.

        Returns:
            The entries ``utility`` and ``forgetting`` of ``results.json``, and a row for each request and model:
            ``request``, ``model`` (trained, unlearned, retrained), ``retraining``, ``records`` and the measures, NaN
            where one does not apply.
        """
        if not ended:
            return {"forgetting": {}}, pd.DataFrame()
        views: dict[int, _View] = {}
        rows: list[dict[str, Any]] = []
        found: dict[str, list[Array]] = {"trained": [], "retrained": []}
        for one in ended:
            index = one.case.request.index
            before = views.setdefault(id(one.case.before), self._view(one.case.before))
            after = self._view(one.unlearned)
            again = [self._known(number, index, params) for number, params in enumerate(one.retrained)]
            forgotten = Judge(self._model, *self._records(one.case.request.forget))
            models = [("trained", 0, before), ("unlearned", 0, after)]
            models += [("retrained", number, view) for number, view in enumerate(again)]
            for name, number, view in models:
                row = {"request": index, "model": name, "retraining": number, "records": one.case.request.size}
                others = [view for other, view in enumerate(again) if name != "retrained" or other != number]
                measured, of_records = self._measures(view, forgotten(view.params), one.case)
                rows.append(row | measured | self._distances(view, others))
                if name in found and number == 0 and of_records is not None:
                    found[name].append(of_records)
        frame = pd.DataFrame(rows)
        entry = _summary(frame, "accuracy" if self._classes else "r2")
        if found["trained"]:
            entry["forgetting"]["membership_valid"] = remembers(found["trained"], found["retrained"])
        return entry, frame

    def _known(self, retraining: int, index: int, params: Params) -> _View:
        if (retraining, index) not in self._retrained:
            self._retrained[retraining, index] = self._view(params)
        return self._retrained[retraining, index]

    def _view(self, params: Params) -> _View:
        test = self._test(params) if self._test is not None else None
        triggered = self._triggered(params).utility if self._triggered is not None else None
        return _View(params, test, self._clients(params).answers, triggered)

    def _measures(self, view: _View, on_forgotten: Judged, case: UnlearningCase) -> tuple[dict[str, float], Any]:
        """One model's measures for one request, and the membership ranks of the records that it was to forget."""
        gone = np.isin(self._rows, self._positions(case.forgotten))
        hits = view.answers == self._labels
        measured = {"retained": utility(self._model.spec.task, self._labels[~gone], view.answers[~gone])}
        measured["forget_loss"] = float(on_forgotten.losses.mean())
        if self._classes:
            measured["forget_accuracy"] = on_forgotten.utility
            left = np.bincount(self._owners[~gone], minlength=self._population.clients)
            right = np.bincount(self._owners[~gone], hits[~gone], minlength=self._population.clients)
            counted = left >= _FEWEST
            if counted.any():
                measured["worst_client"] = float((right[counted] / left[counted]).min())
        if view.backdoor is not None:
            measured["backdoor_success"] = view.backdoor
        if view.test is None:
            return measured, None
        found = ranks(on_forgotten.losses, view.test.losses)
        measured |= {"utility": view.test.utility, "membership_auc": float(found.mean())}
        rates = true_positives([found], self._held_out)
        return measured | {f"membership_{name}": rate for name, rate in rates.items()}, found

    def _distances(self, view: _View, others: Sequence[_View]) -> dict[str, float]:
        """Mean distances to retrainings; a retraining's own are to the others."""
        if not others:
            return {}
        apart = {"distance": float(np.mean([distance(view.params, other.params) for other in others]))}
        probabilities = self._classes and self._model.spec.kind not in ("ridge", "svm")
        pairs = [(view.test, other.test) for other in others]
        if probabilities:
            kls = [symmetric_kl(a.scores, b.scores) for a, b in pairs if a is not None and b is not None]
            apart |= {"kl": float(np.mean(kls))} if kls else {}
        return apart

    def _records(self, forget: Forget) -> tuple[Array, Array]:
        rows = self._positions(forget)
        return self._population.take(rows)

    def _positions(self, forget: Forget) -> Array:
        return np.concatenate([self._population.rows(client, records) for client, records in forget.items()])


def _judged_clients(population: AbstractPopulation, seed: int) -> tuple[Array, Array]:
    """Rows of the clients' records on which models are judged, and the client of each."""
    order = np.arange(population.clients)
    if population.records > _RECORDS:
        order = generator(seed, "judged-clients").permutation(population.clients)
    sizes = population.sizes[order]
    chosen = np.sort(order[: max(1, int(np.searchsorted(np.cumsum(sizes), _RECORDS, side="right")))])
    rows = np.concatenate([population.rows(client) for client in chosen])
    return rows, np.repeat(chosen, population.sizes[chosen])


# --- from rows to results --------------------------------------------------------------------------------------------


def _summary(frame: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Pool the rows of one arm over its requests; measures that apply to none of them are absent."""
    measures = frame.columns.drop(["request", "model", "retraining", "records"])
    known = [name for name in measures if frame[name].notna().any()]
    entry: dict[str, Any] = {"utility": {"metric": metric}, "forgetting": {}}
    for name in known:
        place = entry["utility" if name in _UTILITIES else "forgetting"]
        of = {model: _pooled(name, frame[frame["model"] == model]) for model in ("trained", "unlearned")}
        again = [_pooled(name, rows) for _, rows in frame[frame["model"] == "retrained"].groupby("retraining")]
        if name in _DISTANCES:
            place[f"{name}_to_retrained"] = of["unlearned"]
            place |= {f"{name}_between_retrained": float(np.mean(again))} if len(again) > 1 else {}
            continue
        place |= {_key(name, "trained"): of["trained"], _key(name, "unlearned"): of["unlearned"]}
        place[_key(name, "retrained")] = float(np.mean(again))
        place |= {f"{_key(name, 'retrained')}_spread": float(np.std(again, ddof=1))} if len(again) > 1 else {}
    if "membership_auc" in known:
        forgetting = entry["forgetting"]
        forgetting["membership_auc_gap"] = abs(forgetting["membership_auc"] - forgetting["membership_auc_retrained"])
    entry["forgetting"]["retrainings"] = 1 + int(frame["retraining"].max())
    return entry


def _pooled(name: str, rows: pd.DataFrame) -> float:
    """One figure for several requests: the median of utilities and distances, else the mean; of rates, over records."""
    values = rows[name].dropna()
    if name in _UTILITIES or name in _DISTANCES:
        return float(values.median())
    return float(np.average(values, weights=rows.loc[values.index, "records"] if "tpr" in name else None))


def _key(name: str, model: str) -> str:
    """Name of a measure of one model in ``results.json``."""
    if name == "utility":
        return model
    return f"{name}_{model}" if name in _UTILITIES or model != "unlearned" else name
