"""From a data configuration and a seed to a population."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, field_validator, model_validator

from palimpsest.simulator.world.data.backdoor import BackdoorConfig, plant
from palimpsest.simulator.world.data.datasets import MNIST_LIKE, check_source, load_source, version_of
from palimpsest.simulator.world.data.encoding import Encoder
from palimpsest.simulator.world.data.partition import PartitionConfig, partition
from palimpsest.simulator.world.data.population import AbstractPopulation, Population
from palimpsest.simulator.world.data.raw import Raw
from palimpsest.simulator.world.data.synthetic import SyntheticPopulation, synthetic_population
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Frozen, Schema

_FORMAT = 1
"""Raised when equal configurations come to mean other populations, so that cached ones are not taken for them."""


class DataConfig(Frozen):
    """Which records there are, and who holds them.

    Attributes:
        source: a shipped data set, a synthetic population, the path of a file or an image folder, or hub:OWNER/NAME.
        clients: how many; 0, and by default so, with the natural partition, which has as many as the source has ids.
        records_per_client: of a synthetic population, where every client has the same number.
        test_fraction: of all records, for measuring utility; 0: no test data. Where the source has a split, they are
            taken from its test part, as far as it goes.
        public_fraction: of all records, the public sample; from the training part of a source that has a split.
        sites: ids or names of natural clients to keep; empty: all. A test part of the source's own is kept whole.
        backdoor: a trigger planted in clients' records.
    """

    source: str = "mnist5k"
    clients: int = Field(default=100, ge=0)
    records_per_client: int = Field(default=50, ge=1)
    partition: PartitionConfig = PartitionConfig()
    test_fraction: float = Field(default=0.2, ge=0, lt=1)
    public_fraction: float = Field(default=0.3, gt=0, lt=1)
    sites: tuple[int | str, ...] = ()
    backdoor: BackdoorConfig | None = None

    @field_validator("source")
    @classmethod
    def _loadable(cls, source: str) -> str:
        check_source(source)
        return source

    @field_validator("sites", mode="before")
    @classmethod
    def _ids_or_names(cls, sites: Any) -> Any:
        if not isinstance(sites, list | tuple) or not all(isinstance(site, int | str) for site in sites):
            raise ValueError("must be a list of ids or names of natural clients")
        return tuple(sites)

    @model_validator(mode="before")
    @classmethod
    def _as_many_as_ids(cls, given: Any) -> Any:
        """Natural clients are counted by the source, unless told otherwise."""
        if not isinstance(given, dict) or "clients" in given:
            return given
        division = given.get("partition")
        scheme = division.get("scheme") if isinstance(division, dict) else getattr(division, "scheme", None)
        return given | {"clients": 0} if scheme == "natural" else given

    @model_validator(mode="after")
    def _fits_together(self) -> "DataConfig":
        if self.test_fraction + self.public_fraction >= 1:
            raise ValueError(
                f"test_fraction = {self.test_fraction:g} and public_fraction = {self.public_fraction:g} leave nothing "
                f"for the clients; their sum must be below 1"
            )
        natural = self.partition.scheme == "natural"
        if natural and self.clients:
            raise ValueError(
                f"clients = {self.clients} with partition.scheme = 'natural', which has as many clients as the source "
                f"has ids; leave clients out (or 0), and choose some by sites"
            )
        if not natural and not self.clients:
            raise ValueError("clients = 0 is for partition.scheme = 'natural'; give at least 1")
        return self

    @model_validator(mode="after")
    def _synthetic_or_not(self) -> "DataConfig":
        if not self.is_synthetic:
            if self.records_per_client != type(self).model_fields["records_per_client"].default:
                raise ValueError(
                    f"records_per_client = {self.records_per_client} is for source = {MNIST_LIKE!r}, not "
                    f"{self.source!r}, whose records are divided; leave it out"
                )
            return self
        if self.backdoor is not None:
            raise ValueError(
                f"backdoor needs records that are stored, and those of source = {self.source!r} are made where they "
                f"are read; leave it out, or take another source"
            )
        least = self.partition.min_records
        if self.partition.scheme == "natural" or self.sites or least > self.records_per_client:
            raise ValueError(
                f"source = {self.source!r} has records_per_client = {self.records_per_client} at every client, and no "
                f"natural clients; leave sites and min_records out, and take partition.scheme iid, dirichlet or "
                f"pathological"
            )
        return self

    @property
    def is_synthetic(self) -> bool:
        """Whether records are made where they are read."""
        return self.source == MNIST_LIKE


def build_population(data: DataConfig, seed: int) -> AbstractPopulation:
    """Load, split, partition and encode. A pure function of (data, seed, the source's content).

    What of a private record's content reaches anything else: its label decides which client holds it (dirichlet,
    pathological), nothing more. Statistics and category levels come from the public sample.

    Raises:
        DataError: the source is unusable, or the records do not suffice.
    """
    if data.is_synthetic:
        return synthetic_population(
            data.clients, data.records_per_client, data.partition, data.test_fraction, data.public_fraction, seed
        )
    raw = load_source(data.source)
    private, public, test = _split(raw, data, seed)
    sites = None if raw.client is None else raw.client[private]
    shares, ids = partition(data.partition, raw.y[private], sites, data.clients, seed)
    held = np.concatenate([private[share] for share in shares])
    encoder = Encoder.fit(raw, public)
    public_x = encoder(raw.x[public])
    box_low, box_high = encoder.box(public_x)
    schema = _schema(raw, encoder, ids)
    train_x, train_y = encoder(raw.x[held]), raw.y[held]
    offsets = np.concatenate([[0], np.cumsum([len(share) for share in shares])]).astype(np.int64)
    if data.backdoor is not None:
        train_x, train_y = plant(data.backdoor, schema, train_x, train_y, offsets, seed)
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
    )


def foreign_sample(
    data: DataConfig, seed: int, source: str, sites: tuple[int | str, ...], most: int
) -> tuple[Array, Array]:
    """Records of elsewhere as this population's models read them: ``[m, d]`` float32, and their classes or targets.

    Tables are encoded by the statistics and levels of the population's own public sample. Of the data's own source only
    records of sites that ``data.sites`` leaves out are taken, so that none is a client's.

    Args:
        data: of the population.
        seed: of the scenario.
        source: where the records come from.
        sites: natural clients of it; empty: all.
        most: records that are drawn at most.

    Raises:
        DataError: they have other columns or classes, or there are none.
    """
    own = load_source("mnist5k" if data.is_synthetic else data.source)
    if source == MNIST_LIKE:
        made = synthetic_population(1, most, PartitionConfig(scheme="iid"), 0.0, 0.5, seed)
        x, y = made.public_x.reshape(-1, 28, 28), made.public_y
    else:
        raw = load_source(source)
        chosen = np.flatnonzero(
            _of_sites(raw, sites) & ~(_of_sites(raw, data.sites) & (Path(source) == Path(data.source)))
        )
        chosen = chosen[generator(seed, "foreign-sample").permutation(len(chosen))[:most]]
        x, y = raw.x[chosen], raw.y[chosen]
    if not len(x):
        raise DataError(f"adversary.public_source = {source!r} with {list(sites)} has no records that are not clients'")
    if x.shape[1:] != own.x.shape[1:]:
        raise DataError(
            f"adversary.public_source = {source!r} has records of shape {x.shape[1:]}, and the data {own.x.shape[1:]}"
        )
    if not own.is_regression and int(y.max()) >= own.classes:
        raise DataError(
            f"adversary.public_source = {source!r} has {int(y.max()) + 1} classes, and the data {own.classes}"
        )
    encoder = Encoder.fit(own, np.arange(0) if own.is_image else _split(own, data, seed)[1])
    return encoder(x), y


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


def _split(raw: Raw, data: DataConfig, seed: int) -> tuple[Array, Array, Array]:
    """Return disjoint rows (private, public, test) by one random permutation of all records."""
    order = generator(seed, "split").permutation(len(raw.y))
    kept = order[_of_sites(raw, data.sites)[order]]
    if raw.split is None:
        n = len(kept)
        train, tests = kept, kept[: round(data.test_fraction * n)]
        train = kept[len(tests) :]
    else:
        train, tests = kept[raw.split[kept] == 0], order[raw.split[order] == 1]
        n = len(train) + len(tests)
        tests = tests[: round(data.test_fraction * n)]
    publics = max(1, round(data.public_fraction * n))
    if publics >= len(train):
        raise DataError(
            f"public_fraction = {data.public_fraction:g} of {n} records asks for {publics} of the {len(train)} that "
            f"are not test data, and leaves none for the clients; lower it"
        )
    return train[publics:], train[:publics], tests


def _of_sites(raw: Raw, sites: tuple[int | str, ...]) -> Array:
    """``[n]`` whether a record belongs to one of the sites; True everywhere where none are named."""
    if not sites:
        return np.ones(len(raw.y), dtype=bool)
    if raw.client is None:
        raise DataError(f"sites = {list(sites)} needs a `client` column, and {raw.name!r} has none; leave sites out")
    names = {name: number for number, name in enumerate(raw.site_names)}
    present = set(np.unique(raw.client).tolist())
    chosen = []
    for site in sites:
        number = names.get(site, site) if isinstance(site, str) else site
        if number not in present:
            some = list(raw.site_names) or sorted(present)
            shown = ", ".join(str(name) for name in some[:10]) + (", ..." if len(some) > 10 else "")
            raise DataError(f"sites holds {site!r}, and {raw.name!r} has no such client; it has {shown}")
        chosen.append(number)
    return np.isin(raw.client, chosen)


def _schema(raw: Raw, encoder: Encoder, ids: tuple[int, ...]) -> Schema:
    named = raw.site_names and all(number < len(raw.site_names) for number in ids)
    return Schema(
        name=raw.name,
        task="regression" if raw.is_regression else "classification",
        shape=encoder.shape,
        outputs=raw.classes,
        class_names=_class_names(raw),
        feature_names=encoder.names,
        site_names=tuple(raw.site_names[number] for number in ids) if named else (),
    )


def _class_names(raw: Raw) -> tuple[str, ...]:
    if raw.is_regression:
        return ()
    return raw.class_names or tuple(str(label) for label in range(raw.classes))
