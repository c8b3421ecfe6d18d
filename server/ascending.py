"""A round in which the clients that ask for a deletion unlearn by themselves while others train."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from palimpsest.server.blocks import add_up, cohort, cut
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.questions import Train
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.specs import Ascent


def ascending_round(
    setup: Setup,
    federation: Federation,
    cases: Sequence[UnlearningCase],
    lineages: Sequence[Lineage],
    ascent: Ascent,
) -> list[Params]:
    """The model of each case, moved by the mean update of its leavers, who ascend, and of an ordinary cohort.

    Args:
        setup: of the training.
        federation: the clients.
        cases: all in one question.
        lineages: of the ordinary round of each case.
        ascent: of the leavers.
    """
    blocks = []
    for i, (case, lineage) in enumerate(zip(cases, lineages, strict=True)):
        leavers = case.request.forget
        staying = [client for client in cohort(setup, lineage, lineage.first) if client not in leavers]
        blocks += list(cut(setup, lineage, i, staying))
        own = cut(setup, replace(lineage, forget=leavers), i, list(leavers))
        blocks += [replace(block, ascent=ascent) for block in own]
    models = [case.before for case in cases]
    if not blocks:
        return models
    question = Train(setup.spec, blocks, models, lineages[0].first, setup.recipe)
    totals = add_up(blocks, federation.stream(question), len(models))
    moved = []
    for model, total in zip(models, totals, strict=True):
        if total is None or total.weight == 0.0:
            moved.append(model)
            continue
        share = {name: value / total.weight for name, value in total.sums.items()}
        moved.append({name: (np.asarray(value) + share[name]).astype(value.dtype) for name, value in model.items()})
    return moved
