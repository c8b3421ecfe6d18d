"""Scenarios whose model a Python program hands over."""

import tomllib
from typing import Any

from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario, dump_toml, scenario_from_dict
from palimpsest.simulator.scenario.model import ModelConfig
from palimpsest.simulator.world.models import given
from palimpsest.simulator.world.models.kinds import model_card


def with_model(scenario: Scenario, model: Any) -> Scenario:
    """The scenario with this network in the place of its model; the penalty and ``dropout`` stay as they are.

    Args:
        scenario: was checked with the model that it names.
        model: see ``given.remember``.

    Raises:
        ModelError: it is no network.
        ScenarioError: a method of the scenario does not work on it, or variants differ in their model.
    """
    kinds = {setting.model.kind for setting in scenario.settings()}
    if len(kinds) > 1:
        raise ScenarioError(
            f"model = ... is given, and the scenario's variants train {', '.join(sorted(kinds))}; give a scenario of "
            f"one model"
        )
    kind, content = given.remember(model), tomllib.loads(dump_toml(scenario))
    for section in (content, *content.get("variant", [])):
        section["model"] = _in_place_of(section.get("model", {}), kind)
    return scenario_from_dict(content)


def model_again(model: Any) -> str:
    """Put the network of a run that was begun with ``model=`` in place again; return its kind, empty: none is given."""
    return "" if model is None else given.remember(model)


def check_is_trained(scenario: Scenario, kind: str) -> None:
    """Refuse a network that the run was not begun with.

    Raises:
        ScenarioError: the run trains another model.
    """
    kinds = {setting.model.kind for setting in scenario.settings()}
    if kind and kinds != {kind}:
        raise ScenarioError(f"the run trains {', '.join(sorted(kinds))}, and model = ... is given too; leave model out")


def models_of(scenario: Scenario) -> dict[str, str]:
    """What the networks that a program handed over are, by kind."""
    kinds = {setting.model.kind for setting in scenario.settings()}
    return {kind: given.described(kind) for kind in sorted(kinds) if kind.startswith(given.PREFIX)}


def _in_place_of(before: dict[str, Any], kind: str) -> dict[str, Any]:
    """The section [model] of the network; a penalty that is only the other model's default goes with it."""
    kept: dict[str, Any] = {key: before[key] for key in ("l2", "lambda", "dropout") if key in before}
    if kept.get("l2") == model_card(before.get("kind", ModelConfig().kind)).default_l2:
        del kept["l2"]
    return {"kind": kind, **kept}
