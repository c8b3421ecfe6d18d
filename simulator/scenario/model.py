"""The section [model]: keys of every model, and beside them the options of the one that is named."""

import json
from typing import Annotated, Any, Literal, NoReturn

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from palimpsest.simulator.scenario.errors import OWN_WORDS, closest, explain, listed
from palimpsest.simulator.world.errors import ModelError
from palimpsest.simulator.world.models.card import ModelCard
from palimpsest.simulator.world.models.kinds import CARDS, is_known, model_card, names
from palimpsest.simulator.world.specs import Frozen, either

Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


_ONCE_OF_EVERY_MODEL = {"hidden": 64, "channels": 64}
"""Keys that runs wrote beside every model until models had options, with their defaults; they are dropped."""


class FeaturesConfig(Frozen):
    """Random features in front of a linear model.

    Attributes:
        dimension: how many.
        bandwidth: of the Gaussian kernel; ``median``: the median distance between public records.
    """

    kind: Literal["random-fourier"] = "random-fourier"
    dimension: Count = 2048
    bandwidth: Positive | Literal["median"] = "median"

    @field_validator("bandwidth", mode="before")
    @classmethod
    def _number_or_median(cls, value: Any) -> Any:
        if value == "median" or (isinstance(value, int | float) and not isinstance(value, bool) and value > 0):
            return value
        raise ValueError("must be 'median' or a number above 0")


class ModelConfig(Frozen):
    """What is trained: SUM of losses + lambda/2 ||theta||^2, intercept included.

    Every other key is an option of the kind, as its card has them.

    Attributes:
        kind: a name in the table of models.
        l2: lambda / n, n the clients' records at the start of training; by default the kind's, 1e-2 for linear models.
        regularisation: lambda itself, ``lambda`` in TOML, in place of l2.
        dropout: ``off``: a module of another package that has dropout is trained without, in evaluation mode.
        features: of linear models only.
    """

    model_config = ConfigDict(extra="allow")

    kind: str = "softmax"
    l2: NotNegative | None = None
    regularisation: NotNegative | None = Field(default=None, alias="lambda")
    dropout: Literal["off"] | None = None
    features: FeaturesConfig | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The kind's hyper-parameters, defaults included."""
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="before")
    @classmethod
    def _of_its_kind(cls, given: Any) -> Any:
        """Refuse two regularisers, fill in the kind's where there is none, and check its options."""
        if not isinstance(given, dict) or not isinstance(kind := given.get("kind", "softmax"), str):
            return given
        card = _card(kind)
        if not either(given, ("l2", "lambda"), "are two regularisers; give l2 (= lambda / n) or lambda, not both"):
            given = given | {"l2": card.default_l2}
        fixed = {field.alias or name for name, field in cls.model_fields.items()}
        options = {key: value for key, value in given.items() if key not in fixed}
        rest = {key: value for key, value in given.items() if key in fixed}
        return rest | _checked(kind, card, options, fixed)

    @model_validator(mode="after")
    def _nothing_ignored(self) -> "ModelConfig":
        card = model_card(self.kind)
        if self.features is not None and not (card.linear and card.features is None):
            linear = [name for name, card in CARDS.items() if card.linear and card.features is None]
            raise ValueError(f"features are for {listed(linear)}, not kind = {self.kind!r}; leave them out")
        return self


def _card(kind: str) -> ModelCard:
    if not is_known(kind):
        hint = closest(kind, names())
        _refuse(f"kind = {json.dumps(kind)}: there is no such model;{hint} it must be one of: {listed(names())}")
    try:
        return model_card(kind)
    except ModelError as error:
        _refuse(f"kind = {json.dumps(kind)}: {error}")


def _refuse(sentence: str) -> NoReturn:
    raise PydanticCustomError(OWN_WORDS, "{sentence}", {"sentence": sentence})


def _checked(kind: str, card: ModelCard, options: dict[str, Any], fixed: set[str]) -> dict[str, Any]:
    """The options with every default; those of other models are refused."""
    known, of_card = card.options.model_fields, {}
    for key, value in options.items():
        if key in known:
            of_card[key] = value
            continue
        others = [name for name, other in CARDS.items() if key in other.options.model_fields]
        if not others:
            there = sorted({*fixed, *known})
            sentence = f"{key}: unknown key;{closest(key, there)} known here: {listed(there)}"
        elif value == _ONCE_OF_EVERY_MODEL.get(key):
            continue
        else:
            sentence = f"{key} = {value} is for kind = {' or '.join(map(repr, others))}, not {kind!r}; leave it out"
        _refuse(sentence)
    try:
        return card.options.model_validate_json(json.dumps(of_card), strict=True).model_dump(mode="json")
    except ValidationError as error:
        _refuse(explain(error, card.options))
