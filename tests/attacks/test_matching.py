"""The misfit of gradients and its slope, beside autograd on the published formula."""

import numpy as np
import pytest
import torch
from torch import Tensor

from palimpsest.attacks.matching import flat, linear_matching, matching, roughness_slope
from palimpsest.simulator.world.models.model import Model, model_of, theta
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.specs import ModelSpec

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 20, 24)]


def network(kind: str, shape: tuple[int, ...], task: str) -> Model:
    outputs = 5 if task == "classification" else 1
    given = {"kind": kind, "task": task, "shape": shape, "outputs": outputs, "channels": 2, "regularisation": 0.0}
    return model_of(ModelSpec.model_validate({**given, "dtype": "float64"}))


def plainly(model: Model, before: dict[str, Tensor], x: Tensor, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One case at a time, differentiated twice by torch.autograd."""
    slopes, misfits = [], []
    for records, labels, wanted in zip(x, y, target, strict=True):
        params = {name: value.clone().requires_grad_() for name, value in before.items()}
        moving = records.clone().requires_grad_()
        scores = model.scores(params, moving)
        if model.spec.task == "regression":
            # The gradient of half the squared error is residual times gradient of the score.
            gradients = torch.autograd.grad((labels * scores[:, 0]).sum(), list(params.values()), create_graph=True)
        else:
            loss = (
                model.losses(scores, labels).sum()
                if model.linear
                else torch.nn.functional.cross_entropy(scores, labels, reduction="sum")
            )
            gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        gradient = torch.cat([part.flatten() for part in gradients])
        misfit = 1.0 - torch.nn.functional.cosine_similarity(gradient, wanted, dim=0)
        slopes.append(torch.autograd.grad(misfit, moving)[0])
        misfits.append(misfit.detach())
    return torch.stack(slopes), torch.stack(misfits)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(
    ("kind", "shape", "task"),
    [("cnn", shape, "classification") for shape in SHAPES]
    + [
        ("cnn", SHAPES[0], "regression"),
        ("mlp", SHAPES[0], "classification"),
        ("resnet18", SHAPES[0], "classification"),
    ],
)
def test_misfit_and_slope_are_those_of_autograd(kind: str, shape: tuple[int, ...], task: str, size: int) -> None:
    model, rng = network(kind, shape, task), np.random.default_rng(0)
    before = model.tensors(model.init(rng))
    x = torch.tensor(rng.uniform(size=(2, size, int(np.prod(shape)))))
    y = (
        torch.tensor(rng.integers(0, 5, (2, size)))
        if task == "classification"
        else torch.tensor(rng.normal(size=(2, size)))
    )
    target = torch.tensor(rng.normal(size=(2, len(flat(before, model)))))
    target /= target.norm(dim=1, keepdim=True)
    found = matching(model, [before])(x, y, target)
    for ours, theirs in zip(found, plainly(model, before, x, y, target), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10 * float(theirs.abs().max()))


@pytest.mark.parametrize("kind", ["ridge", "softmax", "svm"])
def test_misfit_and_slope_of_linear_heads_are_those_of_autograd(kind: str) -> None:
    """Two heads at once, each with a change of its own; what was taken out is minus the gradient."""
    model, rng = network(kind, (1, 4, 4), "classification"), np.random.default_rng(0)
    x, y = torch.tensor(rng.uniform(size=(2, 3, 16))), torch.tensor(rng.integers(0, 5, (2, 3)))
    heads = [model.init(rng) for _ in range(2)]
    target = torch.tensor(rng.normal(size=(2, model.size)))
    target /= target.norm(dim=1, keepdim=True)
    packed = [[-theta(_apart(wanted, model)), theta(head)] for wanted, head in zip(target, heads, strict=True)]
    ours = linear_matching(model)(x, y, torch.tensor(np.array(packed)))
    for i, head in enumerate(heads):
        theirs = plainly(model, model.tensors(head), x[i : i + 1], y[i : i + 1], target[i : i + 1])
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one[i : i + 1], other, rtol=1e-8, atol=1e-12)


def _apart(vector: Tensor, model: Model) -> Params:
    weight, bias = vector.split([int(np.prod(model.shapes[name])) for name in ("weight", "bias")])
    return {"weight": weight.view(model.shapes["weight"]).numpy(), "bias": bias.numpy()}


def test_slope_of_the_roughness() -> None:
    x = torch.tensor(np.random.default_rng(0).uniform(size=(2, 3, 2 * 4 * 5)), requires_grad=True)
    image = x.view(2, 3, 2, 4, 5)
    total = sum(image.diff(dim=side).abs().flatten(1).mean(1) for side in (-1, -2))
    assert isinstance(total, Tensor)
    total.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    torch.testing.assert_close(roughness_slope(x.detach(), (2, 4, 5)), x.grad)
