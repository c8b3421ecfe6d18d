"""Values to JSON and a list of arrays, and back, by their type annotations.

It knows scalars, arrays, pydantic models, dataclasses of such, sequences and tuples of one type, mappings, and a type
or None.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import BaseModel

from palimpsest.simulator.world.records import Array

T = TypeVar("T")

_SCALARS = (bool, int, float, str)


class Codec(NamedTuple):
    """How values of one type are packed: arrays go to the end of a list, and their places into the JSON value."""

    encode: Callable[[Any, list[Array]], Any]
    decode: Callable[[Any, Sequence[Array]], Any]


@cache
def codec(kind: Any) -> Codec:
    """Return how values of a type are packed.

    Raises:
        TypeError: it is none of the types above.
    """
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in _SCALARS or origin is Literal:
        return Codec(lambda value, arrays: value, lambda value, arrays: value)
    if origin is np.ndarray:
        return Codec(_put_array, lambda value, arrays: arrays[value])
    if origin in (Union, types.UnionType):
        return _optional(arguments)
    if isinstance(origin, type) and issubclass(origin, BaseModel):
        return Codec(lambda value, _: value.model_dump(mode="json"), lambda value, _: origin.model_validate(value))
    if dataclasses.is_dataclass(origin):
        return _dataclass(origin)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(*map(codec, arguments))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _sequence(origin, arguments)
    raise TypeError(f"a value of type {kind} cannot travel in a message")


def _put_array(value: Array, arrays: list[Array]) -> int:
    arrays.append(value)
    return len(arrays) - 1


def _optional(arguments: tuple[Any, ...]) -> Codec:
    [inner] = [codec(argument) for argument in arguments if argument is not type(None)]
    return Codec(
        lambda value, arrays: None if value is None else inner.encode(value, arrays),
        lambda value, arrays: None if value is None else inner.decode(value, arrays),
    )


def _dataclass(kind: Any) -> Codec:
    hints = get_type_hints(kind)
    fields = [(field.name, codec(hints[field.name])) for field in dataclasses.fields(kind)]
    return Codec(
        lambda value, arrays: [inner.encode(getattr(value, name), arrays) for name, inner in fields],
        lambda value, arrays: kind(
            **{name: inner.decode(part, arrays) for (name, inner), part in zip(fields, value, strict=True)}
        ),
    )


def _mapping(key: Codec, item: Codec) -> Codec:
    """As pairs: keys of a JSON object could be nothing but strings."""
    return Codec(
        lambda value, arrays: [[key.encode(k, arrays), item.encode(v, arrays)] for k, v in value.items()],
        lambda value, arrays: {key.decode(k, arrays): item.decode(v, arrays) for k, v in value},
    )


def _sequence(origin: type, arguments: tuple[Any, ...]) -> Codec:
    make = tuple if issubclass(origin, tuple) else list
    if arguments[0] in _SCALARS:  # such as the ids of many clients: at once, and not one by one
        return Codec(lambda value, arrays: list(value), lambda value, arrays: make(value))
    item = codec(arguments[0])
    return Codec(
        lambda value, arrays: [item.encode(element, arrays) for element in value],
        lambda value, arrays: make(item.decode(element, arrays) for element in value),
    )
