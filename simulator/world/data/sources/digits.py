"""scikit-learn's handwritten digits."""

import numpy as np

from palimpsest.simulator.world.data.raw import Raw


def load() -> Raw:
    """``[1797, 8, 8]`` in [0, 1]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    names = tuple(str(name) for name in data.target_names)
    return Raw("", (data.images / 16.0).astype(np.float32), data.target, class_names=names)
