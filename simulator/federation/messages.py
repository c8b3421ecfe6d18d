"""How questions and answers travel in Flower's records: one JSON header, and arrays by name."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import GenericAlias
from typing import Any

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from palimpsest.simulator.federation.packing import codec
from palimpsest.simulator.world.protocols.federation import Answer, Question
from palimpsest.simulator.world.records import Array, Forget

MARKS = Mapping[int, Forget]
"""What a message about tombstones holds: records by branch and client."""

JOINED_BYTES = 2**16
"""Arrays of fewer bytes travel joined with others of their dtype: each array of a Flower record has a cost of its own.

Larger ones, such as ridge statistics, would be held twice while they are joined.
"""


def pack(header: Mapping[str, Any], value: Any = None, kind: Any = None) -> RecordDict:
    """Put plain JSON values, and a value of a type that ``codec`` knows, into a Flower record."""
    arrays: list[Array] = []
    body = None if kind is None else codec(kind).encode(value, arrays)
    text = {"header": header, "body": body, "arrays": [[array.dtype.str, list(array.shape)] for array in arrays]}
    record = ArrayRecord({name: FlowerArray(array) for name, array in _joined(arrays).items()})
    return RecordDict({"header": ConfigRecord({"json": json.dumps(text)}), "arrays": record})


@dataclass(frozen=True)
class Unpacked:
    """What a Flower record holds.

    Attributes:
        header: plain JSON values.
        body: the packed value.
        arrays: that the body points to.
    """

    header: dict[str, Any]
    body: Any
    arrays: Sequence[Array]

    def read(self, kind: Any) -> Any:
        """Return the value, of the type that it was packed as."""
        return codec(kind).decode(self.body, self.arrays)


def unpack(record: RecordDict) -> Unpacked:
    """Inverse of ``pack``."""
    text = json.loads(str(record.config_records["header"]["json"]))
    named = {name: value.numpy() for name, value in record.array_records["arrays"].items()}
    return Unpacked(text["header"], text["body"], _parted(named, text["arrays"]))


def pack_question(question: Question[Any], asker: Mapping[str, Any]) -> RecordDict:
    """Put a question into a Flower record, with what is known of who asks."""
    return pack({"question": type(question).__name__, **asker}, question, type(question))


def pack_answers(question: Question[Answer], answers: Sequence[Answer]) -> RecordDict:
    """Put the answers to a question, one a block, into a Flower record."""
    return pack({}, answers, GenericAlias(list, (question.answer,)))


def unpack_answers(question: Question[Answer], record: RecordDict) -> list[Answer]:
    """Inverse of ``pack_answers``."""
    answers: list[Answer] = unpack(record).read(GenericAlias(list, (question.answer,)))
    return answers


def note_seconds(record: RecordDict, seconds: float) -> None:
    """Put beside an answer how long it took to compute."""
    record["host"] = MetricRecord({"seconds": seconds})


def seconds_of(record: RecordDict) -> float:
    """Read what ``note_seconds`` put there."""
    return float(str(record.metric_records["host"]["seconds"]))


def _joined(arrays: Sequence[Array]) -> dict[str, Array]:
    """Arrays by name: large ones under their position, small ones end to end under their dtype."""
    named, small = {}, defaultdict(list)
    for position, array in enumerate(arrays):
        if array.nbytes < JOINED_BYTES:
            small[array.dtype.str].append(array.ravel())
        else:
            named[str(position)] = np.ascontiguousarray(array)
    return named | {dtype: np.concatenate(parts) for dtype, parts in small.items()}


def _parted(named: Mapping[str, Array], layout: Sequence[tuple[str, Sequence[int]]]) -> list[Array]:
    """Inverse of ``_joined``; ``layout`` is the dtype and shape of each array."""
    arrays: list[Array] = []
    begins: dict[str, int] = defaultdict(int)
    for position, (dtype, shape) in enumerate(layout):
        if str(position) in named:
            arrays.append(named[str(position)])
        else:
            begin = begins[dtype]
            begins[dtype] += int(np.prod(shape, dtype=np.int64))
            arrays.append(named[dtype][begin : begins[dtype]].reshape(shape))
    return arrays
