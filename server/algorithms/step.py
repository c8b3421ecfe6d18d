"""What every training algorithm yields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from palimpsest.simulator.world.errors import SettledFailure
from palimpsest.simulator.world.protocols.defense import Memory
from palimpsest.simulator.world.protocols.federation import Statistics
from palimpsest.simulator.world.protocols.strategy import States
from palimpsest.simulator.world.records import Array, Params, Phase


@dataclass(frozen=True)
class Step:
    """New models of some lineages.

    Attributes:
        lineages: positions of the lineages that moved.
        models: their models, in that order.
        round: rounds of training behind them.
        phase: ``training``, or ``working`` for what is broadcast without being a release.
        statistics: what the server keeps of each (closed form only).
        updates: client -> update as one vector, of each (fedavg, where they are kept).
        memories: what the defense remembers of each (fedavg).
        shards: the models of each one's shards (training in shards only).
        states: of the strategy's server behind each (fedavg), one a shard.
    """

    lineages: Sequence[int]
    models: Sequence[Params]
    round: int
    phase: Phase = "training"
    statistics: Sequence[Statistics] = ()
    updates: Sequence[Mapping[int, Array]] = ()
    memories: Sequence[Memory] = ()
    shards: Sequence[Sequence[Params]] = ()
    states: Sequence[States] = ()


class DivergedError(SettledFailure):
    """A model's parameters are no longer finite."""


def check_finite(model: Params, where: str) -> None:
    """Refuse to go on with a model that holds infinities or NaN.

    Raises:
        DivergedError: it does.
    """
    if not all(np.isfinite(value).all() for value in model.values()):
        raise DivergedError(f"the model diverged in {where}: lower the learning rate, or raise the regulariser")


def states_of(step: Step, position: int) -> States:
    """What the strategy's server keeps behind one of a step's models; empty where it keeps nothing."""
    return step.states[position] if step.states else ()
