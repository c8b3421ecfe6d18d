"""An attack beside answers that read no model, record by record: what the verdict speaks of.

Records differ in how alike anything is to them. The difference for the same record does not, so that fewer deletions
tell an attack from a guess.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from palimpsest.simulator.attack_metrics.resampling import Resampled
from palimpsest.simulator.results.evidence import FLOORS

_COLUMNS = ("cosine", "cosine_centred")


def gains(scores: Mapping[str, pd.DataFrame], rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Figures ``gain_over`` of each attack that answered with records: floor -> gain and its interval by measure.

    A gain is the median over records of the attack's value less the floor's for the same record; its ``_ci95`` is the
    percentile interval over resampled deletions, or records (see ``resampling``), and absent where there are too few.

    Args:
        scores: of each attack, as ``score_attack`` returns them.
        rng: draws the resamples.
    """
    frames = {name: frame for name, frame in scores.items() if "cosine_centred" in frame and len(frame)}
    gains_of: dict[str, dict[str, Any]] = {}
    for name in (name for name in frames if name not in FLOORS):
        resampled = Resampled(frames[name], rng)
        over = {floor: _gain(frames[name], frames[floor], resampled) for floor in FLOORS if floor in frames}
        if over:
            gains_of[name] = {"gain_over": over}
    return gains_of


def _gain(frame: pd.DataFrame, floor: pd.DataFrame, resampled: Resampled) -> dict[str, Any]:
    paired = frame[["case", "target"]].merge(floor, on=["case", "target"], how="left", validate="one_to_one")
    figures: dict[str, Any] = {}
    for column in _COLUMNS:
        less = frame[column].to_numpy(np.float64) - paired[column].to_numpy(np.float64)
        figures[column] = float(np.median(less))
        if (interval := resampled.interval_of_median(less)) is not None:
            figures[f"{column}_ci95"] = interval
    return figures
