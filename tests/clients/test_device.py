"""A host that computes elsewhere than on the CPU brings everything there and back.

Not tried: Hessian products, whose forward derivatives make tensors where no pretended device sees them, and resnet18.
"""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import ConfigRecord

from palimpsest.clients.host import Host
from palimpsest.clients.reader import Reader
from palimpsest.clients.tombstones import Tombstones
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.federation import Block
from palimpsest.simulator.world.protocols.questions import Gradient, Train
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.specs import FeatureSpec, ModelSpec, PrivateSteps, Recipe
from tests.support.pretended import DEVICE, PretendedDevice

POPULATION = digits_population(clients=5, records=60)
LARGEST = int(POPULATION.sizes.argmax())
BLOCKS = [
    Block(model=0, branch=0, clients=(0, 1, 2), forget={}),
    Block(model=1, branch=1, clients=(LARGEST,), forget={LARGEST: (0, 2)}, compact=True),
]
RECIPE = Recipe(batch_size=4, learning_rate=0.1, l2=0.01, momentum=0.5, local_epochs=2)
PRIVATE = PrivateSteps(clip=1.0, noise_multiplier=1.0)
SPECS = {
    "softmax": {"row_clip": 2.0, "features": FeatureSpec(dimension=16, bandwidth=2.0, seed=0)},
    "mlp": {"hidden": 8},
    "cnn": {},
}


def _spec(kind: str) -> ModelSpec:
    about = {"kind": kind, "task": "classification", "shape": (1, 8, 8), "outputs": 10, "regularisation": 1.0}
    return ModelSpec.model_validate(about | SPECS[kind])


def _train(host: Host, spec: ModelSpec, models: list[Params]) -> list[object]:
    clipped = [Block(**{**vars(block), "update_clip": 0.5}) for block in BLOCKS]
    private = RECIPE.model_copy(update={"private": PRIVATE})
    return [
        *host.ask(Train(spec, BLOCKS, models, 1, RECIPE, each=True)),
        *host.ask(Train(spec, clipped, models, 1, RECIPE)),
        *host.ask(Train(spec, BLOCKS, models, 1, private)),
    ]


def _gradients(host: Host, spec: ModelSpec, models: list[Params]) -> list[object]:
    return [
        *host.ask(Gradient(spec, BLOCKS, models, "retained")),
        *host.ask(Gradient(spec, BLOCKS[1:], models, "forgotten")),
        *host.ask(Gradient(spec, BLOCKS[1:], models, "forgotten", "unlearning")),
        *host.ask(Gradient(spec, BLOCKS, models, "retained", private=PRIVATE)),
    ]


@pytest.mark.parametrize(
    "kind, ask",
    [(kind, ask) for kind in ("softmax", "mlp", "cnn") for ask in (_train, _gradients)],
)
def test_a_device_gives_the_bits_of_the_cpu_and_nothing_is_computed_across(
    kind: str, ask: Callable[[Host, ModelSpec, list[Params]], list[object]]
) -> None:
    spec = _spec(kind)
    models = [model_of(spec).init(np.random.default_rng(i)) for i in range(2)]

    def host(device: str) -> Host:
        return Host(Reader(POPULATION), 0, "arm", Tombstones(ConfigRecord()), device)

    expected = ask(host("cpu"), spec, models)
    with PretendedDevice():
        found = ask(host(DEVICE), spec, models)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_equal(vars(other), vars(one))
