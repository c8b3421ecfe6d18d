"""What a model, a data set and a training are: plain values that travel as JSON between server, hosts, adversary."""

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, RootModel, model_validator

Task = Literal["classification", "regression"]
Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["constant", "cosine", "exponential"]
Precision = Literal["highest", "medium", "bfloat16"]
"""Of what hosts compute in float32.

highest: all of it is. medium: products and convolutions may be rounded inside, as PyTorch's ``medium`` allows: to
TF32 on GPUs, to bfloat16 on CPUs with units for it; other CPUs take other float32 kernels. bfloat16: the layers of
networks whose gradients PyTorch takes compute in it, forward and backward; parameters, scores, losses and steps stay
float32.
"""
ModelKind: TypeAlias = str
"""A name in the table of models (``world.models.kinds``)."""


class Frozen(BaseModel):
    """A frozen value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def either(given: Mapping[str, Any], keys: tuple[str, str], clash: str) -> bool:
    """Whether one of two keys that say the same thing has a value.

    Raises:
        ValueError: both have; its text ends with ``clash``.
    """
    values = [f"{key} = {given[key]}" for key in keys if given.get(key) is not None]
    if len(values) > 1:
        raise ValueError(f"{' and '.join(values)} {clash}")
    return bool(values)


class Schema(Frozen):
    """What is publicly known of a data set's form.

    Attributes:
        name: the source's name.
        task: classification or regression.
        shape: of one record: ``(channels, height, width)`` for images, ``(d,)`` for tables. Records are stored flat.
        outputs: number of classes; 1 for regression.
        class_names: as many as classes; empty for regression.
        feature_names: of the flat record's columns; empty for images.
        site_names: of the clients, in the order of their numbers; empty where nobody names them.
    """

    name: str
    task: Task
    shape: tuple[int, ...]
    outputs: int
    class_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    site_names: tuple[str, ...] = ()

    @property
    def is_image(self) -> bool:
        """Whether records are images in [0, 1]."""
        return len(self.shape) == 3

    @property
    def width(self) -> int:
        """Length d of a flat record."""
        size = 1
        for side in self.shape:
            size *= side
        return size


class FeatureSpec(Frozen):
    """Random Fourier features phi(x) = sqrt(2/D) cos(W x + b), W ~ N(0, 1/bandwidth^2) (Rahimi and Recht 2007).

    The seed is public: the model cannot be used without it.
    """

    dimension: int
    bandwidth: float
    seed: int


class ModelOptions(RootModel[dict[str, Any]]):
    """A model's hyper-parameters as JSON has them; ``ModelCard.options`` checks them and fills in defaults."""

    model_config = ConfigDict(frozen=True)

    def __hash__(self) -> int:
        """Specs are keys of caches."""
        return hash(json.dumps(self.root, sort_keys=True))


_BEFORE_OPTIONS = {"hidden": "mlp", "channels": "resnet18"}
"""Keys that every spec had beside the others until models became a table, and the model that each one was for."""


class ModelSpec(Frozen):
    """All that is needed to build a model, and nothing about private data.

    Attributes:
        kind: the model's name in ``world.models.kinds``.
        options: its hyper-parameters; those that are not there have their defaults.
        regularisation: lambda of the objective, SUM of losses + lambda/2 ||theta||^2, intercept included.
        dropout: ``off``: a module that has some is trained without.
        row_clip: length to which a record's features are cut, in training and use; 0: not at all. Public.
        target_clip: largest absolute regression target that is trained on; 0: no limit. Public.
        dtype: of the parameters: float64 where the optimum is solved for, float32 for SGD.
    """

    kind: ModelKind
    task: Task
    shape: tuple[int, ...]
    outputs: int
    regularisation: float
    options: ModelOptions = ModelOptions({})
    dropout: Literal["off"] | None = None
    features: FeatureSpec | None = None
    row_clip: float = 0.0
    target_clip: float = 0.0
    dtype: Literal["float32", "float64"] = "float32"

    @model_validator(mode="before")
    @classmethod
    def _options_beside_other_keys(cls, given: Any) -> Any:
        """Read specs of runs before there were options."""
        if not isinstance(given, dict) or not _BEFORE_OPTIONS.keys() & given.keys():
            return given
        beside = {
            key: given[key] for key, kind in _BEFORE_OPTIONS.items() if key in given and kind == given.get("kind")
        }
        rest = {key: value for key, value in given.items() if key not in _BEFORE_OPTIONS}
        return {"options": beside, **rest}


class PrivateSteps(Frozen):
    """How a client hides single records in what it sends: clipped gradients, and Gaussian noise on their sum.

    Attributes:
        clip: bound C on the length of each record's gradient.
        noise_multiplier: sigma: a sum of gradients is sent, or stepped by, with noise N(0, (sigma C)^2).
    """

    clip: float
    noise_multiplier: float


class Ascent(Frozen):
    """How a client that asks for a deletion unlearns by itself: SGD up the mean loss of what it deletes.

    Attributes:
        epochs: passes over these records, in minibatches of the training's size.
        learning_rate: of each step.
    """

    epochs: int
    learning_rate: float


class Recipe(Frozen):
    """How a client trains locally: on the mean of the batch's losses + l2/2 ||theta||^2.

    Attributes:
        optimizer: sgd, with ``momentum``; or torch's adam and adamw, whose moments last for one round.
        proximal: mu of a further mu/2 ||theta - start||^2.
        local_steps: steps on batches drawn afresh, in place of epochs, of clients that count equally; 0: epochs.
        l2: lambda / n at the start of training; deletions leave it unchanged.
        private: clipped, noised steps on Poisson batches of the expected size ``batch_size``; None: plain steps.
    """

    local_epochs: int = 1
    local_steps: int = 0
    batch_size: int = 10
    learning_rate: float = 0.05
    momentum: float = 0.0
    l2: float = 0.0
    optimizer: Optimizer = "sgd"
    proximal: float = 0.0
    private: PrivateSteps | None = None
