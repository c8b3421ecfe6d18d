"""scikit-learn's measurements of tumours."""

from palimpsest.simulator.world.data.raw import Raw


def load() -> Raw:
    """``[569, 30]``, malignant or benign."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return Raw(
        "",
        data.data,
        data.target,
        class_names=tuple(str(name) for name in data.target_names),
        feature_names=tuple(str(name) for name in data.feature_names),
    )
