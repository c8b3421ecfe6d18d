"""A row for each request, from what the server did, what its models are worth and what attacks answered."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from palimpsest.simulator.attack_metrics.score import AttackScore
from palimpsest.simulator.experiment.inputs import ArmInputs
from palimpsest.simulator.experiment.served import Served
from palimpsest.simulator.results.requests import RequestResult
from palimpsest.simulator.world.protocols.events import RequestDone

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
    by_request = {} if measured.empty else dict(iter(measured.groupby("request")))
    return [
        _row(done, cases.get(done.request), rejoined.get(done.request), by_request.get(done.request), marks)
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
    measured: pd.DataFrame | None,
    marks: Mapping[str, AttackScore],
) -> dict[str, Any]:
    forgetting = {} if measured is None else _forgetting(measured)
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


def _forgetting(measured: pd.DataFrame) -> dict[str, float]:
    """What was measured of one request's models; see ``RequestResult.forgetting``."""
    after, again = (measured[measured["model"] == model] for model in ("unlearned", "retrained"))
    found: dict[str, float] = {}
    for name in measured.columns.drop(list(_KEYS)):
        if name in ("distance", "kl"):
            found |= _known(f"{name}_to_retrained", after[name])
        else:
            found |= _known(name, after[name]) | _known(f"{name}_retrained", again[name])
    return found


def _known(name: str, values: pd.Series) -> dict[str, float]:
    """The mean of what was measured; nothing where nothing was."""
    mean = values.mean()
    return {} if pd.isna(mean) else {name: float(mean)}
