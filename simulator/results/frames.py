"""A run's results as tables for notebooks; of every column it is said where it is made what it holds."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from palimpsest.simulator.results.attack_results import AttackResult, ReconstructionResult
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import label_of, leading

ARM_COLUMNS = {
    "arm": "id of the arm",
    "variant": "of the scenario; empty where it has none",
    "label": "how the data were unlearned and defended, in a few words",
    "unlearning": "the method",
    "coupling": "of a retraining's randomness to the first training's; empty where the method has none",
    "defense": "its kind",
    "seed": "of the scenario",
    "requests": "deletions that were asked for",
    "completed": "how many of them were done",
    "metric": "what utility is: accuracy or r2",
    "utility_trained": "before the deletion, on test records",
    "utility": "after it",
    "utility_retrained": "of a retraining that nobody sees",
    "attack": "the reconstruction that got most back; empty where none was tried",
    "cosine": "its median cosine similarity to the deleted records",
    "centred": "the same after the public mean is subtracted: 0 is what the mean scores, 1 the record itself",
    "label_accuracy": "share of deleted records whose class it named",
    "top1": "share of deleted records that it picks out of up to 1,000",
    "epsilon": "highest that any unit has paid; missing where no privacy was asked for",
    "exact": "whether the method promises what a retraining gives",
    "rounds": "that unlearning took",
    "client_updates": "that unlearning took",
    "seconds": "that unlearning took",
    "verdict": "one sentence",
}
"""Columns of ``arms``, a row for each arm."""


def arms(run: RunFiles) -> pd.DataFrame:
    """A row for each arm, with the columns of ``ARM_COLUMNS``."""
    return pd.DataFrame([_arm(arm, run.arms) for arm in run.arms], columns=list(ARM_COLUMNS))


def _arm(arm: ArmResult, others: Sequence[ArmResult]) -> dict[str, Any]:
    led, utility = leading(arm), arm.utility
    attack = arm.attacks[led[0]] if led else None
    got = attack if isinstance(attack, ReconstructionResult) else None
    return {
        "arm": arm.arm,
        "variant": arm.variant,
        "label": label_of(arm, others),
        "unlearning": arm.unlearning.method,
        "coupling": arm.unlearning.coupling,
        "defense": arm.defense.kind,
        "seed": arm.seed,
        "requests": arm.requests_made,
        "completed": arm.requests_completed,
        "metric": utility.metric if utility else "",
        "utility_trained": utility.trained if utility else None,
        "utility": utility.unlearned if utility else None,
        "utility_retrained": utility.retrained if utility else None,
        "attack": led[0] if led else "",
        "cosine": got.cosine_median if got else None,
        "centred": got.cosine_centred_median if got else None,
        "label_accuracy": got.label_accuracy if got else None,
        "top1": got.top1_of_1000 if got else None,
        "epsilon": arm.privacy.epsilon_max,
        "exact": arm.forgetting.exact,
        "rounds": arm.cost.rounds,
        "client_updates": arm.cost.client_updates,
        "seconds": arm.cost.unlearning_seconds,
        "verdict": arm.verdict,
    }


def attacks(run: RunFiles) -> pd.DataFrame:
    """A row for each arm and attack: ``arm``, ``attack``, and its figures as ``results.json`` names them."""
    rows = [
        {"arm": arm.arm, "attack": name, **_plain(attack)} for arm in run.arms for name, attack in arm.attacks.items()
    ]
    return pd.DataFrame(rows, columns=None if rows else ["arm", "attack"])


def _plain(attack: AttackResult) -> dict[str, Any]:
    return {key: value for key, value in attack.to_json().items() if isinstance(value, str | int | float)}


def requests(run: RunFiles) -> pd.DataFrame:
    """A row for each arm and request: ``arm``, and the columns of ``request_frame.frame``."""
    return _together((arm.arm, run.files(arm).requests()) for arm in run.arms)


def scores(run: RunFiles) -> pd.DataFrame:
    """A row for each arm, attack and deleted record: ``arm``, ``attack``, ``case``, ``target``, and how it was scored.

    Reconstructions have ``cosine``, ``cosine_centred``, ``mse``, ``psnr`` and ``ssim`` (of images), ``label_correct``,
    the record's ``rank`` among ``candidates`` and ``cosine_in_class``; other answers have what their kind is scored by.
    """
    return _together((arm.arm, run.files(arm).scores()) for arm in run.arms)


def rounds(run: RunFiles) -> pd.DataFrame:
    """A row for each arm and model of its server: ``arm``, and the fields of ``schema.Round``."""
    tables = ((arm.arm, [line.model_dump() for line in run.files(arm).rounds()]) for arm in run.arms)
    return _together((arm, pd.DataFrame(lines) if lines else None) for arm, lines in tables)


def _together(tables: Iterable[tuple[str, pd.DataFrame | None]]) -> pd.DataFrame:
    """One table of those of all arms; empty where none has one."""
    kept = [table.assign(arm=arm) for arm, table in tables if table is not None]
    if not kept:
        return pd.DataFrame(columns=["arm"])
    whole = pd.concat(kept, ignore_index=True)
    return whole[["arm", *(name for name in whole.columns if name != "arm")]]
