"""The table of models. To add one: write the file, add its card, write its test.

A package of one's own announces one by the entry point ``palimpsest.models``: a name, and ``module:object``, where the
object is a ``ModelCard``, or a function of the schema that returns a ``torch.nn.Module``. Entry points are the only way
by which a scenario names code: one from a stranger must not choose what is imported.
"""

from dataclasses import replace

from pydantic import Field

from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.errors import ModelError, RunFailure
from palimpsest.simulator.world.models import given
from palimpsest.simulator.world.models.card import ModelCard
from palimpsest.simulator.world.plugins import announced, imported
from palimpsest.simulator.world.specs import Frozen

_HERE = "palimpsest.simulator.world.models.kinds"
_ENTRY_POINTS = "palimpsest.models"


class MlpOptions(Frozen):
    """Of an mlp.

    Attributes:
        hidden: width of the hidden layer.
    """

    hidden: int = Field(default=64, ge=1)


class ResNetOptions(Frozen):
    """Of a resnet18.

    Attributes:
        channels: of the first of four stages; each later one has twice as many.
    """

    channels: int = Field(default=64, ge=1)


class ConvNetOptions(Frozen):
    """Of a convnet.

    Attributes:
        channels: of the first convolution; later ones have twice and four times as many.
        depth: convolutions.
    """

    channels: int = Field(default=32, ge=1)
    depth: int = Field(default=3, ge=1, le=8)


class VitOptions(Frozen):
    """Of a vit-tiny.

    Attributes:
        patch: pixels on a side of a patch; divides the image's sides.
        width: of a token.
        depth: blocks.
        heads: of attention; divides the width.
    """

    patch: int = Field(default=4, ge=1)
    width: int = Field(default=32, ge=1)
    depth: int = Field(default=2, ge=1, le=64)
    heads: int = Field(default=2, ge=1)


class FrozenFeaturesOptions(Frozen):
    """Of a model on frozen features.

    Attributes:
        dimension: how many features the fixed extractor makes of a record.
    """

    dimension: int = Field(default=256, ge=1)


CARDS: dict[str, ModelCard] = {
    "ridge": ModelCard(
        f"{_HERE}.linear:build",
        "linear, half the squared error (one-hot targets for classes); optimum in closed form",
        loss="squared error",
        records="flat",
        default_l2=1e-2,
        linear=True,
        head="",
        first="",
        initialisation="uniform",
        gradients=f"{_HERE}.linear:gradients",
    ),
    "softmax": ModelCard(
        f"{_HERE}.linear:build",
        "linear, cross-entropy",
        tasks=("classification",),
        records="flat",
        default_l2=1e-2,
        linear=True,
        head="",
        first="",
        initialisation="uniform",
        gradients=f"{_HERE}.linear:gradients",
    ),
    "svm": ModelCard(
        f"{_HERE}.linear:build",
        "linear, squared hinge, one class against the rest",
        loss="squared hinge",
        tasks=("classification",),
        records="flat",
        default_l2=1e-2,
        linear=True,
        head="",
        first="",
        initialisation="uniform",
        gradients=f"{_HERE}.linear:gradients",
    ),
    "mlp": ModelCard(
        f"{_HERE}.mlp:build",
        "one hidden layer of ReLUs",
        MlpOptions,
        records="flat",
        head="2",
        first="0",
        initialisation="uniform",
        gradients=f"{_HERE}.mlp:gradients",
    ),
    "cnn": ModelCard(
        f"{_HERE}.cnn:build",
        "two convolutions and a linear head; images only",
        records="flat",
        images_only=True,
        head="6",
        initialisation="uniform",
        gradients=f"{_HERE}.cnn:gradients",
        convolutions="palimpsest.simulator.world.models.convolutions:layers_of",
    ),
    "resnet18": ModelCard(
        f"{_HERE}.resnet18:build",
        "ResNet-18 for small images, with GroupNorm; images only",
        ResNetOptions,
        records="flat",
        images_only=True,
        head="10",
        initialisation="uniform",
        vmapped=False,
    ),
    "convnet": ModelCard(
        f"{_HERE}.convnet:build",
        "three convolutions of 32 to 128 channels, the first at full size, and a linear head; images only",
        ConvNetOptions,
        images_only=True,
    ),
    "frozen-features": ModelCard(
        f"{_HERE}.linear:build",
        "softmax on the features of a fixed, public, random extractor, as pretrained networks are put to use",
        FrozenFeaturesOptions,
        tasks=("classification",),
        records="flat",
        default_l2=1e-2,
        linear=True,
        features=f"{_HERE}.frozen_features:features",
        head="",
        initialisation="uniform",
        gradients=f"{_HERE}.linear:gradients",
    ),
    "text-linear": ModelCard(
        f"{_HERE}.linear:build",
        "softmax on bags of words of unit length: data.columns.text says which columns are text",
        tasks=("classification",),
        records="flat",
        default_l2=1e-3,
        linear=True,
        features=f"{_HERE}.text_linear:features",
        head="",
        initialisation="uniform",
        gradients=f"{_HERE}.linear:gradients",
    ),
    "vit-tiny": ModelCard(
        f"{_HERE}.vit_tiny:build",
        "a small vision transformer with LayerNorm and no dropout; images only",
        VitOptions,
        images_only=True,
    ),
}


def names() -> list[str]:
    """The models there are: built-in ones, then those of other packages. Imports none of them."""
    return [*CARDS, *(name for name in announced(_ENTRY_POINTS) if name not in CARDS)]


def is_known(name: str) -> bool:
    """Whether there is such a model, or a program has to hand it over."""
    return name in names() or name.startswith(given.PREFIX)


def model_card(name: str) -> ModelCard:
    """The card of a model; another package's is imported for it.

    Raises:
        ModelError: there is no such model, or its package cannot be imported, or announces something else, or it has to
            be handed over by a program.
    """
    if name in CARDS:
        return CARDS[name]
    if name.startswith(given.PREFIX):
        return given.recall(name)
    if name not in announced(_ENTRY_POINTS):
        raise ModelError(f"there is no model {name!r} here; it must be one of: {', '.join(names())}")
    return _card_of(name)


def package_of(name: str) -> str:
    """Name and version of the package that announces a model; nothing for a built-in one."""
    if name.startswith(given.PREFIX):
        return "a Python program"
    return "" if name in CARDS else announced(_ENTRY_POINTS)[name].package


def suits(method: Card, kind: str) -> bool:
    """Whether a method works on a model, by its name and by what it is.

    Raises:
        ModelError: as for ``model_card``.
    """
    return (not method.models or kind in method.models) and set(method.traits) <= model_card(kind).traits


def suited(method: Card) -> list[str]:
    """The built-in models that a method works on."""
    return [name for name in CARDS if suits(method, name)]


def _card_of(name: str) -> ModelCard:
    point = announced(_ENTRY_POINTS)[name]
    try:
        found = imported(point.target, f"the model {name!r} of {point.package}", object)
    except RunFailure as error:
        raise ModelError(str(error)) from error
    if isinstance(found, ModelCard):
        return found if found.summary else replace(found, summary=f"of the package {point.package}")
    if not callable(found):
        raise ModelError(
            f"the model {name!r} ({point.target}) is a {type(found).__name__}; its entry point must name a ModelCard, "
            f"or a function of the schema that returns a torch.nn.Module"
        )
    return ModelCard(lambda schema, options: found(schema), f"of the package {point.package}")
