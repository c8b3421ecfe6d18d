"""What all entries of ``results.json`` have in common: typed, frozen, and written as they were read.

An entry keeps the keys that it was made from, in their order: what is written is byte for byte what was read, and a key
that was absent stays absent although its field then has a default.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)

from palimpsest.simulator.world.errors import printable


def _number(value: Any) -> Any:
    """Say it once where a value is neither an integer nor a float."""
    if not isinstance(value, int | float):
        raise ValueError("a number is wanted")
    return value


LONGEST_NAME = 200
"""Characters of a name of files: file systems take 255 bytes, its ending included."""


def is_file_name(name: str) -> bool:
    """Whether files may be called so, which leads into no other folder; a stranger may have written it."""
    return (
        0 < len(name) <= LONGEST_NAME and not {"/", "\\"}.intersection(name) and name not in (".", "..")
    ) and printable(name) == name


def _file_name(name: str) -> str:
    if not is_file_name(name):
        raise ValueError(f"files are called so: at most {LONGEST_NAME} characters, no slash and no control character")
    return name


FileName: TypeAlias = Annotated[str, AfterValidator(_file_name)]
"""A name that files of a run have."""
FileNameOrNone: TypeAlias = Annotated[str, AfterValidator(lambda name: name and _file_name(name))]
"""The same, or empty."""
Number: TypeAlias = Annotated[int | float, BeforeValidator(_number)]
"""An integer or a float, and written as the one that it is."""
Interval: TypeAlias = tuple[Number, Number]
"""Lower and upper end of a 95 % interval."""
Measure: TypeAlias = JsonValue
"""A further figure that a method, a defense or an attack reports by a name of its own."""


class ArmEntry(BaseModel):
    """A JSON object of ``results.json``: frozen, with its keys in the order in which they were given."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Measure] = Field(init=False)
    _keys: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _remember_keys(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made = handler(data)
        if isinstance(data, Mapping):
            made._keys = tuple(data)
        return made

    def to_json(self) -> dict[str, Any]:
        """This entry as ``json`` writes it: the keys that were given, in their order."""
        names = {field.alias or name: name for name, field in type(self).model_fields.items()}
        extra = self.__pydantic_extra__
        return {key: _plain(getattr(self, names[key]) if key in names else extra[key]) for key in self._keys}

    @property
    def measures(self) -> dict[str, Measure]:
        """The figures that have no field of their own."""
        return dict(self.__pydantic_extra__)


def _plain(value: Any) -> Any:
    """A value as ``json`` takes it."""
    if isinstance(value, ArmEntry):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
