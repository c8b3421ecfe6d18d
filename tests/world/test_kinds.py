"""What the built-in networks are made of, beyond that they train like any model (``test_training``)."""

import numpy as np
import pytest
import torch
from torch import nn

from palimpsest.attacks.hrec import Hrec
from palimpsest.attacks.inversion import Inversion
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import scenario_from_dict
from palimpsest.simulator.testing.transcripts import ascending, cosines, digits, forgetting
from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.model import Model
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelOptions, ModelSpec


def build(kind: str, shape: tuple[int, ...], **options: int) -> Model:
    spec = ModelSpec(kind=kind, task="classification", shape=shape, outputs=10, regularisation=0.0)
    return Model(spec.model_copy(update={"options": ModelOptions(options)}))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (1, 5, 4)])
def test_a_convnet_starts_at_full_size_and_grows_to_four_times_its_channels(shape: tuple[int, ...]) -> None:
    model = build("convnet", shape, depth=4)
    module = model.module(model.init(generator(0, "init")))
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [32, 64, 128, 128]
    assert all(layer.stride == (1, 1) for layer in convolutions)
    assert module(torch.zeros(2, int(np.prod(shape)))).shape == (2, 10)


def test_inversion_finds_a_record_in_a_convnets_ascent_step() -> None:
    data = digits(private=40, public=120)
    spec = data.spec("convnet", 0.0).model_copy(update={"options": ModelOptions({"channels": 8})})
    cases = ascending(data, spec, [[0], [7]], 0.1)
    found = Inversion(iterations=200).run(cases, data.knowledge(spec, "identity", 0.1), generator(0, "attack"))
    records = np.concatenate([one.x for one in found])
    mean = np.tile(data.public_x.mean(0), (2, 1))
    assert (cosines(records, data.x[[0, 7]]) > cosines(mean, data.x[[0, 7]])).all()
    assert [float(one.y[0]) for one in found] == [float(data.y[0]), float(data.y[7])]


def test_a_vit_sees_where_a_patch_stands() -> None:
    model = build("vit-tiny", (1, 8, 8))
    params = model.init(generator(0, "init"))
    image = np.random.default_rng(0).random((8, 8))
    swapped = np.concatenate([image[4:], image[:4]])
    one, other = model.predict(params, np.stack([image.ravel(), swapped.ravel()]))
    assert np.abs(one - other).max() > 1e-4
    blind = {**params, "0.place": np.zeros_like(params["0.place"])}
    one, other = model.predict(blind, np.stack([image.ravel(), swapped.ravel()]))
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("options", "needed"), [({"patch": 5}, "model.patch = 5"), ({"heads": 3}, "model.heads = 3")])
def test_a_vit_of_parts_that_do_not_fit_is_refused(options: dict[str, int], needed: str) -> None:
    with pytest.raises(ModelError, match=needed):
        build("vit-tiny", (1, 8, 8), **options)


def test_frozen_features_are_the_same_wherever_they_are_built_and_no_parameters() -> None:
    first, again = build("frozen-features", (1, 8, 8)), build("frozen-features", (1, 8, 8))
    assert first.shapes == {"weight": (10, 256), "bias": (10,)}
    x = torch.rand(3, 64)
    assert torch.equal(first.embed(x), again.embed(x))
    assert first.embed(x).norm(dim=1).max() < 10.0


@pytest.mark.slow
def test_hrec_recovers_frozen_features_and_inverts_them() -> None:
    data = digits(private=150, public=120)
    spec = data.spec("frozen-features", 4.0)
    (found,) = Hrec().run(forgetting(data, spec, [[0]]), data.knowledge(spec), generator(0, "attack"))
    assert cosines(found.x, data.x[[0]])[0] > 0.95


def test_random_features_do_not_stand_in_front_of_frozen_ones() -> None:
    with pytest.raises(ScenarioError, match=r"features are for ridge, softmax, svm, not kind = 'frozen-features'"):
        scenario_from_dict({"name": "x", "model": {"kind": "frozen-features", "features": {"dimension": 9}}})
