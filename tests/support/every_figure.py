"""Finished runs on which every kind of figure applies, made up, with names as long as they get."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from palimpsest.simulator.results.run_directory import RunDirectory
from tests.support.entries import arm, inference, reconstruction, run_json

SITES = ("Ashford General Hospital", "Birchwood", "Clearwater University", "Dunmore", "Eastvale")
LABELS = {"label_accuracy": 0.5, "label_accuracy_prior": 0.1, "class_accuracy": 0.9, "class_accuracy_ci95": [0.8, 1.0]}
MATCHING = {"top1_of_1000": 0.4, "rank_median": 3, "candidates": 900}
LONG: dict[str, Any] = {"method": "retrain", "coupling": "independent"}


def write(directory: Path, *arms: dict[str, Any]) -> Path:
    """A directory with these arms' results."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(run_json(*arms)))
    return directory


def _defense(strength: float) -> dict[str, Any]:
    return {"kind": "dp-sgd", "target_epsilon": strength} if strength else {"kind": "none"}


def inferred(directory: Path) -> Path:
    """Attacks on classes and on given records, after two ways of unlearning under two defenses."""
    attacks = {
        "class-score": inference("labels", **LABELS),
        "deletion-inference": inference("matching", **MATCHING),
    }
    arms = [
        arm(arm=f"{method}-{eps}", unlearning={**LONG, "method": method}, defense=_defense(eps), attacks=attacks)
        for method in ("retrain", "ascent")
        for eps in (0.0, 8.0)
    ]
    return write(directory, *arms)


def known(directory: Path) -> Path:
    """The same attack with smaller public samples, heard by eavesdropper and server."""
    arms = [
        arm(
            arm=f"{sees}-{size}",
            variant=f"{sees}-{size}",
            attacks={"hrec": reconstruction(0.9, size / 1000), "unmix": reconstruction(0.9, size / 1000 + 0.01)},
            conditions={"public_records": size, "sees": sees},
        )
        for size in (50, 200, 800)
        for sees in ("releases", "updates")
    ]
    return write(directory, *arms)


def defended(directory: Path) -> Path:
    """Defenses of several kinds and strengths, with bounds on what attacks may do under the private one."""
    arms = []
    for method in ("retrain", "ascent"):
        for kind, strength in [("none", 0), ("dp-sgd", 2), ("dp-sgd", 8), ("rounding", 4), ("pruning", 1)]:
            left = 0.9 if kind == "none" else 0.1 * strength / 8
            bounds = [
                {
                    "event": "top1", "attack": attack, "span": "sequence", "n": 50, "kappa": 0.001, "gamma": 0.4,
                    "success": left, "interval": [0.0, 1.0],
                }
                for attack in ("hrec", "average")
            ]  # fmt: skip
            spent = {"max": float(strength), "median": float(strength)}
            private = {"deleted": {"after": spent}, "retained": {"after": spent}, "accountant": "rdp"}
            arms.append(
                arm(
                    arm=f"{method}-{kind}-{strength}",
                    unlearning={"method": method},
                    defense={"kind": kind, "strength": strength},
                    attacks={"hrec": reconstruction(0.9, left), "average": reconstruction(0.6, 0.0)},
                    utility={"metric": "accuracy", "trained": 0.9, "unlearned": 0.9 - 0.01 * strength},
                    privacy={"bounds": bounds, "epsilon_max": float(strength) or None}
                    | (private if kind == "dp-sgd" else {}),
                )
            )
    return write(directory, *arms)


def forgotten(directory: Path) -> Path:
    """Ways of unlearning that are as far from retraining as retrainings from one another, or further."""
    (directory / "forgetting").mkdir(parents=True)
    arms = []
    for place, method in enumerate(("finetune", "retrain", "federaser", "none")):
        rows = [
            {"request": request, "model": model, "retraining": 0, "records": 3, "kl": 0.1 * place, "forget_loss": 0.5}
            for request in range(6)
            for model in ("trained", "unlearned", "retrained")
        ]
        pd.DataFrame(rows).to_parquet(directory / "forgetting" / f"{method}.parquet")
        figures = {
            "exact": method == "retrain", "kl_to_retrained": 0.1 * (1 + place), "kl_between_retrained": 0.1,
            "distance_to_retrained": 2.0 + place, "distance_between_retrained": 2.0, "retrainings": 3,
            "membership_auc": 0.55, "membership_auc_retrained": 0.5, "membership_auc_retrained_spread": 0.02,
            "membership_valid": True,
        }  # fmt: skip
        arms.append(arm(arm=method, unlearning={"method": method}, forgetting=figures, cost={"speed_up_seconds": 4.0}))
    return write(directory, *arms)


def departures(directory: Path, requests: int = 5, rounds: int = 4) -> Path:
    """Sites that leave one after the other under two defenses, by retraining and in one step."""
    arms = []
    for method in ("retrain", "ascent"):
        for eps in (0.0, 8.0):
            name = f"{method}-{eps}"
            rows, lines = _life(requests, rounds if method == "retrain" else 1, eps)
            RunDirectory(directory).arm(name).run.mkdir(parents=True, exist_ok=True)
            RunDirectory(directory).arm(name).write_rounds(lines)
            arms.append(
                arm(
                    arm=name,
                    unlearning={"method": method},
                    defense=_defense(eps),
                    deletion={"level": "client", "records": 60, "pattern": "sequential"},
                    requests_made=requests,
                    requests_completed=requests,
                    attacks={"client-profile-of-a-long-name": inference("labels", **LABELS)},
                )
                | {"requests": rows}
            )
    return write(directory, *arms)


def _life(requests: int, rounds: int, eps: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of requests, and a line for each model of a server that trains two rounds after each."""
    rng, step = np.random.default_rng(requests), 4
    lines: list[dict[str, Any]] = [
        {"round": r, "phase": "training", "step": r, "utility": 0.1 + 0.2 * r} for r in range(step + 1)
    ]
    rows: list[dict[str, Any]] = []
    for number in range(1, requests + 1):
        for r in range(rounds):
            step += 1
            lines.append({"round": r, "phase": "unlearning", "step": step, "request": number, "utility": 0.5 + 0.1 * r})
        success, site = float(rng.uniform(0.3, 1.0)), SITES[(number - 1) % len(SITES)]
        got = {
            "answers": "profile", "inferred": "40 benign", "measure": "label histogram", "success": success,
            "chance": 0.6, "no_signal": False,
        }  # fmt: skip
        rows.append({
            "number": number, "case": number - 1, "round": 2 * number, "level": "client", "client": number - 1,
            "rejoined": 2 * number + 2 if number == 2 else None, "clients": 1, "name": site, "records": 60,
            "accepted": True, "reason": "", "utility_before": 0.9, "utility_after": 0.9 - 0.05 * number,
            "utility_retrained": 0.9 - 0.04 * number, "forgetting": {}, "records_left": 60 * (requests - number),
            "attacks": {"client-profile-of-a-long-name": got},
            "epsilon_leaver": eps or None, "epsilon_retained": eps + number if eps else None,
        })  # fmt: skip
        for _ in range(2):
            step += 1
            lines.append({"round": 2 * number + 1, "phase": "training", "step": step, "utility": 0.85})
    for line in lines:
        line |= {"epsilon": eps * (1 + line["step"] / 10)} if eps else {}
    return rows, lines
