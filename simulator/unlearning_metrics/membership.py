"""Does a model still know a record? Membership by loss: a record that was trained on has a lower one than others."""

from collections.abc import Sequence

import numpy as np

from palimpsest.simulator.world.records import Array

RATES = {"tpr_at_1_percent": 0.01, "tpr_at_01_percent": 0.001}
"""False positive rates at which the true positive rate is reported, by the name that it gets."""


def ranks(members: Array, held_out: Array) -> Array:
    """Of each forgotten record the share of held-out records with a higher loss, ties counted half.

    Args:
        members: a model's losses of what it should have forgotten.
        held_out: the same model's losses of held-out records.
    """
    ordered = np.sort(held_out)
    above = len(ordered) - np.searchsorted(ordered, members, side="right")
    tied = np.searchsorted(ordered, members, side="right") - np.searchsorted(ordered, members, side="left")
    shares: Array = (above + 0.5 * tied) / len(ordered)
    return shares


def auc(member_ranks: Sequence[Array]) -> float:
    """Mean over models of the mean rank: 0.5 is no trace, far above it is memory, far below it is over-forgetting."""
    return float(np.mean([float(of_model.mean()) for of_model in member_ranks]))


def true_positives(member_ranks: Sequence[Array], held_out: int) -> dict[str, float]:
    """Share of forgotten records that a threshold on the loss calls members, by false positive rate.

    A threshold lets through as many held-out records as the rate allows; a rate below one record in ``held_out``
    cannot be told apart from 0 and is absent.
    """
    pooled = np.concatenate(list(member_ranks))
    return {name: float((pooled >= 1.0 - rate).mean()) for name, rate in RATES.items() if rate * held_out >= 1.0}


def detects(member_ranks: Sequence[Array]) -> bool:
    """Whether a test finds members: it does better than chance by 1.96 standard errors."""
    return _above_zero(np.concatenate(list(member_ranks)) - 0.5)


def remembers(trained: Sequence[Array], retrained: Sequence[Array]) -> bool:
    """The validity gate: whether the test finds members in a model that was trained on them, because it was.

    Record by record, the ranks must also exceed those under models that never saw the records: a client whose classes
    are easy has low losses either way. Where the gate is shut, what the test says after unlearning says nothing about
    forgetting.
    """
    before, without = np.concatenate(list(trained)), np.concatenate(list(retrained))
    return detects(trained) and _above_zero(before - without)


def _above_zero(values: Array) -> bool:
    if len(values) < 2:
        return False
    return bool(values.mean() > 1.96 * values.std(ddof=1) / np.sqrt(len(values)))
