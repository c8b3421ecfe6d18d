"""Settings with which slow methods do less: what holds of them holds after any number of steps."""

from typing import Any

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

UNLEARNERS: dict[str, dict[str, Any]] = {"fedosd": {"steps": 5}}
