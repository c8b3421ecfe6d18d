"""What every model must be: a function of its parameters and of one record at a time, trained alike in any company.

Each function checks one thing of a model that is registered, built in or announced by an entry point, on random
records; ``check_model`` checks all of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.batches import batches_of
from palimpsest.simulator.world.models.gradients import clipped_sums, gradients, onto
from palimpsest.simulator.world.models.kinds import model_card
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.models.training import Slot, fit
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelSpec, Recipe, Task

_RECIPE = Recipe(batch_size=6, learning_rate=0.002, momentum=0.5, l2=0.02, local_epochs=2)
_CLIENTS = 11
_RECORDS = 60


def check_model(name: str, shape: tuple[int, ...] = (1, 8, 8), outputs: int = 10, **options: Any) -> None:
    """Check everything that is asked of a model, for each task that its card names.

    Args:
        name: under which it is registered.
        shape: of one record: ``(channels, height, width)`` or ``(columns,)``.
        outputs: number of classes.
        **options: its hyper-parameters; all have defaults.

    Raises:
        AssertionError: what it does not do, in one sentence.
    """
    try:
        card = model_card(name)
    except ModelError as error:
        raise AssertionError(str(error)) from error
    assert card.tasks, f"{name}: its card names no task"
    for task in card.tasks:
        single = _model(name, task, shape, outputs, "float32", options)
        check_start(name, single)
        check_company(name, single)
        double = _model(name, task, shape, outputs, "float64", options)
        check_training(name, double)
        check_gradients(name, double)
        check_clipping(name, double)


def check_start(name: str, model: Model) -> None:
    """Its first parameters are a function of the generator: one seed, one model."""
    one, same, other = (model.init(generator(seed, "init")) for seed in (0, 0, 1))
    assert all(np.array_equal(one[key], same[key]) for key in model.names), f"{name}: one seed draws two models"
    differs = any(not np.array_equal(one[key], other[key]) for key in model.names)
    assert differs, f"{name}: every seed draws the same model"


def check_training(name: str, model: Model) -> None:
    """Clients trained at once are those that ``torch.optim.SGD`` trains one by one, to 1e-9 in double precision."""
    x, y = _data(model)
    start, slots = model.init(generator(0, "init")), _slots()
    trained = fit(model, _stacked(model, 1), slots, x, y, _RECIPE)
    for i, slot in enumerate(slots):
        module = model.module(start)
        optimiser = torch.optim.SGD(
            [value for value in module.parameters() if value.requires_grad],
            lr=_RECIPE.learning_rate,
            momentum=_RECIPE.momentum,
            weight_decay=_RECIPE.l2,
        )
        for batch in slot.batches:
            rows = batch[batch >= 0]
            optimiser.zero_grad()
            torch.autograd.backward(model.losses(module(x[rows]), y[rows]).mean())
            optimiser.step()
        plain = {key.removeprefix("body."): value for key, value in module.named_parameters() if value.requires_grad}
        worst = max(float((trained[key][i] - value.detach()).abs().max()) for key, value in plain.items())
        assert worst < 1e-9, f"{name}: trained among other clients it is {worst:g} from torch.optim's"


def check_company(name: str, model: Model) -> None:
    """A client's bits do not depend on which others are trained beside it."""
    x, y = _data(model)
    slots, starts = _slots(), _stacked(model, 1)
    together = fit(model, starts, slots, x, y, _RECIPE)
    for chosen in ([4], [9, 1], [10, 1, 7, 2, 9]):
        apart = fit(model, starts, [slots[i] for i in chosen], x, y, _RECIPE)
        same = all(torch.equal(apart[key], together[key][chosen]) for key in model.names)
        assert same, f"{name}: a client's bits depend on the clients that are trained beside it"


def check_gradients(name: str, model: Model) -> None:
    """Gradients of several models at once, written out or not, are those of autograd, to 1e-9."""
    x, y, filled, starts = _batches(model)
    found = gradients(model, starts, x, y, filled, torch.full((3,), float(x.shape[1]), dtype=model.dtype))
    for i in range(3):
        for key, expected in _slopes(model, starts, i, x[i], y[i]).items():
            actual = torch.zeros_like(starts[key])
            onto(actual, 0.0, found[key], 1.0)
            worst = float((actual[i] - expected / x.shape[1]).abs().max())
            assert worst < 1e-9, f"{name}: its gradient of {key} is {worst:g} from autograd's"


def check_clipping(name: str, model: Model) -> None:
    """Clipped sums are those of single records' gradients, as differential privacy needs them, to 1e-9."""
    x, y, filled, starts = _batches(model)
    found = clipped_sums(model, starts, x, y, filled, 0.5)
    for i in range(3):
        total = {key: torch.zeros_like(value[i]) for key, value in starts.items()}
        for k in range(x.shape[1]):
            slopes = _slopes(model, starts, i, x[i, k : k + 1], y[i, k : k + 1])
            length = torch.cat([slope.flatten() for slope in slopes.values()]).norm()
            for key, slope in slopes.items():
                total[key] += slope * min(1.0, 0.5 / (float(length) + 1e-6))
        worst = max(float((found[key][i] - value).abs().max()) for key, value in total.items())
        assert worst < 1e-9, f"{name}: its clipped gradients are {worst:g} from those of single records"


def _model(name: str, task: Task, shape: tuple[int, ...], outputs: int, dtype: str, options: dict[str, Any]) -> Model:
    about = {"kind": name, "task": task, "shape": shape, "outputs": outputs if task == "classification" else 1}
    about |= {"regularisation": 0.0, "dtype": dtype, "options": options}
    try:
        return Model(ModelSpec.model_validate(about))
    except ModelError as error:
        raise AssertionError(str(error)) from error


def _data(model: Model, count: int = _RECORDS) -> tuple[Tensor, Tensor]:
    """Random records and labels or targets."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((count, int(np.prod(model.spec.shape))))).to(model.dtype)
    if model.spec.task == "regression":
        return x, torch.from_numpy(rng.standard_normal(count)).to(model.dtype)
    return x, torch.from_numpy(rng.integers(0, model.spec.outputs, count))


def _batches(model: Model) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Five records for each of three models: x, y, which places are filled, and the parameters."""
    x, y = _data(model, 15)
    return x.view(3, 5, -1), y.view(3, 5), torch.ones(3, 5, dtype=torch.bool), _stacked(model, 3)


def _slots() -> Sequence[Slot]:
    """Clients of different sizes."""
    return [Slot(0, batches_of(5 + 4 * i, (), _RECIPE, 0, ("batches", i), compact=False)) for i in range(_CLIENTS)]


def _stacked(model: Model, count: int) -> dict[str, Tensor]:
    drawn = [model.init(generator(0, "init", *([i] if i else []))) for i in range(count)]
    return {key: torch.from_numpy(np.stack([params[key] for params in drawn])) for key in model.names}


def _slopes(model: Model, starts: dict[str, Tensor], i: int, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The gradient of the summed losses of one of the models, by autograd."""
    params = {key: value[i].clone().requires_grad_() for key, value in starts.items()}
    loss = model.losses(model.scores(params, x), y).sum()
    return dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
