"""scikit-learn's patients with diabetes."""

import numpy as np

from palimpsest.simulator.world.data.raw import Raw


def load() -> Raw:
    """``[442, 10]``, and the progression of the disease."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    return Raw("", data.data, data.target.astype(np.float32), feature_names=tuple(data.feature_names))
