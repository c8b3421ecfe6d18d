"""The table of defenses. To add one: write the file, add the card that its class carries, write its test."""

from palimpsest.simulator.world.cards import Card

CARDS: dict[str, Card] = {
    "none": Card(
        target="palimpsest.defenses.none:NoDefense",
        summary="no defense: what is released is what was computed",
    ),
    "dp-sgd": Card(
        target="palimpsest.defenses.dp_sgd:DpSgd",
        summary="clients step by clipped, noised gradients: record-level differential privacy",
        algorithms=("fedavg", "fedsgd"),
        places=("local training",),
        unit="record",
        pays_at="local training",
        needs=("secret noise",),
        source="Abadi et al., CCS 2016",
    ),
    "central-dp": Card(
        target="palimpsest.defenses.central_dp:CentralDp",
        summary="the server clips updates, weighs clients the same and adds noise: client-level differential privacy",
        algorithms=("fedavg",),
        places=("client update", "aggregation"),
        unit="client",
        pays_at="aggregation",
        needs=("secret noise",),
        source="McMahan et al., ICLR 2018; Andrew et al., NeurIPS 2021",
    ),
    "dp-statistics": Card(
        target="palimpsest.defenses.dp_statistics:DpStatistics",
        summary="ridge from noised statistics, with fresh noise for every release: record-level differential privacy",
        models=("ridge",),
        algorithms=("closed-form",),
        places=("aggregation", "local training"),
        unit="record",
        pays_at="aggregation",
        needs=("secret noise",),
        source="Wang, UAI 2018",
    ),
    "output-perturbation": Card(
        target="palimpsest.defenses.output_perturbation:OutputPerturbation",
        summary="noise on the minimiser, by how far one record can move it: record-level differential privacy",
        models=("ridge", "softmax"),
        algorithms=("closed-form", "lbfgs"),
        places=("aggregation", "local training"),
        unit="record",
        pays_at="aggregation",
        needs=("secret noise", "unseen iterates"),
        source="Chaudhuri et al., JMLR 2011",
    ),
    "obfuscation": Card(
        target="palimpsest.defenses.obfuscation:Obfuscation",
        summary="noise on every released parameter; none is promised by it",
        places=("release",),
        source="Hu et al., IEEE S&P 2024",
    ),
    "pruning": Card(
        target="palimpsest.defenses.pruning:Pruning",
        summary="release without the smallest parameters",
        places=("release",),
        source="Hu et al., IEEE S&P 2024",
    ),
    "rounding": Card(
        target="palimpsest.defenses.rounding:Rounding",
        summary="release parameters in fewer significant bits",
        places=("release",),
    ),
    "teleportation": Card(
        target="palimpsest.defenses.teleportation:Teleportation",
        summary="release unlearned networks at other scales of their hidden units: they compute the same",
        models=("mlp", "cnn"),
        places=("release",),
        source="Maheri et al. 2025 (WARP), arXiv 2512.00272",
    ),
    "finetuning": Card(
        target="palimpsest.defenses.finetuning:Finetuning",
        summary="ordinary rounds, unheard, between an unlearning and its release",
        algorithms=("fedavg", "fedsgd"),
        places=("schedule",),
        source="Hu et al., IEEE S&P 2024",
    ),
    "batching": Card(
        target="palimpsest.defenses.batching:Batching",
        summary="requests wait for one another and are unlearned together",
        places=("schedule",),
    ),
    "stack": Card(
        target="palimpsest.defenses.stack:Stack",
        summary="several defenses in one arm, each acting on what the one before it left: of = [{ kind = ... }, ...]",
    ),
}
