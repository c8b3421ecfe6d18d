"""Settings with which slow methods do less: what holds of them holds after any number of steps."""

from typing import Any

import pytest

from palimpsest.attacks import label_counts
from palimpsest.simulator.testing import attacks

ATTACKS: dict[str, dict[str, Any]] = {
    "unmix": {"components": 20, "exchanges": 2, "refinements": 1, "iterations": 30},
    "sequence": {"components": 10, "exchanges": 0, "refinements": 1, "iterations": 10},
    "compound": {"iterations": 8, "candidates": 1, "polish": 3},
    "inversion": {"iterations": 10, "restarts": 2, "polish": 5},
    "draun": {"iterations": 10, "restarts": 2, "polish": 5, "resteps": 5},
    "fuia": {"iterations": 10, "restarts": 2, "polish": 5},
    "probing-label": {"borders": 60},
    "deletion-inference": {"shadows": 1, "deletions": 8},
    "deletion-lira": {"shadows": 3, "deletions": 2},
    "u-lira": {"shadows": 3, "deletions": 6},
    "updates-leak": {"probes": 20, "shadows": 1, "deletions": 12, "epochs": 3},
}

LABEL_COUNTS = {"_DELETIONS": 400, "_EPOCHS": 2}
"""Constants of ``attacks.label_counts``."""

UNLEARNERS: dict[str, dict[str, Any]] = {"fedosd": {"steps": 5}}

_ANSWERED: dict[Any, Any] = {}
"""First answers of attacks that count labels with little practice, as ``testing.attacks`` keeps those of others."""


def little_practice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network that counts labels learns from few deletions and not for long."""
    for name, value in LABEL_COUNTS.items():
        monkeypatch.setattr(label_counts, name, value)
    monkeypatch.setattr(attacks, "_ANSWERED", _ANSWERED)
