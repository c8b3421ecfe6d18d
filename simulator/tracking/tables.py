"""An arm's and a run's tables as MLflow keeps those of ``mlflow.log_table``, written so that a repeat adds no row."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from palimpsest.simulator.results.arm_files import ArmFiles
from palimpsest.simulator.results.request_frame import frame
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import label_of

TAG = "mlflow.loggedArtifacts"
"""Of a run: the tables in it, as ``log_table`` notes them for MLflow's pages."""


def arm_tables(files: ArmFiles, arm: ArmResult) -> dict[str, pd.DataFrame]:
    """Name -> table: of requests, attacks, bounds, targets, of what was measured of the models, and of releases."""
    attacks = [{"attack": name, **_flat(attack.to_json())} for name, attack in arm.attacks.items()]
    rounds = [release.to_json() for release in files.rounds()]
    tables = {
        "requests": frame(arm.requests),
        "attacks": pd.DataFrame(attacks),
        "bounds": pd.DataFrame([_flat(bound.to_json()) for bound in arm.privacy.bounds]),
        "scores": files.scores(),
        "forgetting": files.forgetting_if_any(),
        "rounds": pd.DataFrame(rounds),
    }
    return {name: table for name, table in tables.items() if table is not None and len(table)}


def run_table(arms: Sequence[ArmResult], headlines: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    """A row an arm: its place, what it is, its headline metrics and its verdict."""
    rows = [
        {
            "step": step,
            "arm": arm.arm,
            "variant": arm.variant,
            "seed": arm.seed,
            "way": label_of(arm, arms),
            **headline,
            "verdict": arm.verdict,
        }
        for step, (arm, headline) in enumerate(zip(arms, headlines, strict=True))
    ]
    return pd.DataFrame(rows)


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> dict[str, str]:
    """Write tables into ``folder/tables``; return the tag of the run that gets the folder's files."""
    place = folder / "tables"
    place.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        (place / f"{name}.json").write_text(table.to_json(orient="split", index=False))
    return {TAG: json.dumps([{"path": f"tables/{name}.json", "type": "table"} for name in tables])}


def _flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """One row of a table from nested figures; columns of inner ones are joined by a blank."""
    row: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{path} {key}".strip()
        row |= _flat(value, name) if isinstance(value, Mapping) else {name: value}
    return row
