"""The table of defenses. To add one: write the file, add its card, write its test."""

from simulator.world.cards import Card

CARDS: dict[str, Card] = {
    "none": Card(
        target="defenses.none:NoDefense",
        summary="no defense: what is released is what was computed",
    ),
    "dp-sgd": Card(
        target="defenses.dp_sgd:DpSgd",
        summary="clients step by clipped, noised gradients: record-level differential privacy",
        algorithms=("fedavg", "fedsgd"),
        places=("local training",),
        unit="record",
        pays_at="local training",
        needs=("secret noise",),
        source="Abadi et al., CCS 2016",
    ),
    "central-dp": Card(
        target="defenses.central_dp:CentralDp",
        summary="the server clips updates, weighs clients the same and adds noise: client-level differential privacy",
        algorithms=("fedavg",),
        places=("client update", "aggregation"),
        unit="client",
        pays_at="aggregation",
        needs=("secret noise",),
        source="McMahan et al., ICLR 2018; Andrew et al., NeurIPS 2021",
    ),
    "stack": Card(
        target="defenses.stack:Stack",
        summary="several defenses in one arm, each acting on what the one before it left: of = [{ kind = ... }, ...]",
    ),
}
