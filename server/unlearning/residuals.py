"""What a leaver contributed to the training, from the stored updates of single clients."""

from collections.abc import Iterator

import numpy as np

from palimpsest.server.blocks import weighted_mean
from palimpsest.simulator.world.protocols.unlearning import History, UnlearningCase
from palimpsest.simulator.world.records import Array


def cohorts(history: History, case: UnlearningCase) -> Iterator[tuple[dict[int, Array], dict[int, Array]]]:
    """Yield (updates of all, updates of those who stay) for every round before the request that had records in it."""
    if history.record.updates is None:
        raise ValueError("this method needs the updates of single clients, and this history has none")
    for round in history.record.updates.rounds:
        if round >= case.request.round:
            return
        clients, rows = history.record.updates.read(round)
        everyone = {k: row for k, row in zip(clients, rows, strict=True) if history.record.weights[k]}
        if everyone:
            yield everyone, {k: row for k, row in everyone.items() if k not in case.request.forget}


def residual(history: History, everyone: dict[int, Array], staying: dict[int, Array]) -> Array:
    """The round's mean update with the leavers less the mean without them; all of it where nobody stays."""
    whole = weighted_mean(everyone.items(), history.record.weights)
    return whole - weighted_mean(staying.items(), history.record.weights) if staying else whole


def contribution(history: History, everyone: dict[int, Array], staying: dict[int, Array]) -> Array:
    """The leavers' part of the round's mean update: sum of w_k u_k over them, over the weights of all."""
    leaving = {k: row for k, row in everyone.items() if k not in staying}
    if not leaving:
        return np.zeros(len(next(iter(everyone.values()))))
    share = float(history.record.weights[list(leaving)].sum() / history.record.weights[list(everyone)].sum())
    return share * weighted_mean(leaving.items(), history.record.weights)
