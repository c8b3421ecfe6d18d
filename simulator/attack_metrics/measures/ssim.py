"""Structural similarity of images."""

from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from palimpsest.simulator.attack_metrics.measures.measure import Background, Measure, Pairs, is_image, on_unit_range
from palimpsest.simulator.world.records import Array

_SMALL = (0.01**2, 0.03**2)
"""Constants that keep the quotients finite."""


def ssim(first: Array, second: Array) -> Array:
    """``[n]`` structural similarity of images ``[n, channels, height, width]`` on [0, 1] (Wang et al., 2004).

    Means over the whole image, mirrored at its edges. The window is the usual Gaussian of 11 x 11; that of images
    under 16 pixels, which it would not fit, is uniform and 7 x 7.
    """
    if min(first.shape[2:]) < 16:
        local = partial(uniform_filter, size=7, mode="mirror", axes=(2, 3))
    else:
        local = partial(gaussian_filter, sigma=1.5, truncate=3.5, mode="mirror", axes=(2, 3))
    mean, means = local(first), local(second)
    variances = np.maximum(local(first**2) - mean**2, 0.0) + np.maximum(local(second**2) - means**2, 0.0)
    covariance = local(first * second) - mean * means
    light = (2.0 * mean * means + _SMALL[0]) / (mean**2 + means**2 + _SMALL[0])
    similarity: Array = (light * (2.0 * covariance + _SMALL[1]) / (variances + _SMALL[1])).mean(axis=(1, 2, 3))
    return similarity


def _similarity(pairs: Pairs, background: Background) -> Array:
    return ssim(*on_unit_range(pairs, background.schema))


MEASURE = Measure(_similarity, is_image)
