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
    "none": Card(
        target="server.unlearning.ignore:Ignore",
        summary="the request is recorded and ignored: the baseline that leaks nothing and forgets nothing",
        levels=("record", "label", "client"),
    ),
}
