"""What a scenario grants the eavesdropper, and no more: the public knowledge that is laid beside a transcript."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from palimpsest.server.session import Processed
from palimpsest.simulator.planning.plan import Arm
from palimpsest.simulator.planning.prepared import PreparedTraining
from palimpsest.simulator.planning.public_sample import sample
from palimpsest.simulator.planning.setup import penalty
from palimpsest.simulator.scenario.adversary import SERVER_TIERS
from palimpsest.simulator.scenario.sections import Setting
from palimpsest.simulator.world.protocols.defense import in_training
from palimpsest.simulator.world.protocols.knowledge import CaseView, Facts, KnownRecords, PublicKnowledge
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import generator


def knowledge_of(
    name: str, arm: Arm, preparation: PreparedTraining, processed: Sequence[Processed], labels: Sequence[Array]
) -> PublicKnowledge:
    """The public facts and the adversary's sample of one arm.

    Args:
        name: of the scenario.
        arm: which combination.
        preparation: its data and training.
        processed: the deletions.
        labels: classes or targets of each one's records; ground truth, of which only what is granted goes in.
    """
    adversary, population, setup = arm.setting.adversary, preparation.population, preparation.setup
    n = max(1, round(population.records * adversary.n_factor))
    operator, step = arm.unlearning.public_rule()
    facts = Facts(
        scenario=name,
        schema_=population.schema,
        model=setup.spec.model_copy(update={"regularisation": penalty(arm.setting, n)}),
        n=n,
        algorithm=setup.plan.algorithm,
        training=arm.setting.training.model_dump(mode="json"),
        unlearning=arm.unlearning.model_dump(mode="json"),
        operator=operator,
        step=step,
        preprocessing=population.preprocessing,
        granted=tuple(adversary.knows),
        clients=population.clients,
        seed=arm.seed if "seeds" in adversary.knows else None,
        round_to=adversary.round_to,
        defense=_defenses(arm, preparation),
        cases=tuple(_view(arm.setting, p, y) for p, y in zip(processed, labels, strict=True)),
    )
    x, y = sample(arm.setting, population, arm.entropy)
    box_low, box_high = np.asarray(population.box_low), np.asarray(population.box_high)
    rest = _rest(preparation, processed, arm.entropy) if "rest" in adversary.knows else None
    return PublicKnowledge(facts, x, y, box_low, box_high, rest=rest)


def _defenses(arm: Arm, preparation: PreparedTraining) -> tuple[dict[str, Any], ...]:
    """The hyper-parameters of all parts: of those that act in training as they were calibrated."""
    trained = preparation.setup.defense.parts()
    parts = [*trained, *(part for part in arm.defense.parts() if part not in in_training(arm.defense))]
    return tuple(part.model_dump(mode="json") for part in parts if part.kind != "none")


def _rest(preparation: PreparedTraining, processed: Sequence[Processed], seed: int) -> KnownRecords:
    """All private records but those of any deletion, shuffled: their order would show where one is missing."""
    population = preparation.population
    gone = [population.rows(c, records) for p in processed for c, records in p.case.forgotten.items()]
    kept = np.setdiff1d(
        np.concatenate([population.rows(client) for client in range(population.clients)]),
        np.concatenate([np.zeros(0, np.int64), *gone]),
    )
    x, y = population.take(generator(seed, "rest").permutation(kept))
    return KnownRecords(x.astype(np.float64), y)


def _view(setting: Setting, processed: Processed, y: Array) -> CaseView:
    """One deletion, as far as it is granted."""
    request, knows = processed.case.request, setting.adversary.knows
    server = setting.adversary.sees in SERVER_TIERS
    return CaseView(
        before=processed.before if setting.adversary.knows_bracket else None,
        after=processed.after,
        size=request.size,
        labels=tuple(sorted(float(label) for label in y)) if "labels" in knows else None,
        clients=tuple(sorted(request.forget)) if server or "client" in knows else None,
    )


def conditions(arm: Arm, preparation: PreparedTraining) -> dict[str, Any]:
    """What an attack's success depends on, for ``results.json``: the setting, and what the adversary is granted of it.

    What does not apply is absent: coupling of a rule without one, the gradient norm at which only an optimiser stops.
    """
    setting, adversary = arm.setting, arm.setting.adversary
    training, solved = setting.training, setting.training.algorithm in ("lbfgs", "closed-form")
    depends_on: dict[str, Any] = {
        "model": setting.model.kind,
        "features": 0 if setting.model.features is None else setting.model.features.dimension,
        "algorithm": training.algorithm,
        "lambda": penalty(setting, preparation.population.records),
        "records_per_request": setting.deletion.records_per_request,
        "pattern": setting.deletion.pattern,
        "public_records": adversary.public_records or len(preparation.population.public_x),
        "public_classes": len(adversary.public_classes) or preparation.population.schema.outputs,
        "public_noise": adversary.public_noise,
        "public_source": " ".join([adversary.public_source, *map(str, adversary.public_sites)]).strip(),
        "n_factor": adversary.n_factor,
        "round_to": adversary.round_to,
    }
    if adversary.sees != "releases":
        depends_on["sees"] = adversary.sees
    if not solved:
        depends_on |= {"rounds": training.rounds, "local_epochs": training.local_epochs}
        depends_on |= {"rounds_between": setting.deletion.rounds_between, "missed_rounds": adversary.missed_rounds}
    if training.algorithm == "lbfgs":
        depends_on["gradient_norm"] = training.stop.gradient_norm
    coupling = arm.unlearning.model_dump(mode="json").get("coupling")
    return depends_on | ({} if coupling is None or solved else {"coupling": coupling})
