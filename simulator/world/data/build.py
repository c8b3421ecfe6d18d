"""From a data configuration and a seed to a population."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from palimpsest.simulator.world.data.backdoor import plant
from palimpsest.simulator.world.data.config import DataConfig
from palimpsest.simulator.world.data.datasets import load_source, version_of
from palimpsest.simulator.world.data.dividing import divide
from palimpsest.simulator.world.data.encoding import Encoder
from palimpsest.simulator.world.data.partition import partition
from palimpsest.simulator.world.data.population import AbstractPopulation, Population
from palimpsest.simulator.world.data.preview import preview_of
from palimpsest.simulator.world.data.raw import Raw
from palimpsest.simulator.world.data.synthetic import SyntheticPopulation, synthetic_population
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import seed_apart
from palimpsest.simulator.world.specs import Schema

__all__ = [
    "DataConfig",
    "build_population",
    "load_population",
    "median_bandwidth",
    "open_population",
    "population_directory",
]

_FORMAT = 2
"""Raised when equal configurations come to mean other populations, so that cached ones are not taken for them."""


def build_population(data: DataConfig, seed: int) -> AbstractPopulation:
    """Load, split, partition and encode. A pure function of (data, seed, the source's content).

    What of a private record's content reaches anything else: its label decides which client holds it (dirichlet,
    pathological), nothing more. Statistics and category levels come from the public sample.

    Raises:
        DataError: the source is unusable, or the records do not suffice.
    """
    if data.is_synthetic:
        kept = seed_apart(seed, "synthetic")  # it lies beside the population, which draws records as they are asked for
        made = synthetic_population(
            data.clients, data.records_per_client, data.partition, data.test_fraction, data.public_fraction, kept
        )
        return replace(made, schema=made.schema.model_copy(update={"site_names": data.client_names}))
    raw = load_source(data.source, data.reading)
    notes = list(raw.notes)
    private, public, test = divide(raw, data, seed, notes)
    sites = None if raw.client is None else raw.client[private]
    shares, ids = partition(data.partition, raw.y[private], sites, data.clients, seed, notes)
    held = np.concatenate([private[share] for share in shares])
    encoder = Encoder.fit(raw, public)
    public_x = encoder(raw.x[public])
    box_low, box_high = encoder.box(public_x)
    schema = _schema(raw, encoder, data.client_names or _names(raw, ids))
    train_x, train_y = encoder(raw.x[held]), raw.y[held]
    sizes = np.array([len(share) for share in shares])
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    if data.backdoor is not None:
        train_x, train_y = plant(data.backdoor, schema, train_x, train_y, offsets, seed)
    parts = len(held), len(public), len(test)
    return Population(
        schema=schema,
        train_x=train_x,
        train_y=train_y,
        offsets=offsets,
        public_x=public_x,
        public_y=raw.y[public],
        test_x=encoder(raw.x[test]),
        test_y=raw.y[test],
        box_low=box_low,
        box_high=box_high,
        preprocessing=encoder.statistics(),
        preview=preview_of(raw, schema, sizes, parts, _range(train_x, public_x), notes),
    )


def _range(*parts: Array) -> tuple[float, float]:
    return min(float(part.min()) for part in parts), max(float(part.max()) for part in parts)


def population_directory(data: DataConfig, seed: int, root: Path) -> Path:
    """Where the population of (data, seed, the source's content) is kept below ``root``; equal names, equal bits."""
    about = {
        "format": _FORMAT,
        "data": data.model_dump(mode="json", exclude_none=True) | {"source": Path(data.source).stem},
        "version": version_of(data.source),
        "seed": seed,
    }
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return root / key[:32]


def load_population(data: DataConfig, seed: int, root: Path) -> AbstractPopulation:
    """Memory-map the population, built and written below ``root`` first where it is not there yet."""
    directory = population_directory(data, seed, root)
    if not directory.exists():
        build_population(data, seed).save(directory)
    return open_population(data, directory)


def open_population(data: DataConfig, directory: Path) -> AbstractPopulation:
    """Memory-map what ``build_population`` made and somebody saved."""
    return (SyntheticPopulation if data.is_synthetic else Population).open(directory)


def median_bandwidth(public_x: Array) -> float:
    """Median distance between two public records, over the first 1,000: the usual kernel width.

    Raises:
        DataError: there is no such distance, or it is 0.
    """
    from scipy.spatial.distance import pdist

    distances = pdist(np.asarray(public_x[:1000], dtype=np.float64))
    width = float(np.median(distances)) if len(distances) else 0.0
    if width <= 0.0:
        raise DataError(
            f"bandwidth = 'median' is 0 on {len(public_x)} public records; give a number, or raise public_fraction"
        )
    return width


def _names(raw: Raw, ids: tuple[int, ...]) -> tuple[str, ...]:
    """Of natural clients, by their ids."""
    named = raw.site_names and all(number < len(raw.site_names) for number in ids)
    return tuple(raw.site_names[number] if named else str(number) for number in ids)


def _schema(raw: Raw, encoder: Encoder, site_names: tuple[str, ...]) -> Schema:
    return Schema(
        name=raw.name,
        task="regression" if raw.is_regression else "classification",
        shape=encoder.shape,
        outputs=raw.classes,
        class_names=_class_names(raw),
        feature_names=encoder.names,
        site_names=site_names,
    )


def _class_names(raw: Raw) -> tuple[str, ...]:
    if raw.is_regression:
        return ()
    return raw.class_names or tuple(str(label) for label in range(raw.classes))
