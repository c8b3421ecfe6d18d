"""Scenarios whose data a Python program hands over."""

from collections.abc import Callable

from pydantic import ValidationError

from palimpsest.simulator.scenario.errors import ScenarioError, explain
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.world.data.config import DataConfig
from palimpsest.simulator.world.data.given import PREFIX, Dataset


def with_data(scenario: Scenario, data: Dataset) -> Scenario:
    """The scenario, and each of its variants, with these records as its source.

    Raises:
        ScenarioError: it says of the data what they are not.
    """
    source = data.remember()
    try:
        moved = _moved(scenario, lambda config: {**config.model_dump(), "source": source})
    except ValidationError as error:
        raise ScenarioError(f"with data = ...: {explain(error, DataConfig, 'data')}") from None
    for setting in moved.settings():
        if setting.adversary.public_source or setting.adversary.public_sites:
            raise ScenarioError(
                "adversary.public_source and public_sites need data that every process can read; write the data to an "
                ".npz file and give it as data.source in place of data = ..."
            )
    return moved


def asked_again(scenario: Scenario, data: Dataset | None) -> None:
    """Put the data of a run that was begun with ``data=`` in place again.

    Raises:
        ScenarioError: they are not there, or others are.
    """
    sources = {setting.data.source for setting in scenario.settings()}
    given = {source for source in sources if source.startswith(PREFIX)}
    if data is None and given:
        raise ScenarioError(
            "the run was begun with data from a Python program: finish it there by resume(directory, data=...)"
        )
    if data is not None and {data.remember()} != sources:
        raise ScenarioError(
            "the run was begun with other data: give those that it was begun with"
            if given
            else f"the run reads {', '.join(sorted(sources))}, and data = ... is given too; leave data out"
        )


def _moved(scenario: Scenario, change: Callable[[DataConfig], dict[str, object]]) -> Scenario:
    variants = tuple(
        variant.model_copy(update={"data": DataConfig.model_validate(change(variant.data))})
        for variant in scenario.variant
    )
    return scenario.model_copy(update={"data": DataConfig.model_validate(change(scenario.data)), "variant": variants})
