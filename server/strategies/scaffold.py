"""Federated averaging whose clients' drift is corrected by control variates."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.server.strategies import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.strategy import Received, ServerState, Strategy
from palimpsest.simulator.world.records import Array, Params


class Scaffold(Strategy):
    """Clients step along their gradient + c - c_k (SCAFFOLD; Karimireddy et al., ICML 2020, option II).

    After K steps of rate eta from x to y_k a client's variate is c_k - c + (x - y_k) / (K eta). The server moves x by
    eta_g times the plain mean of y_k - x, and c by the sum of the changes of c_k over the number of clients that had
    records before any deletion.

    A client keeps nothing here: the server keeps c_k of all that ever took part (a model each), and sends c - c_k with
    the block. c itself is broadcast, and heard where ``adversary.sees = "broadcasts"``.

    Attributes:
        server_learning_rate: eta_g; 1 in the paper's experiments.
    """

    card: ClassVar[Card] = CARDS["scaffold"]
    strategy: Literal["scaffold"] = "scaffold"
    server_learning_rate: float = Field(default=1.0, gt=0)

    def shifts(self, clients: tuple[int, ...], state: ServerState, shapes: Mapping[str, Array]) -> Params:
        """Return c - c_k of every client."""
        common = state.arrays.get("variate", {})
        return {
            name: np.stack([_of(common, name, value) - self._variate(state, k, name, value) for k in clients])
            for name, value in shapes.items()
        }

    def broadcast(self, state: ServerState) -> Params:
        """Return c."""
        return state.arrays.get("variate", {})

    def step(self, received: Received, state: ServerState) -> tuple[Params, ServerState]:
        """Return eta_g times the mean update; the state keeps c and the variates of all clients."""
        moved, variate = {}, {}
        for name, each in received.each.items():
            wide = np.asarray(each, np.float64)
            moved[name] = self.server_learning_rate * wide.mean(axis=0)
            old = [self._variate(state, k, name, wide[0]) for k in received.clients]
            change = (np.asarray(received.controls[name], np.float64) - np.stack(old)).sum(axis=0)
            variate[name] = _of(state.arrays.get("variate", {}), name, wide[0]) + change / received.population
        new = {
            client: {name: value[i] for name, value in received.controls.items()}
            for i, client in enumerate(received.clients)
        }
        return moved, ServerState(state.steps + 1, {"variate": variate}, {**state.clients, **new})

    def _variate(self, state: ServerState, client: int, name: str, like: Array) -> Array:
        """c_k; 0 of a client that has not yet taken part."""
        return _of(state.clients.get(client, {}), name, like)


def _of(arrays: Params, name: str, like: Array) -> Array:
    """An array in float64; zeros of the same shape where there is none yet."""
    array: Array = np.asarray(arrays[name], np.float64) if name in arrays else np.zeros(np.shape(like))
    return array
