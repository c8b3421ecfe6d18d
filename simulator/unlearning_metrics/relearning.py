"""How fast a model learns again what it was to forget: what is still there in a disguise comes back at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from palimpsest.server.algorithms.step import states_of
from palimpsest.server.history import History
from palimpsest.server.setup import Lineage
from palimpsest.server.training import train
from palimpsest.simulator.world.protocols.strategy import States
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import Params


def relearn(
    history: History,
    cases: Sequence[UnlearningCase],
    starts: Sequence[Params],
    losses: Sequence[Callable[[Params], float]],
    most: int,
) -> list[int]:
    """Count the ordinary rounds, the forgotten records back in, until their loss is at the trained model's again.

    Cohorts and batches are drawn anew for each request, and alike for all models that learn it again.

    Args:
        history: of the training, with clients under no tombstone.
        cases: whose requests are taken back; ``before`` sets the level.
        starts: the model of each case.
        losses: for each case, a model's loss on its records.
        most: rounds after which a model is given up.

    Returns:
        Rounds of each case: 0 where the model is at that level already, ``most + 1`` where they were not enough.
    """
    levels = [loss(case.before) for case, loss in zip(cases, losses, strict=True)]
    models = list(starts)
    states: list[States] = [()] * len(cases)
    needed = [most + 1] * len(cases)
    for done in range(most + 1):
        for i in range(len(cases)):
            if needed[i] > most and losses[i](models[i]) <= levels[i]:
                needed[i] = done
        left = [i for i in range(len(cases)) if needed[i] > most]
        if not left or done == most:
            break
        lineages = [replace(_taken_back(cases[i], done), states=states[i]) for i in left]
        for step in train(
            history.record.setup, lineages, history.retrainer.federation, starts=[models[i] for i in left]
        ):
            for at, (position, model) in enumerate(zip(step.lineages, step.models, strict=True)):
                models[left[position]], states[left[position]] = model, states_of(step, at)
    return needed


def relearned(needed: Mapping[int, int], retrained: Mapping[int, int], most: int) -> dict[str, Any]:
    """What ``results.json`` says of relearning: medians, absent where most did not get there; nothing if not tried.

    Args:
        needed: rounds by request index, of an arm's models.
        retrained: the same of models that never saw the records.
        most: rounds after which a model was given up.
    """
    entry: dict[str, Any] = {}
    for suffix, rounds in (("", needed.values()), ("_retrained", [retrained[index] for index in needed])):
        if not rounds:
            continue
        middle = float(np.median(list(rounds)))
        entry |= {f"relearning_rounds{suffix}": middle} if middle <= most else {}
        entry[f"relearning_reached{suffix}"] = float(np.mean([count <= most for count in rounds]))
    return entry


def _taken_back(case: UnlearningCase, done: int) -> Lineage:
    """One ordinary round after ``done`` others, without what other requests have deleted."""
    others = {
        client: tuple(sorted(set(records) - set(case.request.forget.get(client, ()))))
        for client, records in case.forgotten.items()
    }
    return Lineage(
        branch=case.branch,
        forget={client: records for client, records in others.items() if records},
        cohorts=("relearning-cohorts", case.request.index),
        batches=("relearning-batches", case.request.index),
        noise=("relearning-noise", case.request.index),
        compact=True,
        cohorts_of_rest=True,
        first=case.round + done,
        last=case.round + done + 1,
    )
