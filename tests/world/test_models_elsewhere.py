"""A torch.nn.Module of an installed package is a model like any other, or is refused with the remedy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from palimpsest.simulator.cli.listing import listing
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import dump_toml, load_scenario, scenario_from_dict
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.batches import batches_of
from palimpsest.simulator.world.models.gradients import clipped_sums
from palimpsest.simulator.world.models.kinds import model_card, names
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.models.training import Slot, fit, pack_width
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelSpec, Recipe
from tests.support.packaged_models import install


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)


def build(kind: str, **changes: object) -> Model:
    spec = {"kind": kind, "task": "classification", "shape": (1, 8, 8), "outputs": 10, "regularisation": 0.0}
    return Model(ModelSpec.model_validate(spec | changes))


@pytest.mark.parametrize("kind", ["net", "in-place", "reading", "dropping"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_clients_trained_at_once_are_those_of_torch_optim(kind: str, momentum: float) -> None:
    model = build(kind, dropout="off")
    assert (model.width == 1) == (kind == "in-place")
    recipe = Recipe(batch_size=6, learning_rate=0.05, momentum=momentum, l2=0.02, local_epochs=2)
    population = digits_population()
    x, y = torch.from_numpy(population.train_x), torch.from_numpy(population.train_y)
    start = model.init(generator(0, "init"))
    slots = [Slot(0, batches_of(5 + 4 * i, (), recipe, 0, ("batches", i), compact=False)) for i in range(11)]
    trained = fit(model, {n: torch.from_numpy(v)[None] for n, v in start.items()}, slots, x, y, recipe)
    for i, slot in enumerate(slots):
        module = model.module(start)
        options = {"lr": recipe.learning_rate, "momentum": momentum, "weight_decay": recipe.l2}
        optimiser = torch.optim.SGD(module.parameters(), **options)
        for batch in slot.batches:
            rows = batch[batch >= 0]
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(x[rows]), y[rows]).backward()
            optimiser.step()
        for name, value in module.named_parameters():
            torch.testing.assert_close(trained[name.removeprefix("body.")][i], value.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["net", "in-place"])
def test_a_client_is_the_same_bits_in_whatever_company(kind: str) -> None:
    model, recipe = build(kind), Recipe(batch_size=6)
    assert pack_width(model) == (8 if kind == "net" else 1)
    population = digits_population()
    x, y = torch.from_numpy(population.train_x), torch.from_numpy(population.train_y)
    starts = {name: torch.from_numpy(value)[None] for name, value in model.init(generator(0, "init")).items()}
    slots = [Slot(0, batches_of(9 + i % 5, (), recipe, 0, ("batches", i), compact=False)) for i in range(21)]
    together = fit(model, starts, slots, x, y, recipe)
    for chosen in ([4], [3, 17], [20, 1, 7, 2, 9, 11, 0, 5, 6]):
        apart = fit(model, starts, [slots[i] for i in chosen], x, y, recipe)
        assert all(torch.equal(apart[name], together[name][chosen]) for name in model.names)


@pytest.mark.parametrize("kind", ["net", "in-place"])
def test_clipped_gradients_are_those_of_single_records(kind: str) -> None:
    model, rng = build(kind, dtype="float64"), np.random.default_rng(0)
    params = {name: torch.from_numpy(value)[None] for name, value in model.init(generator(0, "init")).items()}
    x, y = torch.from_numpy(rng.random((1, 5, 64))), torch.from_numpy(rng.integers(0, 10, (1, 5)))
    found = clipped_sums(model, params, x, y, torch.ones(1, 5, dtype=torch.bool), 0.7)
    sums = {name: torch.zeros(model.shapes[name], dtype=torch.float64) for name in model.names}
    for record, label in zip(x[0], y[0], strict=True):
        own = {name: value[0].clone().requires_grad_() for name, value in params.items()}
        loss = model.losses(model.scores(own, record[None]), label[None]).sum()
        slopes = torch.autograd.grad(loss, list(own.values()))
        length = torch.cat([slope.flatten() for slope in slopes]).norm()
        for name, slope in zip(own, slopes, strict=True):
            sums[name] += slope * min(1.0, 0.7 / (float(length) + 1e-6))
    for name, value in sums.items():
        torch.testing.assert_close(found[name][0], value, rtol=0, atol=1e-12)


def test_its_first_parameters_are_its_own_under_a_derived_generator() -> None:
    state = torch.get_rng_state()
    model = build("net")
    one, same, other = (model.init(generator(seed, "init")) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(np.array_equal(one[name], same[name]) for name in model.names)
    assert not np.array_equal(one["stem.weight"], other["stem.weight"])
    np.testing.assert_array_equal(one["norm.weight"], np.ones(6, np.float32))


def test_its_last_layer_is_found_where_it_is_an_nn_linear() -> None:
    assert build("net").last_layer == ("readout.weight", "readout.bias")
    assert build("reading").first_layer == ("1.weight", "1.bias")
    with pytest.raises(ModelError, match=r"'headless' has no last linear layer.*name it in its card \(head=\.\.\.\)"):
        _ = build("headless").last_layer


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("normed", ["BatchNorm2d (1)", "ModuleValidator.fix"]),
        ("dropping", ["dropout of rate 0.5 (3)", "model.dropout = 'off'"]),
        ("attending", ["dropout of rate 0.1", "model.dropout = 'off'"]),
        ("random", ["random numbers in its forward pass", "model.dropout = 'off'"]),
        ("counting", ["changes its buffer steps", "keep no such buffer"]),
        ("mixing", ["other scores alone than among others"]),
        ("numpy-drawn", ["built twice from one seed", "stem.bias", "torch's global generator"]),
        ("short", ["(4, 3)", "(4, 10)"]),
        ("wrong-first", ["first = '3'", "reads the flat record"]),
        ("wrong-head", ["head = '1'", "puts out the scores"]),
    ],
)
def test_what_would_not_be_sound_is_refused_with_the_remedy(kind: str, needed: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        build(kind)
    assert all(part in str(caught.value) for part in [*needed, repr(kind)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["dropping", "random", "attending"])
def test_dropout_that_is_switched_off_is_no_obstacle(kind: str) -> None:
    model = build(kind, dropout="off")
    params, x = model.init(generator(0, "init")), np.random.default_rng(0).random((3, 64))
    np.testing.assert_array_equal(model.predict(params, x), model.predict(params, x))


def test_its_options_stand_in_the_scenario_and_come_back_from_it(tmp_path: Path) -> None:
    given = {"name": "x", "model": {"kind": "net", "width": 4}}
    scenario = scenario_from_dict(given)
    assert scenario.model.options == {"width": 4}
    assert scenario.model.l2 == 1e-3
    path = tmp_path / "scenario.toml"
    path.write_text(dump_toml(scenario))
    assert load_scenario(str(path)) == scenario
    with pytest.raises(ScenarioError, match=r"model\.widht: unknown key; did you mean 'width'\?"):
        scenario_from_dict({"name": "x", "model": {"kind": "net", "widht": 4}})
    with pytest.raises(ScenarioError, match=r"model\.width = 2\.5: must be a whole number"):
        scenario_from_dict({"name": "x", "model": {"kind": "net", "width": 2.5}})


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("broken", ["elsewhere-models 2.1", "no such driver"]),
        ("missing", ["elsewhere-models 2.1", "cannot be imported"]),
        ("number", ["is a int", "ModelCard"]),
    ],
)
def test_a_package_that_cannot_be_used_is_a_sentence_and_breaks_nothing_else(kind: str, needed: list[str]) -> None:
    assert kind in names()
    assert model_card("net").summary == "a network from elsewhere"
    with pytest.raises(ScenarioError) as caught:
        scenario_from_dict({"name": "x", "model": {"kind": kind}})
    assert str(caught.value).startswith(f'model.kind = "{kind}": ')
    assert all(part in str(caught.value) for part in needed)
    assert scenario_from_dict({"name": "x"}).model.kind == "softmax"


def test_the_list_shows_every_model_and_says_what_is_wrong_with_one() -> None:
    console = Console(width=400, record=True)
    console.print(listing("models"))
    shown = " ".join(console.export_text().split())
    assert "a network from elsewhere" in shown
    assert "width = 6" in shown
    assert "no such driver" in shown
    assert "ResNet-18" in shown


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("net", "together"), ("in-place", "one by one"), ("reading", "together"), ("normed", "depends on the data"),
        ("resnet18", "one by one"), ("mlp", "together"), ("vit-tiny", "together"),
    ],
)  # fmt: skip
def test_the_list_says_which_models_are_stepped_together(kind: str, how: str) -> None:
    console = Console(width=400, record=True)
    console.print(listing("models"))
    [line] = [line for line in console.export_text().splitlines() if line.split()[:1] == [kind]]
    assert line.rstrip().endswith(how)
