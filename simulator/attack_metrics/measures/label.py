"""Whether classes are right, or how far the targets of a regression are off."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from palimpsest.simulator.attack_metrics.measures.measure import Background, Measure, Pairs
from palimpsest.simulator.world.records import Array


def _has_classes(background: Background) -> bool:
    return background.schema.task == "classification"


def _has_targets(background: Background) -> bool:
    return not _has_classes(background)


def _correct(pairs: Pairs, background: Background) -> Array:
    right: Array = pairs.y == pairs.found_y
    return right


def _error(pairs: Pairs, background: Background) -> Array:
    error: Array = np.abs(pairs.y - pairs.found_y)
    return error


def _accuracy(frame: pd.DataFrame) -> Mapping[str, float]:
    return {"label_accuracy": float(frame["label_correct"].mean())}


CORRECT = Measure(_correct, _has_classes, _accuracy)
ERROR = Measure(_error, _has_targets)
