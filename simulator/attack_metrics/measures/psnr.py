"""Peak signal-to-noise ratio of images."""

import numpy as np

from palimpsest.simulator.attack_metrics.measures.measure import Background, Measure, Pairs, is_image, on_unit_range
from palimpsest.simulator.world.records import Array

_FINEST = -20.0 * np.log10(np.finfo(np.float64).eps)


def _ratio(pairs: Pairs, background: Background) -> Array:
    """``[t]`` in dB on [0, 1]; a perfect copy has what float64 resolves, 313 dB."""
    true, guess = on_unit_range(pairs, background.schema)
    with np.errstate(divide="ignore"):
        ratio = -10.0 * np.log10(((true - guess) ** 2).mean(axis=(1, 2, 3)))
    finite: Array = np.minimum(ratio, _FINEST)
    return finite


MEASURE = Measure(_ratio, is_image)
