"""A run's arms and data in plain values: for those who follow a run without its methods and data at hand."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from palimpsest.simulator.planning.plan import Arm, Prefix
from palimpsest.simulator.planning.prepared import PreparedTraining
from palimpsest.simulator.world.privacy.strengths import strength_of

_SECTIONS = ("data", "model", "training", "deletion", "adversary")
_DIGITS = 12


def outline(prefixes: Sequence[Prefix], preparation: Sequence[PreparedTraining]) -> dict[str, Any]:
    """What is known of a run before it starts.

    Args:
        prefixes: of the plan.
        preparation: what each was prepared to be.

    Returns:
        ``arms``: for each its id (``arm``), the label of its ``training``, its ``params`` (name -> text: all that a
        reader tells arms apart by, then every setting in which some arms differ) and its ``data`` (of each part name,
        digest, source, records and columns).
    """
    pairs = [(arm, base) for prefix, base in zip(prefixes, preparation, strict=True) for arm in prefix.arms]
    settings = [_settings(arm) for arm, _ in pairs]
    varying = sorted({name for each in settings for name in each if len({s.get(name, "") for s in settings}) > 1})
    arms = []
    for (arm, base), each in zip(pairs, settings, strict=True):
        params = _headline(arm, base)
        params |= {name: each[name] for name in varying if name in each and not _said(name, params)}
        arms.append({"arm": arm.id, "training": base.label, "params": params, "data": _data(base)})
    return {"arms": arms}


def _headline(arm: Arm, base: PreparedTraining) -> dict[str, str]:
    """What every arm says of itself, under names without a dot."""
    setting = arm.setting
    training, partition = setting.training, setting.data.model_dump(mode="json").get("partition") or {}
    params = {
        "variant": setting.variant,
        "model": setting.model.kind,
        "algorithm": training.algorithm,
        "learning_rate": _text(getattr(training, "learning_rate", None)) if _is_stepped(arm) else "",
        "clients": _text(base.population.clients),
        "partition": _partition(partition),
        "level": setting.deletion.level,
        "pattern": setting.deletion.pattern,
        "unlearning": arm.unlearning.method,
        "coupling": _text(getattr(arm.unlearning, "coupling", "")),
        "defense": "+".join(part.kind for part in arm.defense.parts()),
        "noise_multiplier": _noise(arm, base),
        "seed": _text(arm.seed),
    }
    return {name: text for name, text in params.items() if text}


def _is_stepped(arm: Arm) -> bool:
    """Whether the learning rate means something."""
    return arm.setting.training.algorithm in ("fedavg", "fedsgd")


_TOLD = {"dirichlet": "alpha", "pathological": "classes_per_client"}
"""The number that a scheme of partition reads."""


def _partition(partition: Mapping[str, Any]) -> str:
    """The scheme with its number, such as ``dirichlet, alpha 0.5``."""
    scheme = str(partition.get("scheme", ""))
    number = _TOLD.get(scheme, "")
    return f"{scheme}, {number.replace('_', ' ')} {_text(partition.get(number))}" if number else scheme


def _noise(arm: Arm, base: PreparedTraining) -> str:
    """The noise multiplier as calibrated to the training; empty where no part of the defense has one."""
    calibrated = {part.kind: part for part in base.setup.defense.parts()}
    for part in arm.defense.parts():
        for holder in (calibrated.get(part.kind, part), part):
            if (strength := strength_of(vars(holder))) is not None:
                return f"{strength[1]:.6g}"
    return ""


def _settings(arm: Arm) -> dict[str, str]:
    """Every setting of an arm by its dotted name, as text."""
    tree: dict[str, Any] = {name: _dumped(getattr(arm.setting, name)) for name in _SECTIONS}
    if not _is_stepped(arm):  # rounds and batches mean nothing where the optimum is solved for
        tree["training"] = {key: tree["training"][key] for key in ("algorithm", "stop") if key in tree["training"]}
    return _flat({**tree, "unlearning": _dumped(arm.unlearning), "defense": _dumped(arm.defense)})


def _dumped(part: Any) -> dict[str, Any]:
    return dict(part.model_dump(mode="json", exclude_none=True))


def _flat(tree: Mapping[str, Any], path: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{path}.{key}" if path else key
        flat |= _flat(value, name) if isinstance(value, Mapping) else {name: _text(value)}
    return flat


_SAID = {
    "model.kind": "model",
    "training.algorithm": "algorithm",
    "training.learning_rate": "learning_rate",
    "data.clients": "clients",
    "data.partition.scheme": "partition",
    "deletion.level": "level",
    "deletion.pattern": "pattern",
    "unlearning.method": "unlearning",
    "unlearning.coupling": "coupling",
    "defense.kind": "defense",
    "defense.noise_multiplier": "noise_multiplier",
}


def _said(name: str, params: Mapping[str, str]) -> bool:
    return _SAID.get(name) in params


def _data(base: PreparedTraining) -> list[dict[str, Any]]:
    """The clients', the public and the test part: equal digests, equal bits (see ``population_directory``)."""
    population, setting = base.population, base.setting
    counts = {"clients": population.records, "public": len(population.public_x), "test": len(population.test_x)}
    return [
        {
            "part": part,
            "name": f"{population.schema.name} ({part})",
            "digest": hashlib.sha256(f"{base.directory.name} {part}".encode()).hexdigest()[:_DIGITS],
            "source": setting.data.source,
            "records": records,
            "shape": list(population.schema.shape),
            "classes": len(population.schema.class_names),
            **({"clients": population.clients} if part == "clients" else {}),
        }
        for part, records in counts.items()
        if records
    ]


def _text(value: Any) -> str:
    """A value in a few characters; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
