"""Does a model still know a record? Membership by loss: a record that was trained on has a lower one than others."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulator.world.records import Array

RATES = {"tpr_at_1_percent": 0.01, "tpr_at_01_percent": 0.001}
"""False positive rates at which the true positive rate is reported, by the name that it gets."""


def ranks(members: Sequence[Array], others: Sequence[Array]) -> list[Array]:
    """For each model, of each forgotten record the share of held-out records with a higher loss, ties counted half.

    Args:
        members: for each model the losses of what it should have forgotten.
        others: for each model the losses of held-out records.
    """
    return [
        (own[:, None] < rest).mean(1) + 0.5 * (own[:, None] == rest).mean(1)
        for own, rest in zip(members, others, strict=True)
    ]


def auc(found: Sequence[Array]) -> float:
    """Mean over models of the mean rank: 0.5 is no trace, far above it is memory, far below it is over-forgetting."""
    return float(np.mean([float(of_model.mean()) for of_model in found]))


def true_positives(found: Sequence[Array], held_out: int) -> dict[str, float]:
    """Share of forgotten records that a threshold on the loss calls members, by false positive rate.

    A threshold lets through as many held-out records as the rate allows; a rate below one record in ``held_out``
    cannot be told apart from 0 and is absent.
    """
    pooled = np.concatenate(list(found))
    return {name: float((pooled >= 1.0 - rate).mean()) for name, rate in RATES.items() if rate * held_out >= 1.0}


def detects(found: Sequence[Array]) -> bool:
    """The validity gate: whether the test finds members in a model that was trained on them.

    It must do better than chance by 1.96 standard errors. Where it does not, what it says after unlearning says nothing
    about forgetting: there was nothing to see before.
    """
    pooled = np.concatenate(list(found))
    if len(pooled) < 2:
        return False
    return bool(pooled.mean() - 1.96 * pooled.std(ddof=1) / np.sqrt(len(pooled)) > 0.5)


def report(trained: Sequence[Array], unlearned: Sequence[Array], retrained: Sequence[Array], n: int) -> dict[str, Any]:
    """What ``results.json`` says of membership.

    Args:
        trained, unlearned, retrained: ranks of the forgotten records under the models before, after, and retrained.
        n: held-out records.
    """
    entry: dict[str, Any] = {
        "membership_auc": auc(unlearned),
        "membership_auc_trained": auc(trained),
        "membership_auc_retrained": auc(retrained),
        "membership_valid": detects(trained),
    }
    for suffix, found in (("", unlearned), ("_trained", trained), ("_retrained", retrained)):
        entry |= {f"membership_{name}{suffix}": value for name, value in true_positives(found, n).items()}
    return entry
