"""What the last layer saw of a record: told by a gradient, by nothing else, and of use to inversion."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from palimpsest.attacks.descent import Ground, MatchingTarget
from palimpsest.attacks.divergence import DivergingCase
from palimpsest.attacks.inversion import Inversion, invert
from palimpsest.attacks.linear import precise_model
from palimpsest.attacks.matching import features_apart, flat, matching
from palimpsest.attacks.seen_features import features_of
from palimpsest.simulator.testing.transcripts import ascending, cosines, digits
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.records import Case
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelOptions

STEP = 0.05


@pytest.mark.parametrize("kind", ["cnn", "convnet", "resnet18", "vit-tiny"])
def test_one_step_tells_what_the_last_layer_saw(kind: str) -> None:
    data = digits(public=50)
    spec = data.spec(kind, 0.0).model_copy(update={"options": ModelOptions({})})
    model = precise_model(data.knowledge(spec))
    for row, case in enumerate(ascending(data, spec, [[0], [1]], STEP)):
        told = features_of(case, model)
        assert told is not None
        with torch.no_grad():
            seen = model.before_last(model.tensors(case.before), torch.tensor(data.x[row : row + 1]))
        np.testing.assert_allclose(told, seen.flatten().numpy(), atol=1e-6 * float(seen.abs().max()))


def test_noise_several_records_and_local_steps_tell_nothing() -> None:
    data = digits(public=50)
    spec = data.spec("cnn", 0.0)
    model = precise_model(data.knowledge(spec))
    [one, two] = ascending(data, spec, [[0], [1, 2]], STEP)
    rng = generator(0, "noise")
    moved = {name: value - one.before[name] for name, value in one.after.items()}
    noised = {
        name: one.after[name] + 0.1 * np.abs(change).mean() * rng.standard_normal(change.shape)
        for name, change in moved.items()
    }
    assert features_of(two, model) is None
    assert features_of(Case(0, 1, one.before, noised), model) is None
    assert features_of(Case(0, 1, one.before, one.before), model) is None
    steps = DivergingCase(index=0, size=1, before=one.before, after=one.after, toward=one.after)
    assert features_of(steps, model) is None


def test_a_record_is_found_by_its_features_where_the_gradient_alone_leaves_it_vague() -> None:
    """The same cases and starts, by the gradient alone and with the features; nothing is chosen by the truth."""
    data, rows = digits(public=200), range(6)
    spec = data.spec("convnet", 0.0).model_copy(update={"options": ModelOptions({"channels": 8})})
    knowledge = data.knowledge(spec, "identity", STEP)
    cases = ascending(data, spec, [[row] for row in rows], STEP)
    how, ground = Inversion(iterations=40, polish=90, restarts=2), Ground.of(knowledge)
    drawn = ground.components.drawn((1, how.restarts), generator(0, "starts"))
    starts = np.stack([drawn.transpose(1, 0, 2)] * len(cases))
    quick = model_of(spec.model_copy(update={"dtype": "float32"}))
    before = quick.tensors(cases[0].before)
    change = torch.stack([flat(quick.tensors(case.after), quick) - flat(before, quick) for case in cases])
    alone = MatchingTarget(
        ground,
        matching(quick, [before]),
        torch.tensor(data.y[: len(cases)])[:, None],
        change / change.norm(dim=1, keepdim=True),
    )
    vague = how.search(alone, torch.tensor(starts))[0][:, 0].numpy()
    found = invert(how, cases, knowledge, ground, starts)
    near = np.concatenate([found[row].x for row in rows])
    mean = data.public_x.mean(axis=0)
    assert np.median(cosines(near, data.x[:6], mean)) > np.median(cosines(vague, data.x[:6], mean))
    assert ((near - data.x[:6]) ** 2).mean() < 0.8 * ((vague - data.x[:6]) ** 2).mean()


def test_cases_that_tell_and_that_do_not_are_each_searched_for() -> None:
    data = digits(public=200)
    spec = data.spec("cnn", 0.0)
    told, other = ascending(data, spec, [[0], [1]], STEP)
    weight, _ = precise_model(data.knowledge(spec)).last_layer
    rng = generator(1, "noise")
    blurred = dict(other.after)
    blurred[weight] = other.after[weight] + 1e-3 * rng.standard_normal(other.after[weight].shape)
    cases = [told, replace(other, after=blurred)]
    short = Inversion(iterations=20, polish=30, restarts=2)
    together = short.run(cases, data.knowledge(spec, "identity", STEP), generator(0, "test"))
    apart = [short.run([case], data.knowledge(spec, "identity", STEP), generator(0, "test"))[0] for case in cases]
    for one, same in zip(together, apart, strict=True):
        np.testing.assert_allclose(one.x, same.x, atol=1e-4)


def test_the_slope_of_features_is_that_of_their_distance() -> None:
    data = digits(public=20)
    spec = data.spec("cnn", 0.0)
    model = precise_model(data.knowledge(spec))
    at = model.tensors(model.init(np.random.default_rng(3)))
    match, x = features_apart(model, at, 0), torch.tensor(data.x[:2])[:, None]
    target = model.before_last(at, torch.tensor(data.x[2:4])).flatten(1).detach()
    y = torch.tensor(data.y[:2])[:, None]
    slope, apart = match(x, y, target)
    step = 1e-6 * torch.tensor(generator(2, "step").standard_normal(x.shape))
    moved = match(x + step, y, target)[1] - match(x - step, y, target)[1]
    np.testing.assert_allclose((slope * step).sum((1, 2)) * 2, moved, rtol=1e-3)
    assert (apart > 0).all()
