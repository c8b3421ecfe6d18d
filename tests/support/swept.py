"""Made up sweeps of noise: what attacks get, what is guaranteed, and what it costs, as planted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.entries import arm, inference, reconstruction, run_json
from tests.support.every_figure import write

NOISE = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
STOPPED: Mapping[str, Sequence[float]] = {"hrec": (1.0, 0.9, 0.8, 0.4, 0.02, 0.0, 0.0)}
"""By attack: success without noise, and at each strength."""
GAMMA = (1.0, 1.0, 1.0, 1.0, 0.9, 0.5, 0.05)
UTILITY = (0.9, 0.9, 0.9, 0.89, 0.88, 0.8, 0.6)
DELETIONS = 20


def level(
    place: int,
    seed: int = 0,
    attacks: Mapping[str, Sequence[float]] = STOPPED,
    gamma: Sequence[float] = GAMMA,
    picked: Mapping[str, Sequence[float]] | None = None,
    judged: Mapping[str, Sequence[float]] | None = None,
    kind: str = "dp-sgd",
    **changes: Any,
) -> dict[str, Any]:
    """One arm: the ``place``-th strength of noise, 0 being none; ``picked`` and ``judged`` answer with no record."""
    shares = {**{name: curve[place] for name, curve in attacks.items()}, "average": 0.0}
    bounds = [
        {
            "event": "top1", "attack": name, "span": "pair", "n": DELETIONS, "kappa": 0.002, "kappa_is": "exact",
            "gamma": gamma[place], "success": share, "interval": [0.0, 1.0],
        }
        for name, share in shares.items()
    ]  # fmt: skip
    answers = {name: reconstruction(0.9, share) for name, share in shares.items()}
    for name, curve in (picked or {}).items():
        answers[name] = inference("matching", top1_of_1000=curve[place], rank_median=1, candidates=500, cases=DELETIONS)
    for name, curve in (judged or {}).items():
        known = {"negatives": 100, "membership_auc_trained": 0.5, "membership_valid": True, "cases": DELETIONS}
        answers[name] = inference("scores", auc=0.9, tpr_at_1_percent=curve[place], **known)
    spent = {"max": 100.0 / (place + 1), "median": 100.0 / (place + 1)}
    private = {"deleted": {"after": spent}, "retained": {"after": spent}, "accountant": "tightest"}
    given = {"unlearning": {"method": "ascent"}, **changes}
    return arm(
        arm=f"{given['unlearning']}-{kind}-{place}-{seed}",
        seed=seed,
        defense={"kind": kind, "noise_multiplier": NOISE[place - 1]} if place else {"kind": "none"},
        attacks=answers,
        utility={"metric": "accuracy", "trained": 0.9, "unlearned": UTILITY[place] - 0.002 * seed},
        privacy={"bounds": bounds, "epsilon_max": None} | (private if place else {}),
        **given,
    )


def sweep(**changes: Any) -> list[dict[str, Any]]:
    """The arms of one sweep, two seeds each."""
    return [level(place, seed, **changes) for place in range(len(NOISE) + 1) for seed in (0, 1)]


def retrained(coupling: str, **changes: Any) -> list[dict[str, Any]]:
    """The arms of a sweep of retrainings."""
    return sweep(unlearning={"method": "retrain", "coupling": coupling}, **changes)


def everything() -> list[dict[str, Any]]:
    """Ascent; retraining that repeats nothing, coins, or both; and a method that guarantees nothing."""
    never, at_once = {"hrec": (1.0,) * 7}, {"hrec": (1.0, *(0.0,) * 6)}
    return [
        *sweep(variant="trained", judged={"an-attack-with-a-name": (1.0, 1.0, 1.0, 0.5, 0.1, 0.0, 0.0)}),
        *retrained("same-order", variant="trained", attacks=at_once),
        *retrained("same-coins", variant="trained"),
        *retrained("same-noise", variant="trained", attacks=never, gamma=(1.0,) * 7),
        *sweep(variant="certified", unlearning={"method": "newton"}, kind="obfuscation", gamma=(1.0,) * 7),
    ]


def swept(directory: Path) -> Path:
    """A run's directory."""
    return write(directory, *everything())


def results() -> dict[str, Any]:
    """Content of ``results.json``."""
    return run_json(*everything())
