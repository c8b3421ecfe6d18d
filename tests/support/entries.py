"""Entries of ``results.json`` with every key that version 2 always writes; tests change those that they are about."""

from typing import Any

from palimpsest.simulator.results.schema import ArmResult, RunResults

_COUNTS = {"n": 50, "cases": 50, "no_signal": 0, "seconds": 1.0, "peak_memory_bytes": 1_000_000}


def reconstruction(
    raw: float, centred: float, half: float = 0.03, p90: float | None = None, **changes: Any
) -> dict[str, Any]:
    """Figures of an attack that answered with records, with intervals of ``half`` either side of the medians."""
    figures: dict[str, Any] = {"kind": "reconstruction", **_COUNTS, "label_accuracy": 1.0, "seconds_per_record": 0.02}
    for name, middle in (("cosine", raw), ("cosine_centred", centred)):
        figures |= {
            f"{name}_median": middle, f"{name}_p10": middle, f"{name}_p90": middle if p90 is None else p90,
            f"{name}_ci95": [middle - half, middle + half],
        }  # fmt: skip
    return {**figures, "mse_median": 0.1, **changes}


def inference(kind: str, **figures: Any) -> dict[str, Any]:
    """Figures of an attack that answered otherwise, completed by counts and costs."""
    return {"kind": kind, **_COUNTS, **figures}


def arm(**changes: Any) -> dict[str, Any]:
    """An arm whose server ascended on the single deleted record; a mapping changes some keys, anything else one."""
    entry: dict[str, Any] = {
        "arm": "ascent--none--seed0", "variant": "", "unlearning": {"method": "ascent"}, "defense": {"kind": "none"},
        "seed": 0,
        "data": {
            "source": "digits", "task": "classification", "shape": [1, 8, 8], "class_names": [], "feature_names": [],
            "clients": 4, "records": 100, "public": 50, "test": 20,
        },
        "deletion": {"level": "record", "records": 1, "pattern": "independent"}, "conditions": {}, "requests_made": 3,
        "requests_completed": 3, "requests": [],
        "transcript_digest": "sha256:0", "forgetting": {"exact": False}, "attacks": {},
        "utility": {"metric": "accuracy", "trained": 0.86, "unlearned": 0.858, "retrained": 0.857},
        "privacy": {"unit": "record", "epsilon_max": None, "delta": 1e-5, "bounds": []}, "notes": {},
        "cost": {
            "unlearning_seconds": 1.0, "retraining_seconds": 4.0, "retraining_client_updates": 40,
            "retraining_client_seconds": 2.0, "rounds": 3, "client_updates": 10, "client_seconds": 0.5, "bytes_up": 0,
            "bytes_down": 0, "server_bytes_stored": 2_000_000,
        },
        "verdict": "",
    }  # fmt: skip
    replaced = ("unlearning", "defense", "attacks", "utility")
    for key, value in changes.items():
        merge = isinstance(value, dict) and key not in replaced
        entry[key] = {**entry[key], **value} if merge else value
    return entry


def arm_result(**changes: Any) -> ArmResult:
    """The same as a typed object."""
    return ArmResult.model_validate(arm(**changes))


def run_json(*arms: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Content of ``results.json``."""
    return {"schema": 2, "scenario": "fabricated", "versions": {}, "machine": {}, "arms": list(arms), **changes}


def run_results(*arms: ArmResult) -> RunResults:
    """The same as a typed object."""
    return RunResults.model_validate(run_json() | {"arms": arms})
