"""What is plotted against a step: an arm's models, its requests, and what the machine was doing meanwhile."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palimpsest.simulator.results.requests import RequestResult
from palimpsest.simulator.results.schema import Round
from palimpsest.simulator.world.protocols.events import Event, RequestDone, RoundDone

SERIES = ("training/", "round/", "request/", "arms/", "system/")
"""Beginnings of metrics that have a point a step; any other has one value."""
_OF_ROUNDS = ("utility", "loss", "update_norm", "epsilon")
_OF_REQUESTS = (
    "records", "utility_before", "utility_after", "utility_retrained", "forgetting_gap", "epsilon_leaver",
    "epsilon_retained", "epsilon_retained_before", "seconds", "client_updates", "bytes_up", "bytes_down",
    "clients_left", "records_left",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One value of one metric.

    Attributes:
        time: milliseconds since 1970.
    """

    key: str
    value: float
    time: int
    step: int = 0


def of_event(event: Event, time: int) -> Iterator[Point]:
    """What an event adds to the series of its arms."""
    if isinstance(event, RoundDone):
        # An arm leaves the shared training at its first request, which may be long before the training's last round:
        # the arm's own life comes with its results.
        if not event.arm and event.phase == "training":
            yield from _named("training", {name: getattr(event, name) for name in _OF_ROUNDS}, time, event.round)
    elif isinstance(event, RequestDone):
        # the rows that come with the arm's results hold the same figures, and more
        told = {
            "utility_before": event.utility_before,
            "utility_after": event.utility,
            "epsilon_leaver": event.epsilon_leaver,
            "epsilon_retained": event.epsilon_retained,
            "epsilon_retained_before": event.epsilon_retained_before,
            "clients_left": event.clients_left,
            "records_left": event.records_left,
        }
        yield from _named("request", told, time, event.request + 1)


def of_rounds(rounds: Sequence[Round], time: int) -> list[Point]:
    """The series of an arm's models, once it is done."""
    return [point for release in rounds for point in _of_model(release, time)]


def of_requests(rows: Sequence[RequestResult], time: int) -> list[Point]:
    """The series of an arm's requests, once it is done: a step is a request's number."""
    found: list[Point] = []
    for row in rows:
        told: dict[str, Any] = {name: getattr(row, name) for name in _OF_REQUESTS}
        told |= {f"success_{attack}": got.success for attack, got in row.attacks.items()}
        told["accepted"] = row.accepted
        found += _named("request", told, time, row.number)
    return found


def of_values(values: Mapping[str, float], time: int) -> list[Point]:
    """Metrics that have one value."""
    return [Point(key, value, time) for key, value in values.items() if not math.isnan(value)]


def arms_of(event: Event, trainings: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """The arms that an event concerns: all that share a training, or one."""
    if isinstance(event, RoundDone) and not event.arm:
        return trainings.get(event.training, ())
    return [event.arm] if isinstance(event, RoundDone | RequestDone) else []


def _of_model(made: Round, time: int) -> Iterator[Point]:
    """One model of an arm's server, at its place in the server's life; working models have none of their own."""
    step = made.step
    if step is None and made.phase == "training":
        step = made.round  # of runs that gave models no step
    if step is not None and made.phase != "working":
        yield from _named("round", {name: getattr(made, name) for name in _OF_ROUNDS}, time, step)


def _named(group: str, values: Mapping[str, float | None], time: int, step: int) -> Iterator[Point]:
    for name, value in values.items():
        if value is not None:
            yield Point(f"{group}/{name}", float(value), time, step)
