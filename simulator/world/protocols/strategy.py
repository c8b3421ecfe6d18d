"""What a federated strategy is: what clients add to their step, and what the server makes of a round's updates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.specs import Frozen, Recipe

SINGLE_UPDATES = "single updates"
"""Need of a strategy whose server reads each client's update of a round."""

CLIENT_STEP = "client step"
"""Need of a strategy that adds something to the clients' step of SGD."""


@dataclass(frozen=True)
class ServerState:
    """What the server of one model keeps from round to round, beside the model.

    It belongs to the model: what goes on from an earlier release goes on from the state of that release, and what is
    trained anew starts with an empty one.

    Attributes:
        steps: rounds in which somebody came.
        arrays: float64 arrays of the model's shapes, by what they are.
        clients: the same for each client that the server keeps something of.
    """

    steps: int = 0
    arrays: Mapping[str, Params] = field(default_factory=dict)
    clients: Mapping[int, Params] = field(default_factory=dict)


States: TypeAlias = tuple[ServerState, ...]
"""One state for each model in training: one, or one a shard. None: training starts anew."""


@dataclass(frozen=True)
class Received:
    """What a server has of one round in which somebody came.

    Attributes:
        mean: float64 mean update, weighted by what the clients retain, as the defense lets it through.
        each: name -> ``[clients, ...]`` updates of the clients that have records left; empty unless the strategy's card
            names the need ``single updates``.
        clients: their ids, in that order.
        controls: name -> ``[clients, ...]`` the clients' new control variates, where they were sent a shift.
        population: clients that had records before any deletion.
    """

    mean: Params
    each: Params = field(default_factory=dict)
    clients: tuple[int, ...] = ()
    controls: Params = field(default_factory=dict)
    population: int = 0


class Strategy(Frozen):
    """Federated averaging (McMahan et al., AISTATS 2017): the model moves by the weighted mean of the updates.

    A strategy is a frozen configuration that overrides what it does otherwise; its fields are its hyper-parameters, and
    all have defaults. What it keeps between rounds is in the ``ServerState``, never in itself.
    """

    card: ClassVar[Card] = Card(summary="no card")
    strategy: str = "fedavg"

    @property
    def reads_single_updates(self) -> bool:
        """Whether the server has to see each client's update of a round."""
        return SINGLE_UPDATES in self.card.needs

    def local_training(self, recipe: Recipe) -> Recipe:
        """Change how clients train."""
        return recipe

    def shifts(self, clients: tuple[int, ...], state: ServerState, shapes: Mapping[str, Array]) -> Params:
        """Return name -> ``[clients, ...]`` what each client adds to its gradients; empty: nothing.

        Args:
            clients: of one block.
            state: of the model.
            shapes: arrays of the model's shapes, by name.
        """
        return {}

    def broadcast(self, state: ServerState) -> Params:
        """Return what goes out to the clients beside the model; empty: nothing."""
        return {}

    def step(self, received: Received, state: ServerState) -> tuple[Params, ServerState]:
        """Return the step of the global model, float64, and the state after it."""
        return received.mean, state
