"""The vectorised fit against plain torch.optim, one client at a time, and the independence of slots."""

import numpy as np
import pytest
import torch

from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.world.models.batches import batches_of
from palimpsest.simulator.world.models.card import ModelCard
from palimpsest.simulator.world.models.given import remember
from palimpsest.simulator.world.models.gradients import clipped_sums, gradients, onto
from palimpsest.simulator.world.models.kinds import CARDS
from palimpsest.simulator.world.models.model import Model, model_of
from palimpsest.simulator.world.models.training import Slot, fit, pack_width
from palimpsest.simulator.world.models.workspace import KEPT, Workspace
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelSpec, Recipe

SMALL = {
    "mlp": {"hidden": 16},
    "resnet18": {"channels": 4},
    "convnet": {"channels": 4},
    "vit-tiny": {"width": 8, "depth": 1},
    "frozen-features": {"dimension": 24},
}
KINDS = list(CARDS)


def _model(kind: str, **changes: object) -> Model:
    spec = {
        "kind": kind,
        "task": "classification",
        "shape": (1, 8, 8),
        "outputs": 10,
        "regularisation": 0.0,
        "options": SMALL.get(kind, {}),
    }
    return model_of(ModelSpec.model_validate(spec | changes))


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    population = digits_population()
    return torch.from_numpy(population.train_x), torch.from_numpy(population.train_y)


def _slots(count: int, recipe: Recipe, models: int = 3) -> list[Slot]:
    """Slots of different lengths; every third one forgets records, one of them a whole batch and more."""
    slots = []
    for i in range(count):
        size = 5 + 7 * (i % 6)
        forgotten = tuple(range(0, size, 2)) if i % 3 == 1 else ()
        local = batches_of(size, forgotten, recipe, 0, ("batches", i), compact=False)
        slots.append(Slot(i % models, local))
    slots[1].batches[0] = -1
    return slots


def _starts(model: Model, count: int = 3) -> dict[str, torch.Tensor]:
    drawn = [model.init(generator(0, "init", i)) for i in range(count)]
    return {name: torch.from_numpy(np.stack([params[name] for params in drawn])) for name in model.names}


def _optimiser(module: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            module.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.l2
        )
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[recipe.optimizer](module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.l2)


def _plainly(
    model: Model,
    start: dict[str, torch.Tensor],
    slot: Slot,
    recipe: Recipe,
    shift: dict[str, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """One client the ordinary way: torch.optim on a module, an empty batch skipped."""
    x, y = _data()
    module = model.module({name: value.numpy() for name, value in start.items()})
    optimiser = _optimiser(module, recipe)
    for batch in slot.batches:
        rows = batch[batch >= 0]
        if len(rows) == 0:
            continue
        optimiser.zero_grad()
        loss = model.losses(module(x[rows]), y[rows]).mean()
        for name, value in module.named_parameters():
            if value.requires_grad:
                key = name.removeprefix("body.")
                loss = loss + recipe.proximal / 2 * ((value - start[key]) ** 2).sum()
                loss = loss + (0.0 if shift is None else (shift[key] * value).sum())
        loss.backward()
        optimiser.step()
    return {
        name.removeprefix("body."): value.detach() for name, value in module.named_parameters() if value.requires_grad
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fit_equals_torch_optim(kind: str, momentum: float) -> None:
    model = _model(kind)
    recipe = Recipe(batch_size=6, learning_rate=0.05, momentum=momentum, l2=0.02, local_epochs=2)
    slots, starts = _slots(7, recipe), _starts(model)
    trained = fit(model, starts, slots, *_data(), recipe)
    for i, slot in enumerate(slots):
        start = {name: value[slot.model] for name, value in starts.items()}
        plain = _plainly(model, start, slot, recipe)
        for name, expected in plain.items():
            torch.testing.assert_close(trained[name][i], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_who_has_no_batch_is_left_as_it_is(kind: str) -> None:
    """A client all of whose records are deleted, alone in its pack, with others like it, and beside one that trains."""
    model, recipe = _model(kind), Recipe(batch_size=6, learning_rate=0.05)
    starts, empty = _starts(model), np.zeros((0, 6), dtype=np.int64)
    some = _slots(7, recipe)[0].batches
    for slots in ([Slot(0, empty)], [Slot(0, empty), Slot(1, empty)], [Slot(0, empty), Slot(1, some)]):
        trained = fit(model, starts, slots, *_data(), recipe)
        for i, slot in enumerate(slots):
            same = [torch.equal(value[i], starts[name][slot.model]) for name, value in trained.items()]
            assert all(same) == (not len(slot.batches))


STEPS = {
    "proximal": {"proximal": 0.5},
    "proximal with momentum": {"proximal": 0.5, "momentum": 0.9},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
    "proximal adamw": {"optimizer": "adamw", "learning_rate": 0.01, "proximal": 0.5},
}


@pytest.mark.parametrize("kind", ["softmax", "mlp", "convnet"])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_other_steps_equal_a_plain_loop(kind: str, shifted: bool, name: str) -> None:
    """FedProx's, SCAFFOLD's and Adam's, an empty batch moving neither moments nor their count."""
    model = _model(kind)
    recipe = Recipe.model_validate({"batch_size": 6, "l2": 0.02, "local_epochs": 2} | STEPS[name])
    slots, starts = _slots(7, recipe), _starts(model)
    rng = torch.Generator().manual_seed(3)
    drawn = {key: 0.1 * torch.randn((7, *shape), generator=rng) for key, shape in model.shapes.items()}
    trained = fit(model, starts, slots, *_data(), recipe, drawn if shifted else None)
    for i, slot in enumerate(slots):
        start = {key: value[slot.model] for key, value in starts.items()}
        shift = {key: value[i] for key, value in drawn.items()} if shifted else None
        for key, expected in _plainly(model, start, slot, recipe, shift).items():
            torch.testing.assert_close(trained[key][i], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", STEPS)
def test_other_steps_are_the_same_bits_in_any_pack(name: str) -> None:
    model = _model("mlp")
    recipe = Recipe.model_validate({"batch_size": 6, "l2": 0.02} | STEPS[name])
    slots, starts = _slots(20, recipe), _starts(model)
    shifts = {
        key: torch.linspace(-0.1, 0.1, 20).view(-1, *[1] * len(s)).expand(20, *s) for key, s in model.shapes.items()
    }
    together = fit(model, starts, slots, *_data(), recipe, shifts)
    for width in (1, 2, 7):
        chosen = np.random.default_rng(width).permutation(20)[:width]
        some = {key: value[chosen] for key, value in shifts.items()}
        apart = fit(model, starts, [slots[i] for i in chosen], *_data(), recipe, some)
        assert all(torch.equal(apart[key], together[key][chosen]) for key in model.names)


@pytest.mark.parametrize("kind", KINDS)
def test_a_slot_is_the_same_bits_in_any_pack(kind: str) -> None:
    model = _model(kind)
    recipe = Recipe(batch_size=6, learning_rate=0.05, momentum=0.5, l2=0.02, local_epochs=1)
    slots, starts = _slots(pack_width(model) + 9, recipe), _starts(model)
    together = fit(model, starts, slots, *_data(), recipe)
    rng = np.random.default_rng(1)
    for width in (1, 2, 3, 17, pack_width(model) + 1):
        chosen = rng.permutation(len(slots))[:width]
        apart = fit(model, starts, [slots[i] for i in chosen], *_data(), recipe)
        for name in model.names:
            assert torch.equal(apart[name], together[name][chosen])


def test_an_empty_batch_changes_no_bit() -> None:
    model = _model("softmax")
    recipe = Recipe(batch_size=4, momentum=0.9, l2=0.1)
    empty = Slot(0, np.full((3, 4), -1))
    starts = _starts(model)
    trained = fit(model, starts, [empty, _slots(2, recipe)[0]], *_data(), recipe)
    for name in model.names:
        assert torch.equal(trained[name][0], starts[name][0])


def test_forgotten_records_are_never_read() -> None:
    """What stands in a forgotten place, even infinity, reaches nothing."""
    model, recipe = _model("softmax"), Recipe(batch_size=4)
    x, y = _data()
    slots = [Slot(0, batches_of(20, (2, 3, 11), recipe, 0, ("batches", 0), compact=False))]
    clean = fit(model, _starts(model), slots, x, y, recipe)
    x[[2, 3, 11]] = torch.inf
    dirty = fit(model, _starts(model), slots, x, y, recipe)
    for name in model.names:
        assert torch.equal(clean[name], dirty[name])


def test_random_features_stand_in_front_of_the_head() -> None:
    model = _model("ridge", features={"dimension": 32, "bandwidth": 2.0, "seed": 3})
    recipe = Recipe(batch_size=6, learning_rate=0.05)
    slots, starts = _slots(3, recipe), _starts(model)
    trained = fit(model, starts, slots, *_data(), recipe)
    start = {name: value[slots[0].model] for name, value in starts.items()}
    plain = _plainly(model, start, slots[0], recipe)
    torch.testing.assert_close(trained["weight"][0], plain["weight"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 21, 24), (2, 9, 8)])
def test_gradients_of_a_cnn_are_those_of_autograd(shape: tuple[int, ...]) -> None:
    """Whatever the size: kernels of five without padding, or padded ones of three; odd sides leave pixels unseen."""
    model = _model("cnn", shape=shape, dtype="float64")
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((3, 4, int(np.prod(shape)))))
    y = torch.from_numpy(rng.integers(0, 10, (3, 4)))
    filled, starts = torch.ones(3, 4, dtype=torch.bool), _starts(model)
    found = gradients(model, starts, x, y, filled, torch.full((3,), 4.0, dtype=torch.float64))
    for i in range(3):
        params = {name: value[i].clone().requires_grad_() for name, value in starts.items()}
        loss = model.losses(model.scores(params, x[i]), y[i]).mean()
        for name, expected in zip(params, torch.autograd.grad(loss, list(params.values())), strict=True):
            actual = torch.zeros_like(starts[name])
            onto(actual, 0.0, found[name], 1.0)
            torch.testing.assert_close(actual[i], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_clipped_gradients_are_the_same_bits_in_any_pack(kind: str) -> None:
    model = _model(kind)
    rng, starts = np.random.default_rng(0), _starts(model, 9)
    x = torch.from_numpy(rng.random((9, 6, 64), dtype=np.float32))
    y, filled = torch.from_numpy(rng.integers(0, 10, (9, 6))), torch.ones(9, 6, dtype=torch.bool)
    together = clipped_sums(model, starts, x, y, filled, 1.0)
    apart = clipped_sums(model, {name: value[3:5] for name, value in starts.items()}, x[3:5], y[3:5], filled[3:5], 1.0)
    for name in model.names:
        assert torch.equal(together[name][3:5], apart[name])


def test_memory_is_taken_again_and_no_more_of_it_is_kept_than_said() -> None:
    room, device = Workspace(), torch.device("cpu")
    first = room.take("records", (10, 8), torch.float32, device)
    assert room.take("records", (5, 8), torch.float32, device).data_ptr() == first.data_ptr()
    assert room.take("records", (10, 8), torch.float64, device).data_ptr() != first.data_ptr()
    assert room.take("sums", (10, 8), torch.float32, device).data_ptr() != first.data_ptr()
    for purpose in ("a", "b", "c"):
        room.take(purpose, (KEPT // 8,), torch.float32, device)
    assert sum(kept.nbytes for kept in room._kept.values()) <= KEPT
    large = room.take("large", (KEPT,), torch.float32, device)
    assert room.take("large", (KEPT,), torch.float32, device).data_ptr() != large.data_ptr()


def test_what_is_trained_without_room_stays_and_with_room_lasts_until_the_next_time() -> None:
    model, (x, y), recipe = _model("softmax"), _data(), Recipe(batch_size=8)
    starts, slots = _starts(model), _slots(7, recipe)
    alone, room = fit(model, starts, slots, x, y, recipe), Workspace()
    wanted = {name: value.clone() for name, value in alone.items()}
    fit(model, starts, slots, x, y, Recipe(batch_size=8, learning_rate=1.0))
    shared = fit(model, starts, slots, x, y, recipe, room=room)
    assert all(torch.equal(alone[name], wanted[name]) and torch.equal(shared[name], wanted[name]) for name in wanted)
    fit(model, starts, slots, x, y, Recipe(batch_size=8, learning_rate=1.0), room=room)
    assert not torch.equal(shared["weight"], wanted["weight"])


class _WithAnUnusedLayer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = torch.nn.Linear(64, 10), torch.nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.used(x.flatten(-3))
        return out


def test_gradients_of_models_stepped_alone_are_those_of_torch_func() -> None:
    """They are taken without a graph for second derivatives, whose kernels round in another order."""
    card = ModelCard(lambda schema, options: _WithAnUnusedLayer(), "a layer that nothing goes through", vmapped=False)
    for model in (_model("resnet18"), _model(remember(card), options={})):
        (x, y), starts = _data(), _starts(model, 1)
        batch, labels, filled = x[:10].unsqueeze(0), y[:10].unsqueeze(0), torch.arange(10).unsqueeze(0) < 7
        assert model.alone
        taken = gradients(model, starts, batch, labels, filled, torch.tensor([7.0]))
        params = {name: value[0] for name, value in starts.items()}
        wanted = torch.func.grad(_mean_loss)(params, model, x[:7], y[:7])
        vectors = [torch.cat([of[name].flatten().double() for name in wanted]) for of in (taken, wanted)]
        assert (vectors[0] - vectors[1]).norm() <= 1e-6 * vectors[1].norm()
        assert not any(value.requires_grad for value in taken.values())


def _mean_loss(params: dict[str, torch.Tensor], model: Model, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return model.losses(model.scores(params, x), y).mean()
