"""From measures of single requests to the figures of an arm."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from palimpsest.simulator.unlearning_metrics.measures.measure import Distance, Measure


def summary(
    frame: pd.DataFrame,
    metric: str,
    measures: Mapping[str, Measure],
    distances: Mapping[str, Distance],
    chain: bool = False,
) -> dict[str, Any]:
    """The entries ``utility`` and ``forgetting`` of one arm; measures that apply to none of its requests are absent.

    Args:
        frame: a row for each request and model, as ``UnlearningEvaluator.worth`` returns it.
        metric: name of the utility.
        measures: of single models, by name.
        distances: of two models, by name.
        chain: whether each request began with the model that the one before ended in: what models are worth, and how
            far they are apart, is then said of the first model and of the last, and not in the middle of all.
    """
    ends = _ends(frame) if chain else frame
    columns = frame.columns.drop(["request", "model", "retraining", "records"])
    known = [name for name in columns if frame[name].notna().any()]
    entry: dict[str, Any] = {"utility": {"metric": metric}, "forgetting": {}}
    for name in known:
        pool = measures[name].pool if name in measures else "median"
        shown = ends if name in distances or measures[name].entry == "utility" else frame
        of = {model: _pooled(name, pool, shown[shown["model"] == model]) for model in ("trained", "unlearned")}
        again = [_pooled(name, pool, rows) for _, rows in shown[shown["model"] == "retrained"].groupby("retraining")]
        if name in distances:
            place = entry["forgetting"]
            place |= {f"{name}_to_retrained": of["unlearned"]} if again else {}
            place |= {f"{name}_between_retrained": float(np.mean(again))} if len(again) > 1 else {}
            continue
        kind = measures[name].entry
        place, keys = entry[kind], {model: _key(name, kind, model) for model in ("trained", "unlearned", "retrained")}
        place |= {keys[model]: of[model] for model in ("trained", "unlearned")}
        place |= {keys["retrained"]: float(np.mean(again))} if again else {}
        place |= {f"{keys['retrained']}_spread": float(np.std(again, ddof=1))} if len(again) > 1 else {}
    forgetting = entry["forgetting"]
    if "membership_auc_retrained" in forgetting:
        forgetting["membership_auc_gap"] = abs(forgetting["membership_auc"] - forgetting["membership_auc_retrained"])
    entry = {kind: {key: value for key, value in of.items() if _defined(value)} for kind, of in entry.items()}
    retrained = frame.loc[frame["model"] == "retrained", "retraining"]
    entry["forgetting"]["retrainings"] = retrained.nunique()
    return entry


def _defined(value: Any) -> bool:
    """Whether a figure is one: the last model of a chain is worth nothing to those who stay where nobody stays."""
    return isinstance(value, str) or not np.isnan(value)


def _ends(frame: pd.DataFrame) -> pd.DataFrame:
    """Of a chain the model before its first request, and those that the last ended in."""
    first, last = frame["request"].iloc[0], frame["request"].iloc[-1]
    ends: pd.DataFrame = frame[frame["request"] == np.where(frame["model"] == "trained", first, last)]
    return ends


def _pooled(name: str, pool: str, rows: pd.DataFrame) -> float:
    """One figure for several requests."""
    values = rows[name].dropna()
    if pool == "median":
        return float(values.median())
    return float(np.average(values, weights=rows.loc[values.index, "records"] if pool == "records" else None))


def _key(name: str, entry: str, model: str) -> str:
    """Name of a measure of one model in ``results.json``."""
    if name == "utility":
        return model
    return f"{name}_{model}" if entry == "utility" or model != "unlearned" else name
