"""Records of another source as the models of a population read them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from palimpsest.simulator.world.data.config import DataConfig
from palimpsest.simulator.world.data.datasets import MNIST_LIKE, is_table, load_source
from palimpsest.simulator.world.data.dividing import divide, of_sites
from palimpsest.simulator.world.data.encoding import Encoder
from palimpsest.simulator.world.data.partition import PartitionConfig
from palimpsest.simulator.world.data.raw import Raw
from palimpsest.simulator.world.data.synthetic import synthetic_population
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import generator


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
    home = load_source("mnist5k") if data.is_synthetic else load_source(data.source, data.reading)
    if source == MNIST_LIKE:
        made = synthetic_population(1, most, PartitionConfig(scheme="iid"), 0.0, 0.5, seed)
        x, y = made.public_x.reshape(-1, 28, 28), made.public_y
    else:
        raw = _as_called(load_source(source, data.reading if is_table(source) else None), home, source)
        chosen = np.flatnonzero(
            of_sites(raw, sites) & ~(of_sites(raw, data.sites) & (Path(source) == Path(data.source)))
        )
        chosen = chosen[generator(seed, "foreign-sample").permutation(len(chosen))[:most]]
        x, y = raw.x[chosen], raw.y[chosen]
    _check_fits(x, y, home, source, sites)
    encoder = Encoder.fit(home, np.arange(0) if home.is_image else divide(home, data, seed)[1])
    return encoder(x), y


def _check_fits(x: Array, y: Array, own: Raw, source: str, sites: tuple[int | str, ...]) -> None:
    """Refuse records that this population's models cannot read."""
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


def _as_called(raw: Raw, home: Raw, source: str) -> Raw:
    """Columns, categories and classes in the order of the population's own, by their names, where both have them.

    Raises:
        DataError: a class, or a column, is not there.
    """
    if home.texts:
        raise DataError(
            f"adversary.public_source = {source!r}: the data have a column of text, whose words are read off their own "
            f"public sample; leave public_source out"
        )
    x, y = raw.x, raw.y
    if raw.class_names and home.class_names and raw.class_names != home.class_names:
        strange = [raw.class_names[label] for label in np.unique(y) if raw.class_names[label] not in home.class_names]
        if strange:
            raise DataError(
                f"adversary.public_source = {source!r} has the class {strange[0]!r}, and the data {home.class_names}"
            )
        places = {name: label for label, name in enumerate(home.class_names)}
        y = np.array([places[raw.class_names[label]] for label in y])
    if raw.feature_names and home.feature_names and not raw.is_image:
        lacking = [name for name in home.feature_names if name not in raw.feature_names]
        if lacking:
            raise DataError(f"adversary.public_source = {source!r} has no column {lacking[0]!r}, which the data have")
        order = [raw.feature_names.index(name) for name in home.feature_names]
        x = np.column_stack([_codes(raw, home, theirs, ours) for ours, theirs in enumerate(order)])
    return replace(raw, x=x, y=y, class_names=home.class_names)


def _codes(raw: Raw, home: Raw, theirs: int, ours: int) -> Array:
    """One column; of categories the codes that the population has for their names, -1 where it has none."""
    values, names = raw.x[:, theirs], home.levels.get(ours, ())
    if not names or theirs not in raw.levels:
        return values
    places = np.array([names.index(level) if level in names else -1.0 for level in raw.levels[theirs]])
    missing = np.isnan(values)
    return np.where(missing, np.nan, places[np.where(missing, 0, values).astype(np.int64)])
