"""The table of strategies. To add one: write the file, add the card that its class carries, write its test."""

from palimpsest.simulator.world.cards import Card

CARDS: dict[str, Card] = {
    "fedavg": Card(
        target="palimpsest.server.strategies.fedavg:FedAvg",
        summary="the model moves by the weighted mean of the clients' updates",
        algorithms=("fedavg",),
        source="McMahan et al., AISTATS 2017",
    ),
    "fedavgm": Card(
        target="palimpsest.server.strategies.fedavgm:FedAvgM",
        summary="the server steps with momentum along the mean update",
        algorithms=("fedavg",),
        source="Hsu et al. 2019",
    ),
    "fedadam": Card(
        target="palimpsest.server.strategies.fedadam:FedAdam",
        summary="the server takes the mean update for a gradient, and steps by Adam",
        algorithms=("fedavg",),
        source="Reddi et al., ICLR 2021",
    ),
    "fedyogi": Card(
        target="palimpsest.server.strategies.fedyogi:FedYogi",
        summary="the server takes the mean update for a gradient, and steps by Yogi",
        algorithms=("fedavg",),
        source="Reddi et al., ICLR 2021",
    ),
}
