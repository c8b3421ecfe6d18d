"""How calls and answers travel in Flower's records: one JSON header, and arrays by name."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from palimpsest.simulator.world.protocols.federation import Block, BlockResult, Factor, Statistics
from palimpsest.simulator.world.records import Array, Forget, Params

_EACH = "each/"
"""Begins the names of arrays that hold the updates of single clients: ``each/<block>/<parameter>``."""

_VECTOR = "vector/"
"""Begins the names of arrays that travel with a model and are no part of it."""


def pack(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> RecordDict:
    """Put a JSON header and named arrays into a Flower record."""
    record = ArrayRecord({name: FlowerArray(np.ascontiguousarray(value)) for name, value in arrays.items()})
    return RecordDict({"header": ConfigRecord({"json": json.dumps(header)}), "arrays": record})


def unpack(record: RecordDict) -> tuple[dict[str, Any], dict[str, Array]]:
    """Inverse of ``pack``."""
    header = json.loads(str(record.config_records["header"]["json"]))
    return header, {name: value.numpy() for name, value in record.array_records["arrays"].items()}


def note_seconds(record: RecordDict, seconds: float) -> None:
    """Put beside an answer how long it took to compute."""
    record["host"] = MetricRecord({"seconds": seconds})


def seconds_of(record: RecordDict) -> float:
    """Read what ``note_seconds`` put there."""
    return float(str(record.metric_records["host"]["seconds"]))


def blocks_to_json(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Blocks as plain values."""
    return [
        {**vars(block), "forget": [[client, list(records)] for client, records in block.forget.items()]}
        for block in blocks
    ]


def blocks_from_json(values: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Inverse of ``blocks_to_json``."""
    return [
        Block(
            model=value["model"],
            branch=value["branch"],
            clients=tuple(value["clients"]),
            forget={client: tuple(records) for client, records in value["forget"]},
            batches=tuple(value["batches"]),
            compact=value["compact"],
            noise=tuple(value["noise"]),
            update_clip=value["update_clip"],
        )
        for value in values
    ]


def marks_to_json(marks: Mapping[int, Forget]) -> list[Any]:
    """Records by branch and client, as plain values."""
    return [[branch, [[c, list(records)] for c, records in forget.items()]] for branch, forget in marks.items()]


def marks_from_json(values: Sequence[Any]) -> dict[int, Forget]:
    """Inverse of ``marks_to_json``."""
    return {branch: {client: tuple(records) for client, records in forget} for branch, forget in values}


def stack_models(models: Sequence[Params]) -> dict[str, Array]:
    """name -> ``[models, ...]``."""
    return {name: np.stack([params[name] for params in models]) for name in models[0]} if models else {}


def unstack_models(arrays: Mapping[str, Array]) -> list[Params]:
    """Inverse of ``stack_models``."""
    count = len(next(iter(arrays.values()))) if arrays else 0
    return [{name: value[i] for name, value in arrays.items()} for i in range(count)]


def pair_models(models: Sequence[Params], vectors: Sequence[Params]) -> list[Params]:
    """Each model with a vector of its shape, as one set of named arrays."""
    return [
        {**model, **{f"{_VECTOR}{name}": value for name, value in vector.items()}}
        for model, vector in zip(models, vectors, strict=True)
    ]


def unpair_models(pairs: Sequence[Params]) -> tuple[list[Params], list[Params]]:
    """Inverse of ``pair_models``."""
    models: list[Params] = [{name: pair[name] for name in pair if not name.startswith(_VECTOR)} for pair in pairs]
    return models, [
        {name: pair[f"{_VECTOR}{name}"] for name in model} for model, pair in zip(models, pairs, strict=True)
    ]


def results_to_record(results: Sequence[BlockResult]) -> RecordDict:
    """What ``train`` and ``gradient`` answer."""
    header = {"weights": [r.weight for r in results], "metrics": [dict(r.metrics) for r in results]}
    single = {f"{_EACH}{i}/{name}": value for i, r in enumerate(results) for name, value in r.each.items()}
    return pack(header, stack_models([result.sums for result in results]) | single)


def results_from_record(record: RecordDict) -> list[BlockResult]:
    """Inverse of ``results_to_record``."""
    header, arrays = unpack(record)
    sums = unstack_models({name: value for name, value in arrays.items() if not name.startswith(_EACH)})
    each: list[dict[str, Array]] = [{} for _ in sums]
    for key in arrays.keys() - (sums[0].keys() if sums else ()):
        position, _, name = key.removeprefix(_EACH).partition("/")
        each[int(position)][name] = arrays[key]
    answers = zip(sums, header["weights"], header["metrics"], each, strict=True)
    return [BlockResult(*answer) for answer in answers]


def statistics_to_record(results: Sequence[Statistics]) -> RecordDict:
    """What ``statistics`` answers."""
    arrays: dict[str, Array] = {}
    for i, result in enumerate(results):  # not stacked: they are large, and a copy of all would double them
        arrays |= {f"gram-{i}": result.gram, f"moment-{i}": result.moment}
    return pack({"counts": [result.count for result in results]}, arrays)


def statistics_from_record(record: RecordDict) -> list[Statistics]:
    """Inverse of ``statistics_to_record``."""
    header, arrays = unpack(record)
    return [Statistics(arrays[f"gram-{i}"], arrays[f"moment-{i}"], n) for i, n in enumerate(header["counts"])]


def factors_to_record(results: Sequence[Factor]) -> RecordDict:
    """What ``factors`` answers, at least one: two arrays, however many there are; roots differ in height."""
    heights, counts = [len(result.root) for result in results], [result.count for result in results]
    roots, moments = np.concatenate([result.root for result in results]), np.stack([r.moment for r in results])
    return pack({"heights": heights, "counts": counts}, {"roots": roots, "moments": moments})


def factors_from_record(record: RecordDict) -> list[Factor]:
    """Inverse of ``factors_to_record``."""
    header, arrays = unpack(record)
    roots = np.split(arrays["roots"], np.cumsum(header["heights"])[:-1])
    return [Factor(*of_block) for of_block in zip(roots, arrays["moments"], header["counts"], strict=True)]
