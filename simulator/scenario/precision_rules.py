"""What a lower precision of hosts' computing does not go with."""

from collections.abc import Mapping, Sequence

from palimpsest.simulator.scenario.entries import Entry, applies
from palimpsest.simulator.scenario.errors import ScenarioError, listed
from palimpsest.simulator.scenario.private_methods import at, placed
from palimpsest.simulator.scenario.registry import NAME_KEY, Group, card, names
from palimpsest.simulator.scenario.sections import Setting
from palimpsest.simulator.world.models.kinds import CARDS, model_card
from palimpsest.simulator.world.specs import Precision

_FLOAT64 = ("closed-form", "lbfgs")
"""Algorithms whose models are computed in float64, of which no precision takes anything."""


def check_precision(
    precision: Precision, settings: Sequence[Setting], methods: Mapping[Group, Sequence[Entry]]
) -> None:
    """Refuse a precision that would change nothing, or under which a bound would not hold.

    Raises:
        ScenarioError: says what does not go together, and what would.
    """
    if precision == "highest":
        return
    given = f"runtime.precision = {precision!r}"
    rounded = [setting for setting in settings if setting.training.algorithm not in _FLOAT64]
    if not rounded:
        raise ScenarioError(
            f"{given} with training.algorithm = {settings[0].training.algorithm!r}{at(settings[0])}: it computes in "
            f"float64, which no precision changes; take 'highest', or fedavg or fedsgd"
        )
    for setting in rounded:
        _check_model(given, precision, setting)
        _check_bounds(given, setting, methods)


def _check_model(given: str, precision: Precision, setting: Setting) -> None:
    if precision == "bfloat16" and model_card(setting.model.kind).gradients is not None:
        able = listed(name for name, about in CARDS.items() if about.gradients is None)
        raise ScenarioError(
            f"{given} with model.kind = {setting.model.kind!r}{at(setting)}: its gradients are written out as float32 "
            f"products; take 'medium' or 'highest', or a network whose gradients PyTorch takes ({able}, or another "
            f"package's)"
        )


def _check_bounds(given: str, setting: Setting, methods: Mapping[Group, Sequence[Entry]]) -> None:
    """Refuse promises that rest on how far one record's gradient can move a sum, which rounding may exceed."""
    for path, entry in placed("defense", methods.get("defense", ())):
        if applies(entry, setting.variant) and card("defense", entry["kind"]).pays_at == "local training":
            raise ScenarioError(
                f"{given} with {path}.kind = {entry['kind']!r}{at(setting)}: gradients that are rounded after they are "
                f"clipped may be longer than its privacy counts with; take precision = 'highest', or another defense"
            )
    for position, entry in enumerate(methods.get("unlearning", ())):
        method = entry[NAME_KEY["unlearning"]]
        if applies(entry, setting.variant) and card("unlearning", method).promises == "certified":
            able = listed(name for name in names("unlearning") if card("unlearning", name).promises == "exact")
            raise ScenarioError(
                f"{given} with unlearning.{position}.method = {method!r}{at(setting)}: its certificate bounds steps "
                f"that are not rounded; take precision = 'highest', or one of {able}"
            )
