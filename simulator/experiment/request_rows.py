"""A row for each request, from what the server did, what its models are worth and what attacks answered."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from palimpsest.simulator.attack_metrics.score import AttackScore
from palimpsest.simulator.experiment.inputs import ArmInputs
from palimpsest.simulator.experiment.served import Served
from palimpsest.simulator.results.requests import RequestResult
from palimpsest.simulator.world.protocols.events import RequestDone
from palimpsest.simulator.world.records import Array

_TOLD = (
    "utility_before", "epsilon_leaver", "epsilon_retained", "epsilon_retained_before", "client_updates", "bytes_up",
    "bytes_down", "clients_left", "records_left",
)  # fmt: skip
_KEYS = ("request", "model", "retraining", "records")


def request_rows(
    inputs: ArmInputs, served: Served, measured: pd.DataFrame, marks: Mapping[str, AttackScore]
) -> list[dict[str, Any]]:
    """What ``RequestResult`` says of every request of an arm, in the scenario's order.

    Args:
        inputs: of the arm.
        served: what its server did.
        measured: a row for each request and model, as ``UnlearningEvaluator.worth`` returns them.
        marks: of each attack.
    """
    cases = {processed.case.request.index: case for case, processed in enumerate(served.processed)}
    rejoined = {request.index: request.rejoin for request in inputs.shared.preparation.requests}
    forgetting = {} if measured.empty else _forgetting(measured)
    return [
        _row(done, cases.get(done.request), rejoined.get(done.request), forgetting.get(done.request, {}), marks)
        for done in served.requests
    ]


def with_attack(rows: Sequence[RequestResult], kind: str, marked: AttackScore) -> list[dict[str, Any]]:
    """The rows with what one more attack got out of them."""
    found = []
    for row in rows:
        entry = row.to_json()
        if row.case is not None and row.case in marked.cases:
            entry["attacks"] = {**entry["attacks"], kind: marked.cases[row.case]}
        found.append(entry)
    return found


def _row(
    done: RequestDone,
    case: int | None,
    rejoined: int | None,
    forgetting: dict[str, float],
    marks: Mapping[str, AttackScore],
) -> dict[str, Any]:
    retrained = forgetting.pop("utility_retrained", None)
    forgetting.pop("utility", None)
    pair = forgetting.get("membership_auc"), forgetting.get("membership_auc_retrained")
    return {
        "number": done.request + 1,
        "case": case,
        "round": done.round,
        "rejoined": rejoined,
        "level": done.level,
        "client": done.clients[0] if len(done.clients) == 1 else None,
        "clients": len(done.clients),
        "name": done.name,
        "records": done.records,
        "accepted": not done.refused,
        "reason": done.refused,
        "utility_after": done.utility,
        "utility_retrained": retrained,
        "forgetting_gap": None if pair[0] is None or pair[1] is None else abs(pair[0] - pair[1]),
        "forgetting": forgetting,
        "attacks": {} if case is None else {kind: m.cases[case] for kind, m in marks.items() if case in m.cases},
        "seconds": done.took,
        **{name: getattr(done, name) for name in _TOLD},
    }


def _forgetting(measured: pd.DataFrame) -> dict[int, dict[str, float]]:
    """What was measured of each request's models; see ``RequestResult.forgetting``."""
    names = list(measured.columns.drop(list(_KEYS)))
    values = measured[names].to_numpy(dtype=np.float64)
    after, again = (measured["model"].to_numpy() == model for model in ("unlearned", "retrained"))
    told: dict[int, dict[str, float]] = {}
    requests = measured["request"].to_numpy()
    for request, places in zip(*_places(requests), strict=True):
        of_after, of_again = (values[places[which[places]]] for which in (after, again))
        of_request: dict[str, float] = {}
        for column, name in enumerate(names):
            if name in ("distance", "kl"):
                of_request |= _known(f"{name}_to_retrained", of_after[:, column])
            else:
                of_request |= _known(name, of_after[:, column]) | _known(f"{name}_retrained", of_again[:, column])
        told[request] = of_request
    return told


def _places(values: Array) -> tuple[list[int], list[Array]]:
    """Each value, in ascending order, and where it stands."""
    order = np.argsort(values, kind="stable")
    each, firsts = np.unique(values[order], return_index=True)
    return each.tolist(), np.split(order, firsts[1:])


def _known(name: str, values: Array) -> dict[str, float]:
    """The mean of what was measured; nothing where nothing was."""
    known = values[~np.isnan(values)]
    return {name: float(known.sum() / len(known))} if len(known) else {}
