"""From a scenario to its arms, and to the training prefixes that they share."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from palimpsest.simulator.scenario.entries import applies, expand
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import Scenario
from palimpsest.simulator.scenario.registry import NAME_KEY, Group
from palimpsest.simulator.scenario.sections import Setting

if TYPE_CHECKING:
    from palimpsest.simulator.world.protocols.attack import Attack
    from palimpsest.simulator.world.protocols.defense import Defense
    from palimpsest.simulator.world.protocols.unlearning import Unlearner

__all__ = ["Arm", "Plan", "Prefix", "Setting", "plan"]


_LONGEST = 200
"""Characters of an arm's id: file systems take 255 bytes, and endings stand behind it."""


@dataclass(frozen=True)
class Arm:
    """One combination of everything that varies.

    Attributes:
        id: slug of what varies, unique in its scenario; a name for files.
        setting: data, model, training and deletion.
        attacks: at most one of each kind, the baselines among them.
        seed: the scenario's, by which it is called.
        entropy: what its random streams start from: the seed, or what a secret makes of it.
    """

    id: str
    setting: Setting
    unlearning: "Unlearner"
    defense: "Defense"
    attacks: "tuple[Attack, ...]"
    seed: int
    entropy: int = field(repr=False)


@dataclass(frozen=True)
class Prefix:
    """A training, and the arms that branch from it: equal are the parts of their defenses that act in it.

    Attributes:
        setting: of its first arm; others may differ in variant and adversary.
        seed, entropy: as in ``Arm``.
        defenses: these parts, in order.
    """

    setting: Setting
    seed: int
    entropy: int = field(repr=False)
    arms: tuple[Arm, ...]
    defenses: "tuple[Defense, ...]" = ()


@dataclass(frozen=True)
class Plan:
    """All arms, by training (variant, seed, defenses in it), unlearning and defense, in the scenario's order."""

    prefixes: tuple[Prefix, ...]

    @property
    def arms(self) -> tuple[Arm, ...]:
        """All arms, in order."""
        return tuple(arm for prefix in self.prefixes for arm in prefix.arms)


def plan(scenario: Scenario) -> Plan:
    """Lay out a scenario's arms.

    Raises:
        ScenarioError: two arms are the same, or a name is too long for a file.
    """
    unlearning, defense = _named("unlearning", scenario.unlearning), _named("defense", scenario.defense)
    prefixes = [
        prefix
        for setting in scenario.settings()
        for seed in scenario.seeds
        for prefix in _prefixes(setting, seed, _arms(scenario, setting, seed, unlearning, defense))
    ]
    outline = Plan(_shared(prefixes))
    ids: set[str] = set()
    for arm in outline.arms:
        if arm.id in ids:
            raise ScenarioError(
                f"two arms are called {arm.id!r}: an entry of unlearning or defense is there twice for one variant; "
                f"remove one, or tell them apart by a hyper-parameter or by `only`"
            )
        if len(arm.id) > _LONGEST:
            raise ScenarioError(
                f"the arm {arm.id!r} has a name of {len(arm.id)} characters, and files are named by it: at most "
                f"{_LONGEST}; shorten the variant's name, or let fewer hyper-parameters vary"
            )
        ids.add(arm.id)
    return outline


_Named = list[tuple[str, dict[str, Any], Any]]
"""Of each method object of a section: its slug, the entry that it comes from, and itself."""


def _prefixes(setting: Setting, seed: int, arms: Sequence[Arm]) -> list[Prefix]:
    """Group arms by what of their defenses acts in training, the first seen first."""
    from palimpsest.simulator.world.protocols.defense import in_training

    groups: dict[tuple[Defense, ...], list[Arm]] = {}
    for arm in arms:
        groups.setdefault(in_training(arm.defense), []).append(arm)
    return [Prefix(setting, seed, arms_of[0].entropy, tuple(arms_of), defenses) for defenses, arms_of in groups.items()]


def _shared(prefixes: Sequence[Prefix]) -> tuple[Prefix, ...]:
    """Make one of trainings that are the same, of variants that differ in the adversary alone."""
    groups: dict[tuple[Any, ...], Prefix] = {}
    for prefix in prefixes:
        key = (prefix.setting.trunk, prefix.seed, prefix.defenses)
        first = groups.get(key)
        groups[key] = prefix if first is None else replace(first, arms=first.arms + prefix.arms)
    return tuple(groups.values())


def _arms(scenario: Scenario, setting: Setting, seed: int, unlearning: _Named, defense: _Named) -> list[Arm]:
    attacks = [
        attack for entry in scenario.attack if applies(entry, setting.variant) for attack in expand("attack", entry)
    ]
    entropy = scenario.entropy(seed)
    return [
        Arm(_arm_id(setting.variant, how, guard, seed), setting, unlearner, protection, tuple(attacks), seed, entropy)
        for how, entry, unlearner in unlearning
        if applies(entry, setting.variant)
        for guard, shield, protection in defense
        if applies(shield, setting.variant)
    ]


def _arm_id(variant: str, unlearning: str, defense: str, seed: int) -> str:
    return "--".join(part for part in (_slug(variant), unlearning, defense, f"seed{seed}") if part)


def _named(group: Group, entries: Sequence[dict[str, Any]]) -> _Named:
    """Name every method object by its method and the hyper-parameters in which the method's objects differ.

    A stack is named by the defenses in it, and differs from others of the same ones in their hyper-parameters.
    """
    pairs = [(entry, method) for entry in entries for method in expand(group, entry)]
    key = NAME_KEY[group]
    named = []
    for entry, method in pairs:
        name = _name(method, key)
        alike = [other for _, other in pairs if _name(other, key) == name]
        varying = [value for field, value in _values(method) if len({repr(dict(_values(m))[field]) for m in alike}) > 1]
        named.append((_slug("-".join([name, *(_text(value) for value in varying)])), entry, method))
    return named


def _name(method: BaseModel, key: str) -> str:
    return "+".join(getattr(part, key) for part in getattr(method, "of", (method,)))


def _values(method: BaseModel) -> list[tuple[str, Any]]:
    """Hyper-parameters by name; those of a stack's defenses with their position before them."""
    parts: Sequence[BaseModel] = getattr(method, "of", ())
    if not parts:
        return list(method.model_dump(mode="json").items())
    return [(f"{i}.{name}", value) for i, part in enumerate(parts) for name, value in _values(part)]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _slug(text: str) -> str:
    """Letters, digits, dots, pluses and single hyphens: safe as the name of a file everywhere."""
    return re.sub(r"[^a-z0-9.+]+", "-", text.lower()).strip("-.")
