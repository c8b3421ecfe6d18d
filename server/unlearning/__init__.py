"""The table of unlearning methods. To add one: write the file, add its card, write its test."""

from simulator.world.cards import Card

CARDS: dict[str, Card] = {
    "retrain": Card(
        target="server.unlearning.retrain:Retrain",
        summary="the whole training again without the deleted records, its randomness coupled to the first or not",
        levels=("record", "label", "client"),
        promises="exact",
    ),
    "rollback": Card(
        target="server.unlearning.rollback:Rollback",
        summary="restore the last release that the deleted records never touched, and train again from there",
        levels=("record", "label", "client"),
        algorithms=("fedavg", "fedsgd"),
        needs=("releases", "memoryless server"),
        promises="exact",
        source="FATS, PVLDB 2024",
    ),
    "downdate": Card(
        target="server.unlearning.downdate:Downdate",
        summary="subtract the deleted records from ridge's sufficient statistics and solve again",
        levels=("record", "label", "client"),
        models=("ridge",),
        algorithms=("closed-form",),
        needs=("leaver",),
        promises="exact",
    ),
    "ascent": Card(
        target="server.unlearning.ascent:Ascent",
        summary="gradient ascent on the deleted records' losses",
        levels=("record", "label", "client"),
        needs=("leaver",),
        source="Hu et al., IEEE S&P 2024",
    ),
    "finetune": Card(
        target="server.unlearning.finetune:Finetune",
        summary="ordinary rounds without the deleted records: the baseline that approximate methods must beat",
        levels=("record", "label", "client"),
        algorithms=("fedavg", "fedsgd"),
    ),
    "federaser": Card(
        target="server.unlearning.federaser:FedEraser",
        summary="replay the stored rounds without the leaver: stored lengths, freshly calibrated directions",
        levels=("client",),
        algorithms=("fedavg",),
        needs=("client updates",),
        source="Liu et al., IWQoS 2021",
    ),
    "fedrecovery": Card(
        target="server.unlearning.fedrecovery:FedRecovery",
        summary="subtract a weighted sum of the leaver's gradient residuals; Gaussian noise on request",
        levels=("client",),
        algorithms=("fedavg",),
        needs=("client updates",),
        source="Zhang et al., TIFS 2023",
    ),
    "puf": Card(
        target="server.unlearning.puf:Puf",
        summary="one round in which the leaver's ordinary update counts negatively, then recovery rounds",
        levels=("client",),
        algorithms=("fedavg",),
        needs=("leaver",),
        source="Mora et al. 2025",
    ),
    "not": Card(
        target="server.unlearning.negate:Not",
        summary="negate the first layer's weights, then fine-tune on what is retained",
        levels=("record", "label", "client"),
        algorithms=("fedavg", "fedsgd"),
        source="Khalil et al., CVPR 2025",
    ),
    "distil": Card(
        target="server.unlearning.distil:Distil",
        summary="subtract the leaver's accumulated updates, then distil the old model in on public records",
        levels=("client",),
        algorithms=("fedavg",),
        needs=("client updates",),
        source="Wu et al. 2022",
    ),
    "none": Card(
        target="server.unlearning.ignore:Ignore",
        summary="the request is recorded and ignored: the baseline that leaks nothing and forgets nothing",
        levels=("record", "label", "client"),
    ),
}
