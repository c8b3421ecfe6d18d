"""What a user writes: typed, frozen, and refused before anything starts where it cannot be run."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import Field, PrivateAttr, ValidationError, field_validator

from palimpsest.simulator.scenario.adversary import AdversaryConfig
from palimpsest.simulator.scenario.compatibility import check
from palimpsest.simulator.scenario.entries import Entry, applies, resolve, with_defaults
from palimpsest.simulator.scenario.errors import ScenarioError, closest, explain, listed
from palimpsest.simulator.scenario.model import ModelConfig
from palimpsest.simulator.scenario.overrides import filled, merged, overridden, plain
from palimpsest.simulator.scenario.precision_rules import check_precision
from palimpsest.simulator.scenario.private_methods import check_privacy, check_randomness
from palimpsest.simulator.scenario.registry import Group
from palimpsest.simulator.scenario.runtime import RuntimeConfig, TrackingConfig
from palimpsest.simulator.scenario.secret import taken
from palimpsest.simulator.scenario.sections import (
    DeletionConfig,
    EvaluationConfig,
    FederationConfig,
    PrivacyConfig,
    Setting,
    TrainingConfig,
)
from palimpsest.simulator.scenario.tiers import check_secrecy
from palimpsest.simulator.world.data.build import DataConfig
from palimpsest.simulator.world.seeding import LARGEST, seed_under
from palimpsest.simulator.world.specs import Frozen

__all__ = ["Scenario", "ScenarioError", "dump_toml", "load_scenario", "scenario_from_dict", "shipped"]

DEFAULT = "mnist-deletions"
_LONGEST, _LONGEST_VARIANT = 100, 60
"""Characters of a name: file systems take 255 bytes, and more stands behind it."""
_VARYING = ("data", "model", "training", "deletion", "adversary")


class VariantConfig(Frozen):
    """A setting of its own: what it does not say is as in the scenario.

    Attributes:
        name: part of the arms' ids: lower-case letters and digits, single hyphens or dots between them.
    """

    name: str
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    deletion: DeletionConfig = DeletionConfig()
    adversary: AdversaryConfig = AdversaryConfig()

    @field_validator("name")
    @classmethod
    def _part_of_an_id(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9]+([.-][a-z0-9]+)*", name):
            raise ValueError("must be lower-case letters and digits, with single hyphens or dots between them")
        if len(name) > _LONGEST_VARIANT:
            raise ValueError(f"has {len(name)} characters: must be at most {_LONGEST_VARIANT}; files are named by it")
        return name


class Scenario(Frozen):
    """A whole scenario, every default filled in; ``load_scenario`` and ``scenario_from_dict`` make and check it.

    Attributes:
        name: of the run's directory and the MLflow experiment: letters, digits, dots, hyphens, underscores.
        seeds: one arm each.
        unlearning, defense, attack: entries, ``{method or kind, hyper-parameters, only}``.
        variant: settings of their own; where there are any, the scenario's own is not run.
    """

    name: str
    seeds: tuple[Annotated[int, Field(ge=0, le=LARGEST)], ...] = Field(default=(0,), min_length=1)
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    deletion: DeletionConfig = DeletionConfig()
    unlearning: tuple[Entry, ...]
    defense: tuple[Entry, ...]
    attack: tuple[Entry, ...]
    evaluation: EvaluationConfig = EvaluationConfig()
    adversary: AdversaryConfig = AdversaryConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    federation: FederationConfig = FederationConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    tracking: TrackingConfig = TrackingConfig()
    variant: tuple[VariantConfig, ...] = ()
    _secret: str = PrivateAttr(default="")

    @field_validator("name")
    @classmethod
    def _name_of_a_directory(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError("must be letters, digits, dots, hyphens and underscores, a letter or digit first")
        if len(name) > _LONGEST:
            raise ValueError(f"has {len(name)} characters: must be at most {_LONGEST}; directories are named by it")
        return name

    def entropy(self, seed: int) -> int:
        """What the random streams of one of its seeds start from; as secret as its secret."""
        return seed_under(self._secret, seed)

    def secret(self) -> str:
        """The run's secret; empty: it has none. It is in nothing that is printed or written."""
        return self._secret

    def under(self, secret: str) -> "Scenario":
        """The same scenario with this secret."""
        copy = self.model_copy()
        copy._secret = secret
        return copy

    def settings(self) -> tuple[Setting, ...]:
        """The variants, or the one setting of a scenario that has none."""
        if not self.variant:
            return (Setting("", self.data, self.model, self.training, self.deletion, self.adversary),)
        return tuple(Setting(v.name, v.data, v.model, v.training, v.deletion, v.adversary) for v in self.variant)


def shipped() -> list[str]:
    """Names of the scenarios that come with the package."""
    files = resources.files("palimpsest.simulator.scenario").joinpath("shipped").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_scenario(
    scenario: "str | Path | Mapping[str, Any] | Scenario | None" = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
) -> Scenario:
    """Load a scenario.

    Args:
        scenario: a shipped scenario's name, the path of a TOML file, its content as nested dicts and lists, or one that
            is loaded already; None: the default scenario.
        overrides: values by the paths of their keys, ``{"data.clients": 50}``; or ``path.to.key=value`` each, value in
            TOML (a bare word is text). An entry of a list is named by its position, ``unlearning.0.coupling``; ``*``
            is every entry, ``variant.*.data.clients``.

    Raises:
        ScenarioError: there is no such scenario, or it cannot be run.

    Example:
        >>> scenario = load_scenario("mnist-deletions", ["data.clients=20", "seeds=[0, 1]"])
        >>> scenario.name, scenario.data.clients, scenario.seeds
        ('mnist-deletions', 20, (0, 1))
    """
    try:
        return _loaded(scenario, overrides)
    except RecursionError:
        raise ScenarioError("the scenario is nested too deeply: tables lie within tables without an end") from None


def _loaded(
    scenario: "str | Path | Mapping[str, Any] | Scenario | None", overrides: Sequence[str] | Mapping[str, Any]
) -> Scenario:
    if isinstance(scenario, Scenario):
        if not overrides:
            return scenario
        changed = scenario_from_dict(overridden(_tables(scenario), overrides))
        return changed.under(changed.secret() or scenario.secret())
    if isinstance(scenario, Mapping):
        return scenario_from_dict(overridden(plain(scenario, ""), overrides))
    name = DEFAULT if scenario is None else str(scenario)
    try:
        content = tomllib.loads(_read(name))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{name} is not valid TOML: {error}") from None
    return scenario_from_dict(overridden(content, overrides))


def scenario_from_dict(content: Mapping[str, Any]) -> Scenario:
    """Resolve and check a scenario given as nested dicts and lists, as TOML has them.

    Raises:
        ScenarioError: it cannot be run.
    """
    raw = plain(content, "")
    raw["privacy"], secret = _privacy(raw.get("privacy", {}))
    base = filled({key: value for key, value in raw.items() if key != "variant"})
    patches = _variants(raw.get("variant", []))
    variants = [
        {"name": patch.get("name"), **filled({key: merged(base.get(key, {}), patch.get(key, {})) for key in _VARYING})}
        for patch in patches
    ]
    kinds = {str(variant["name"]): _kind(variant) for variant in variants} or {"": _kind(base)}
    entries: dict[Group, list[Entry]] = {
        group: _entries(group, base.get(group, []), kinds) for group in ("unlearning", "defense", "attack")
    }
    try:
        scenario = Scenario.model_validate_json(json.dumps({**base, **entries, "variant": variants}), strict=True)
    except ValidationError as error:
        raise ScenarioError(explain(error, Scenario)) from None
    _check_unique("seeds", scenario.seeds)
    _check_variants_differ(scenario)
    check(scenario.settings(), entries, scenario.federation.secure_aggregation)
    check_precision(scenario.runtime.precision, scenario.settings(), entries)
    check_privacy(scenario.privacy, entries["defense"])
    check_randomness(scenario.privacy, entries["unlearning"])
    check_secrecy(scenario.settings(), scenario.privacy, entries["defense"])
    return scenario.under(secret)


def dump_toml(scenario: Scenario) -> str:
    """The scenario with every default, as TOML; loading it gives an equal one."""
    return tomli_w.dumps(_tables(scenario))


def _tables(scenario: Scenario) -> dict[str, Any]:
    return scenario.model_dump(mode="json", by_alias=True, exclude_none=True)


def _privacy(section: Any) -> tuple[Any, str]:
    """The section without the secret, and the secret; what is no section is refused later."""
    return taken(section) if isinstance(section, Mapping) else (section, "")


def _read(name: str) -> str:
    """Text of a shipped scenario or a file."""
    try:
        if name in shipped():
            return (
                resources.files("palimpsest.simulator.scenario")
                .joinpath("shipped", f"{name}.toml")
                .read_text(encoding="utf-8")
            )
        return Path(name).read_text(encoding="utf-8-sig")  # editors on Windows put a byte-order mark before it
    except FileNotFoundError:
        hint = closest(name, shipped())
        raise ScenarioError(
            f"there is no scenario {name!r};{hint} give the path of a TOML file or a shipped name: {listed(shipped())}"
        ) from None
    except OSError as error:
        raise ScenarioError(f"the scenario {name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ScenarioError(f"the scenario {name} is not a text file; a scenario is TOML in UTF-8") from None


def _variants(patches: Any) -> list[dict[str, Any]]:
    """The variants as they are written: partial tables."""
    if not isinstance(patches, list) or not all(isinstance(patch, dict) for patch in patches):
        raise ScenarioError("variant: must be tables, [[variant]] each, with a name and what differs")
    for position, patch in enumerate(patches):
        for key in patch:
            if key not in ("name", *_VARYING):
                known = ["name", *_VARYING]
                raise ScenarioError(
                    f"variant.{position}.{key}: unknown key;{closest(key, known)} a variant has {listed(known)}"
                )
        if "name" not in patch:
            raise ScenarioError(f"variant.{position}.name is missing")
    _check_unique("variant.name", [patch["name"] for patch in patches])
    return patches


def _check_unique(path: str, values: Sequence[Any]) -> None:
    seen = set()
    for value in map(repr, values):
        if value in seen:
            raise ScenarioError(f"{path} = {value} is there twice; each must be different")
        seen.add(value)


def _check_variants_differ(scenario: Scenario) -> None:
    """Refuse variants whose arms would be the same under two names."""
    groups = (scenario.unlearning, scenario.defense, scenario.attack)
    seen: dict[str, str] = {}
    for setting in scenario.settings():
        methods = [[entry for entry in group if applies(entry, setting.variant)] for group in groups]
        about = repr((setting.trunk, setting.adversary, methods))
        if about in seen:
            raise ScenarioError(
                f"variant.name = {setting.variant!r}: it differs from the variant {seen[about]!r} by its name alone; "
                f"remove one, or change something in it"
            )
        seen[about] = setting.variant


def _kind(setting: Mapping[str, Any]) -> str:
    model = setting.get("model", {})
    return str(model.get("kind", "softmax")) if isinstance(model, dict) else ""


def _entries(group: Group, given: Any, kinds: Mapping[str, str]) -> list[Entry]:
    if not isinstance(given, list):
        raise ScenarioError(f"{group}: must be a list of tables, [[{group}]] each (two pairs of brackets)")
    entries = [resolve(group, f"{group}.{position}", entry) for position, entry in enumerate(given)]
    return with_defaults(group, entries, kinds)
