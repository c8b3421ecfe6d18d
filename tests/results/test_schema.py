"""What is read from ``results.json`` is written again byte for byte, and its figures are attributes."""

import json
from typing import Any

import pytest

from palimpsest.simulator.results.schema import RunResults


def results(**changes: Any) -> dict[str, Any]:
    """One arm with keys in an order that is not that of the fields, integers among floats, and further figures."""
    attack = {"n": 20, "kind": "reconstruction", "cosine_median": 1, "cosine_ci95": [0.5, 1.0], "rank_median": 3.0}
    bound = {"event": "x", "attack": "hrec", "span": "y", "n": 2, "kappa": 0.5, "gamma": 1, "success": 0.0}
    arm = {
        "arm": "retrain--none--seed0", "seed": 0, "unlearning": {"steps": 3, "method": "retrain"},
        "defense": {"kind": "none"}, "attacks": {"hrec": attack}, "utility": {"metric": "accuracy", "trained": 0.5},
        "privacy": {"epsilon_max": None, "unit": "record", "bounds": [{**bound, "interval": [0, 1.0]}]},
    }  # fmt: skip
    return {"schema": 1, "scenario": "made up", "arms": [arm], **changes}


def test_what_is_read_is_written_byte_for_byte() -> None:
    text = json.dumps(results(), indent=1)
    assert RunResults.from_text(text).to_text() == text


def test_figures_are_attributes_and_further_ones_are_measures() -> None:
    [arm] = RunResults.model_validate(results()).arms
    assert (arm.attacks["hrec"].cosine_median, arm.utility.unlearned) == (1, None)
    assert arm.attacks["hrec"].measures == {"rank_median": 3.0}
    assert arm.unlearning.measures == {"steps": 3}


def test_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="schema"):
        RunResults.model_validate(results(schema=2))
