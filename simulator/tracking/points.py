"""What is plotted against a step: an arm's models, its requests, and what the machine was doing meanwhile."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palimpsest.simulator.results.schema import Round
from palimpsest.simulator.world.protocols.events import Event, RequestDone, RoundDone

SERIES = ("round/", "request/", "arms/", "system/")
"""Beginnings of metrics that have a point a step; any other has one value."""
_OF_ROUNDS = ("utility", "loss", "update_norm", "epsilon")


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
    if isinstance(event, RoundDone) and not event.arm and event.phase == "training":
        yield from _measured(event, event.round, time)
    elif isinstance(event, RequestDone) and event.utility is not None:
        yield Point("request/utility", event.utility, time, event.request)


def of_rounds(rounds: Sequence[Round], time: int) -> list[Point]:
    """The series of an arm's models, once it is done."""
    return [point for release in rounds for point in _measured(release, release.round, time)]


def of_values(values: Mapping[str, float], time: int) -> list[Point]:
    """Metrics that have one value."""
    return [Point(key, value, time) for key, value in values.items() if not math.isnan(value)]


def arms_of(event: Event, trainings: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """The arms that an event concerns: all that share a training, or one."""
    if isinstance(event, RoundDone) and not event.arm:
        return trainings.get(event.training, ())
    return [event.arm] if isinstance(event, RoundDone | RequestDone) else []


def _measured(release: Any, step: int, time: int) -> Iterator[Point]:
    for name in _OF_ROUNDS:
        value = getattr(release, name)
        if value is not None:
            yield Point(f"round/{name}", value, time, step)
