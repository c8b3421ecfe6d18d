"""What a strategy of federated training does not go with."""

from collections.abc import Mapping, Sequence

from palimpsest.simulator.scenario.entries import Entry, applies
from palimpsest.simulator.scenario.errors import ScenarioError, listed
from palimpsest.simulator.scenario.private_methods import at, placed
from palimpsest.simulator.scenario.registry import NAME_KEY, Group, card, names
from palimpsest.simulator.scenario.sections import Setting
from palimpsest.simulator.world.protocols.strategy import CLIENT_STEP, SINGLE_UPDATES


def check_strategies(settings: Sequence[Setting], methods: Mapping[Group, Sequence[Entry]], secure: bool) -> None:
    """Refuse strategies under which a method, a defense or the federation would not do what it says.

    Raises:
        ScenarioError: says what does not go together, and what would.
    """
    for setting in settings:
        _check_algorithm(setting)
        _check_client_step(setting, methods.get("defense", ()))
        _check_single_updates(setting, methods.get("defense", ()), secure)
        for position, entry in enumerate(methods.get("unlearning", ())):
            if applies(entry, setting.variant):
                _check_unlearning(setting, position, entry[NAME_KEY["unlearning"]])
                _check_schedule(setting, position, entry[NAME_KEY["unlearning"]])


def _check_algorithm(setting: Setting) -> None:
    training = setting.training
    if training.strategy != "fedavg" and training.algorithm != "fedavg":
        raise ScenarioError(
            f"training.strategy = {training.strategy!r} with training.algorithm = {training.algorithm!r}{at(setting)}: "
            f"strategies are of rounds of local training; take algorithm = 'fedavg', or strategy = 'fedavg'"
        )


def _check_unlearning(setting: Setting, position: int, method: str) -> None:
    strategy, valid = setting.training.strategy, card("unlearning", method).strategies
    if valid and strategy not in valid:
        able = [name for name in names("unlearning") if not card("unlearning", name).strategies]
        raise ScenarioError(
            f"unlearning.{position}.method = {method!r} with training.strategy = {strategy!r}{at(setting)}: it is "
            f"valid for {listed(valid)}; take one of these, or one of the methods {listed(able)}"
        )


def _check_schedule(setting: Setting, position: int, method: str) -> None:
    schedule = setting.training.schedule
    if schedule != "constant" and card("unlearning", method).strategies:
        able = [name for name in names("unlearning") if not card("unlearning", name).strategies]
        raise ScenarioError(
            f"unlearning.{position}.method = {method!r} with training.schedule = {schedule!r}{at(setting)}: it trains "
            f"at one rate; take schedule = 'constant', or one of the methods {listed(able)}"
        )


def _check_client_step(setting: Setting, defenses: Sequence[Entry]) -> None:
    """Refuse steps that are not of plain SGD where something rests on these."""
    training, needs = setting.training, card("strategy", setting.training.strategy).needs
    other = {
        f"training.strategy = {training.strategy!r}": CLIENT_STEP in needs,
        f"training.optimizer = {training.optimizer!r}": training.optimizer != "sgd",
    }
    for path, entry in placed("defense", defenses):
        if applies(entry, setting.variant) and card("defense", entry["kind"]).pays_at == "local training":
            for given in (what for what, holds in other.items() if holds):
                able = listed(name for name in names("strategy") if CLIENT_STEP not in card("strategy", name).needs)
                raise ScenarioError(
                    f"{given} with {path}.kind = {entry['kind']!r}{at(setting)}: its clients' private steps are of SGD "
                    f"alone; take optimizer = 'sgd' and one of {able}, or another defense"
                )
    steps = {f"momentum = {training.momentum}": training.momentum > 0.0}
    steps |= {f"optimizer = {training.optimizer!r}": training.optimizer != "sgd"}
    for given in (what for what, holds in steps.items() if holds):
        if {CLIENT_STEP, SINGLE_UPDATES} <= set(needs):
            raise ScenarioError(
                f"training.strategy = {training.strategy!r} with training.{given}{at(setting)}: its control variates "
                f"are mean gradients of plain steps; take momentum = 0 and optimizer = 'sgd'"
            )


def _check_single_updates(setting: Setting, defenses: Sequence[Entry], secure: bool) -> None:
    strategy = setting.training.strategy
    if SINGLE_UPDATES not in card("strategy", strategy).needs:
        return
    given = f"training.strategy = {strategy!r}"
    able = listed(name for name in names("strategy") if SINGLE_UPDATES not in card("strategy", name).needs)
    if secure:
        raise ScenarioError(
            f"{given} with federation.secure_aggregation = true{at(setting)}: it reads each client's update, which the "
            f"server then never sees; take one of {able}, or secure_aggregation = false"
        )
    for path, entry in placed("defense", defenses):
        if applies(entry, setting.variant) and card("defense", entry["kind"]).pays_at == "aggregation":
            raise ScenarioError(
                f"{given} with {path}.kind = {entry['kind']!r}{at(setting)}: it reads each client's update, and the "
                f"defense noises their sum alone; take one of {able}, or dp-sgd"
            )
