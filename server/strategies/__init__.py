"""The table of strategies. To add one: write the file, add the card that its class carries, write its test."""

from palimpsest.simulator.world.cards import Card

CARDS: dict[str, Card] = {
    "fedavg": Card(
        target="palimpsest.server.strategies.fedavg:FedAvg",
        summary="the model moves by the weighted mean of the clients' updates",
        algorithms=("fedavg",),
        source="McMahan et al., AISTATS 2017",
    ),
    "fedprox": Card(
        target="palimpsest.server.strategies.fedprox:FedProx",
        summary="clients are held near the global model by a proximal term",
        algorithms=("fedavg",),
        needs=("client step",),
        source="Li et al., MLSys 2020",
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
    "scaffold": Card(
        target="palimpsest.server.strategies.scaffold:Scaffold",
        summary="control variates correct the clients' drift; the server's is broadcast with the model",
        algorithms=("fedavg",),
        needs=("single updates", "client step"),
        source="Karimireddy et al., ICML 2020",
    ),
    "fedmedian": Card(
        target="palimpsest.server.strategies.fedmedian:FedMedian",
        summary="the model moves by the median of the updates, parameter by parameter",
        algorithms=("fedavg",),
        needs=("single updates",),
        source="Yin et al., ICML 2018",
    ),
    "trimmed-mean": Card(
        target="palimpsest.server.strategies.trimmed_mean:TrimmedMean",
        summary="the model moves by the mean of the updates without the largest and the smallest, by parameter",
        algorithms=("fedavg",),
        needs=("single updates",),
        source="Yin et al., ICML 2018",
    ),
    "krum": Card(
        target="palimpsest.server.strategies.krum:Krum",
        summary="the model moves by the one update that is closest to the others",
        algorithms=("fedavg",),
        needs=("single updates",),
        source="Blanchard et al., NeurIPS 2017",
    ),
}
