"""Which attacks work on two checkpoints, and why the others do not."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from palimpsest.simulator.scenario.entries import expand, resolve
from palimpsest.simulator.scenario.registry import card, names
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.kinds import suits
from palimpsest.simulator.world.models.model import Model

_GRANTS: Mapping[str, str] = {
    "labels": "it needs the labels of the deleted records, which an audit is not granted",
    "client": "it needs to know who asked for the deletion, which an audit is not granted",
    "seeds": "it needs the seeds of the training, which an audit is not granted",
    "challenge": "it says of given records whether they were deleted: give them by --candidates",
}


@dataclass(frozen=True)
class Applicable:
    """The attacks that are run, and a reason for each other one."""

    attacks: tuple[Any, ...]
    left_out: Mapping[str, str]


def applicable(model: Model, wanted: Sequence[str] = (), candidates: bool = False) -> Applicable:
    """Sort the attacks that there are.

    Args:
        model: what is attacked.
        wanted: names, where not all are to be tried.
        candidates: whether there are records of which is asked whether they were deleted.

    Raises:
        ScenarioError: there is no attack of a wanted name, or its package cannot be imported.
    """
    chosen: list[Any] = []
    left_out: dict[str, str] = {}
    for name in wanted or names("attack"):
        entry = resolve("attack", "--attack", {"kind": name})
        reason = _obstacle(card("attack", name), model, {"challenge"} if candidates else set())
        if reason:
            left_out[name] = reason
        else:
            chosen += expand("attack", entry)
    return Applicable(tuple(chosen), left_out)


def _obstacle(about: Card, model: Model, granted: Set[str]) -> str:
    """Why an attack cannot be run; empty where it can."""
    if not suits(about, model.spec.kind):
        asked = " and ".join([*about.traits, *about.models])
        return f"it works on models that are or have: {asked}"
    if model.spec.task == "regression" and "classes" in about.needs:
        return "it tells classes, and this model has none"
    for need in about.needs:
        if need in _GRANTS and need not in granted:
            return _GRANTS[need]
    if about.access is not None and "training" in about.needs:
        return "it trains models of its own as this one was trained, of which an audit knows nothing"
    if "last layer" in about.traits:
        try:
            _ = model.last_layer
        except ModelError as error:
            return str(error)
    return ""
