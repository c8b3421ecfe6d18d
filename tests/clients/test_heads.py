"""Gradients of many linear models at once."""

import numpy as np
import pytest
import torch

from palimpsest.clients.heads import gradient_sums
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.specs import ModelKind, ModelSpec

_MODELS = 9


def _model(kind: ModelKind, dtype: str, width: int, outputs: int) -> Model:
    task = "regression" if outputs == 1 else "classification"
    return model_of(ModelSpec(kind=kind, task=task, shape=(width,), outputs=outputs, regularisation=1.0, dtype=dtype))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("kind", "width", "outputs"), [("ridge", 5, 1), ("svm", 31, 2), ("svm", 65, 3), ("softmax", 785, 10)]
)
def test_gradients_are_those_of_autograd_and_the_same_bits_among_any_others(
    kind: ModelKind, width: int, outputs: int, dtype: str
) -> None:
    """Odd widths and few outputs: there a matrix kernel's result depends on where in memory a model lies."""
    model, rng = _model(kind, dtype, width, outputs), np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((150, width))).to(model.dtype)
    y = torch.from_numpy(rng.integers(outputs, size=150) if outputs > 1 else rng.standard_normal(150))
    used = torch.from_numpy(rng.random((_MODELS, 150)) < 0.9)
    params = {
        name: torch.from_numpy(rng.standard_normal((_MODELS, *shape)) / np.sqrt(width)).to(model.dtype)
        for name, shape in model.shapes.items()
    }
    chunks = list(zip(x.split(100), y.split(100), strict=True))
    sums, losses = gradient_sums(model, params, chunks, used)
    for i in range(_MODELS):
        leaves = {name: value[i].clone().requires_grad_() for name, value in params.items()}
        loss = model.losses(model.scores(leaves, x), y)[used[i]].sum()
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(losses[i]) == pytest.approx(loss.item(), rel=1e-5)
        for name, leaf in leaves.items():
            assert leaf.grad is not None
            off = (sums[name][i] - leaf.grad).abs().max() / leaf.grad.abs().max()
            assert off < (1e-12 if dtype == "float64" else 1e-5)
    for chosen in ([0], [4], [8, 3], [7, 1, 5], [5, 0, 8, 2, 6, 1, 3]):
        some = {name: value[chosen] for name, value in params.items()}
        again, again_losses = gradient_sums(model, some, chunks, used[chosen])
        assert torch.equal(again_losses, losses[chosen])
        assert all(torch.equal(again[name], sums[name][chosen]) for name in sums)
