"""Federated averaging."""

from typing import ClassVar, Literal

from palimpsest.server.strategies import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.strategy import Strategy


class FedAvg(Strategy):
    """theta <- theta + sum n_k (theta_k - theta) / sum n_k over the round's cohort (McMahan et al., AISTATS 2017)."""

    card: ClassVar[Card] = CARDS["fedavg"]
    strategy: Literal["fedavg"] = "fedavg"
