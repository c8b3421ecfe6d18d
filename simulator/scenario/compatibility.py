"""Combinations that cannot run, refused before anything starts."""

from collections.abc import Callable, Mapping, Sequence

from palimpsest.simulator.scenario.adversary import AdversaryConfig
from palimpsest.simulator.scenario.entries import Entry, applies
from palimpsest.simulator.scenario.errors import ScenarioError, listed
from palimpsest.simulator.scenario.private_methods import at, check_private, placed
from palimpsest.simulator.scenario.registry import NAME_KEY, Group, card
from palimpsest.simulator.scenario.sections import Setting
from palimpsest.simulator.scenario.strategy_rules import check_strategies
from palimpsest.simulator.scenario.tiers import check_heard, check_single, check_tier
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.kinds import suited, suits

_OPTIMISERS = {
    "closed-form": Card(summary="it forms ridge's equations", traits=("quadratic",)),
    "lbfgs": Card(summary="it needs a convex loss", traits=("linear",)),
}
"""Algorithms that solve for the optimum, and what a model must be to have one that they find."""

Obstacle = tuple[str, str]
"""What stands in the way of a need, and why; with a remedy."""


def _server_momentum(setting: Setting) -> Obstacle | None:
    training = setting.training
    if training.algorithm != "fedsgd" or training.momentum == 0.0:
        return None
    return (
        f"training.algorithm = 'fedsgd' and training.momentum = {training.momentum}",
        "a restored release lacks the server's velocity, so training from it would not be exact; take momentum = 0, "
        "or retrain",
    )


def _local_momentum(setting: Setting) -> Obstacle | None:
    if setting.training.optimizer != "sgd":
        return (
            f"training.optimizer = {setting.training.optimizer!r}",
            "its bound is of plain SGD; take optimizer = 'sgd'",
        )
    if setting.training.momentum == 0.0:
        return None
    return (
        f"training.momentum = {setting.training.momentum}",
        "its bound holds for steps that bring models no further apart, and those with momentum may; take momentum = 0",
    )


def _leaver_gone(setting: Setting) -> Obstacle | None:
    if setting.deletion.leaver_online:
        return None
    return (
        "deletion.leaver_online = false",
        "it needs a message of the leaver about what it deletes; take a method that does without (retrain, rollback, "
        "finetune), or leaver_online = true",
    )


def _no_history(setting: Setting) -> Obstacle | None:
    deletion = setting.deletion
    wrong = {
        "deletion.pattern = 'sequential'": deletion.pattern == "sequential",
        f"deletion.rounds_between = {deletion.rounds_between}": deletion.rounds_between > 0,
    }
    obstacle = next((what for what, holds in wrong.items() if holds), None)
    if obstacle is None:
        return None
    return obstacle, (
        "it needs a record of single clients' updates, which is kept of the training alone, not of what follows a "
        "first unlearning or of unseen rounds; take pattern = 'independent' or 'simultaneous', and rounds_between = 0"
    )


def _no_drift(setting: Setting) -> Obstacle | None:
    return None if setting.deletion.pattern == "sequential" else _no_history(setting)


def _unperturbed(setting: Setting) -> Obstacle | None:
    if setting.training.perturbation:
        return None
    return (
        "training.perturbation = 0",
        "its certificate hides what the step leaves behind the objective's perturbation; give training.perturbation "
        "above 0, or take downdate (ridge) or retrain",
    )


def _one_model(setting: Setting) -> Obstacle | None:
    if setting.training.shards > 1:
        return None
    return (
        "training.shards = 1",
        "it trains the shards again that a request touches, and there is one model; give training.shards of 2 or more, "
        "or take rollback",
    )


def _nothing_held_out(setting: Setting) -> Obstacle | None:
    if setting.data.test_fraction > 0.0:
        return None
    return (
        "data.test_fraction = 0",
        "it tells deleted records from held-out ones, which are taken from the test data; give test_fraction above 0",
    )


_OBSTACLES: Mapping[str, Callable[[Setting], Obstacle | None]] = {
    "memoryless server": _server_momentum,
    "leaver": _leaver_gone,
    "leaver in a cohort": _leaver_gone,
    "client updates": _no_history,
    "client drift": _no_drift,
    "plain SGD": _local_momentum,
    "shard checkpoints": _one_model,
    "perturbed objective": _unperturbed,
    "challenge": _nothing_held_out,
}
_GRANTS = ("labels", "client", "seeds", "rest")
_ON_SHARDS = ("sharded", "retrain", "none")
"""Unlearning methods that work where several models are trained apart."""


def check(settings: Sequence[Setting], methods: Mapping[Group, Sequence[Entry]], secure: bool) -> None:
    """Refuse what cannot run.

    Args:
        settings: the variants, or the one setting there is.
        methods: resolved entries.
        secure: whether secure aggregation is declared.

    Raises:
        ScenarioError: says what does not go together, and what would.
    """
    for setting in settings:
        _check_training(setting)
        _check_deletion(setting)
        _check_adversary(setting)
        check_tier(setting, secure)
    for group, entries in methods.items():
        for path, entry in placed(group, entries):
            _check_entry(group, path, entry, settings, secure)
        _check_coverage(group, entries, settings)
    check_strategies(settings, methods, secure)
    for path, defense in placed("defense", methods.get("defense", ())):
        check_private(path, defense, methods.get("unlearning", ()), settings)


def _check_training(setting: Setting) -> None:
    training, model, clients = setting.training, setting.model, setting.data.clients
    solvable = _OPTIMISERS.get(training.algorithm)
    if solvable and not suits(solvable, model.kind):
        raise ScenarioError(
            f"training.algorithm = {training.algorithm!r} with model.kind = {model.kind!r}{at(setting)}: it solves "
            f"{listed(suited(solvable))}; take one of these, or fedavg or fedsgd"
        )
    if solvable and not (model.l2 or model.regularisation):
        raise ScenarioError(
            f"training.algorithm = {training.algorithm!r} with no regulariser{at(setting)}: the optimum need not "
            f"exist or be unique; give model.l2 or model.lambda above 0"
        )
    if training.perturbation and not solvable:
        raise ScenarioError(
            f"training.perturbation = {training.perturbation} with training.algorithm = {training.algorithm!r}"
            f"{at(setting)}: only an objective that is solved for is perturbed; give 0, or take lbfgs or closed-form"
        )
    if training.shards > 1:
        _check_shards(setting)
    if clients and training.clients_per_round > clients:
        raise ScenarioError(
            f"training.clients_per_round = {training.clients_per_round}{at(setting)}: must be at most data.clients = "
            f"{clients} (0: all of them)"
        )


def _check_shards(setting: Setting) -> None:
    training, deletion, clients = setting.training, setting.deletion, setting.data.clients
    given = f"training.shards = {training.shards}"
    if training.algorithm in _OPTIMISERS:
        raise ScenarioError(
            f"{given} with training.algorithm = {training.algorithm!r}{at(setting)}: shards are trained for a fixed "
            f"number of rounds; take fedavg or fedsgd, or shards = 1"
        )
    if clients and training.shards > clients:
        raise ScenarioError(f"{given}{at(setting)}: must be at most data.clients = {clients}")
    if 0 < training.clients_per_round < training.shards:
        raise ScenarioError(
            f"{given} with training.clients_per_round = {training.clients_per_round}{at(setting)}: every shard needs "
            f"a client a round; give at least {training.shards}, or 0 for all"
        )
    if deletion.rounds_between and deletion.pattern != "sequential":
        raise ScenarioError(
            f"{given} with deletion.rounds_between = {deletion.rounds_between}{at(setting)}: the shards' models of "
            f"unseen rounds are kept for a chain of requests only; take pattern = 'sequential', or rounds_between = 0"
        )


def _check_deletion(setting: Setting) -> None:
    deletion, training, clients = setting.deletion, setting.training, setting.data.clients
    rounds = 1 if training.algorithm in _OPTIMISERS else training.rounds
    if deletion.rounds_between and training.algorithm in _OPTIMISERS:
        raise ScenarioError(
            f"deletion.rounds_between = {deletion.rounds_between} with training.algorithm = {training.algorithm!r}"
            f"{at(setting)}: it has no rounds to wait for; give 0, or take fedavg or fedsgd"
        )
    if clients and deletion.group > clients:
        raise ScenarioError(f"deletion.group = {deletion.group}{at(setting)}: must be at most data.clients = {clients}")
    for position, request in enumerate(deletion.request):
        for key, none, round in (("round", "the last", request.round), ("rejoin", "never", request.rejoin)):
            if round > rounds:
                raise ScenarioError(
                    f"deletion.request.{position}.{key} = {round}{at(setting)}: must be at most {rounds}, the "
                    f"rounds of {training.algorithm} (0: {none})"
                )
        names = setting.data.client_names
        if isinstance(request.client, str) and setting.data.partition.scheme != "natural" and not names:
            raise ScenarioError(
                f"deletion.request.{position}.client = {request.client!r}{at(setting)}: clients have no names; give "
                f"them some as data.client_names, take data.partition.scheme = 'natural', or give a number"
            )
        if clients and isinstance(request.client, int) and request.client >= clients:
            raise ScenarioError(
                f"deletion.request.{position}.client = {request.client}{at(setting)}: there is no such client; with "
                f"data.clients = {clients} ids go from 0 to {clients - 1}"
            )


def _check_adversary(setting: Setting) -> None:
    adversary, training = setting.adversary, setting.training
    if setting.deletion.pattern == "sequential" and not adversary.knows_bracket:
        raise ScenarioError(
            f"adversary.knows_bracket = false with deletion.pattern = 'sequential'{at(setting)}: telling "
            f"where an unlearning begins on one chain of releases is not built yet; take independent, or "
            f"knows_bracket = true"
        )
    if not adversary.missed_rounds:
        return
    given = f"adversary.missed_rounds = {adversary.missed_rounds}{at(setting)}"
    if training.algorithm in _OPTIMISERS:
        raise ScenarioError(f"{given}: {training.algorithm} releases its solution alone; take fedavg or fedsgd, or 0")
    if setting.deletion.pattern == "sequential":
        raise ScenarioError(
            f"{given}: a release missed on a chain makes two deletions one; take records_per_request = 2, or 0"
        )
    if adversary.missed_rounds > training.rounds:
        raise ScenarioError(f"{given}: must be at most training.rounds = {training.rounds}")


def _check_entry(group: Group, path: str, entry: Entry, settings: Sequence[Setting], secure: bool) -> None:
    variants = [setting.variant for setting in settings if setting.variant]
    unknown = [name for name in entry.get("only", ()) if name not in variants]
    if unknown:
        there = f"there are {listed(variants)}" if variants else "the scenario has none; remove `only`"
        raise ScenarioError(f"{path}.only holds {unknown[0]!r}: there is no such variant; {there}")
    name, about = entry[NAME_KEY[group]], card(group, entry[NAME_KEY[group]])
    shown = f"{path}.{NAME_KEY[group]} = {name!r}"
    for setting in settings:
        if not applies(entry, setting.variant):
            continue
        supported = {
            "model.kind": ((setting.model.kind,), () if suits(about, setting.model.kind) else suited(about)),
            "training.algorithm": ((setting.training.algorithm,), about.algorithms),
            "deletion.level": (setting.deletion.levels, about.levels),
        }
        for key, (values, accepted) in supported.items():
            for value in [value for value in values if accepted and value not in accepted]:
                narrow = ", or restrict it by `only`" if setting.variant else ""
                raise ScenarioError(
                    f"{shown} with {key} = {value!r}{at(setting)}: it works on {listed(accepted)}{narrow}"
                )
        on_shards = name in _ON_SHARDS or "shard checkpoints" in about.needs
        if group == "unlearning" and setting.training.shards > 1 and not on_shards:
            raise ScenarioError(
                f"{shown} with training.shards = {setting.training.shards}{at(setting)}: it goes on from one trained "
                f"model, and there are {setting.training.shards} that are merged at release only; take "
                f"{listed(_ON_SHARDS)}, or training.shards = 1"
            )
        for need in about.needs:
            if (obstacle := _OBSTACLES[need](setting) if need in _OBSTACLES else None) is not None:
                raise ScenarioError(f"{shown} with {obstacle[0]}{at(setting)}: {obstacle[1]}")
        _check_knowledge(group, shown, about, setting.adversary)
        check_single(group, shown, about.needs, setting, secure)
        if group == "attack":
            check_heard(shown, about.needs, setting.adversary)


def _check_knowledge(group: Group, shown: str, about: Card, adversary: AdversaryConfig) -> None:
    """Refuse methods that rest on the adversary's knowing less, or more."""
    for need in about.needs:
        if need == "secret noise" and "seeds" in adversary.knows:
            raise ScenarioError(
                f"{shown} with 'seeds' in adversary.knows: what it certifies rests on noise that the seed gives away; "
                f"remove 'seeds', or take a method that certifies nothing"
            )
        if need == "unseen iterates" and adversary.sees == "broadcasts":
            raise ScenarioError(
                f"{shown} with adversary.sees = 'broadcasts': it noises the solution, and the iterates before it "
                f"are broadcast without noise; take sees = 'releases'"
            )
        if group == "attack" and need in _GRANTS and need not in adversary.knows:
            raise ScenarioError(f"{shown} needs {need!r}, which is not granted; add it to adversary.knows")


def _check_coverage(group: Group, entries: Sequence[Entry], settings: Sequence[Setting]) -> None:
    for setting in settings:
        kinds = [entry[NAME_KEY[group]] for entry in entries if applies(entry, setting.variant)]
        if not kinds:
            raise ScenarioError(
                f"{group}: no entry applies to the variant {setting.variant!r}; add one, or widen an `only`"
            )
        twice = next((kind for kind in kinds if kinds.count(kind) > 1), None)
        if group == "attack" and twice is not None:
            raise ScenarioError(
                f"attack.kind = {twice!r} is there twice{at(setting)}: a transcript is attacked once by each kind; "
                f"remove one"
            )
