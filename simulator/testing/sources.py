"""What every data source must be: the same records each time, that a federation can be made of."""

import numpy as np

from palimpsest.simulator.world.data.build import build_population
from palimpsest.simulator.world.data.config import DataConfig
from palimpsest.simulator.world.data.datasets import load_source, version_of
from palimpsest.simulator.world.data.raw import Raw
from palimpsest.simulator.world.data.sources import cards
from palimpsest.simulator.world.errors import DataError


def check_source(name: str) -> None:
    """Check everything that is asked of a data source.

    Args:
        name: under which it is registered, built in or announced by an entry point.

    Raises:
        AssertionError: what it does not do, in one sentence.
    """
    assert name in cards(), f"there is no data set {name!r} here; there are {', '.join(cards())}"
    try:
        raw, again = load_source(name), load_source(name)
        check_repeatable(name, raw, again)
        check_population(name, raw)
    except DataError as error:
        raise AssertionError(f"{name}: {error}") from error


def check_repeatable(name: str, raw: Raw, again: Raw) -> None:
    """It returns the same records each time, and has a version that stands for them."""
    for part in ("x", "y", "client", "split"):
        one, other = getattr(raw, part), getattr(again, part)
        same = one is other is None or np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        assert same, f"{name}: {part} differs from one call to the next; draw it from a generator of a fixed seed"
    assert version_of(name), f"{name}: its package has no version"


def check_population(name: str, raw: Raw) -> None:
    """Several classes, or targets that differ, and records for clients, for the public sample and for testing."""
    assert len(np.unique(raw.y)) > 1, f"{name}: all records have the same label"
    scheme, clients = ("iid", 3) if raw.client is None else ("natural", 0)
    missing = "mean" if raw.x.dtype.kind == "f" and np.isnan(raw.x).any() else "refuse"
    about = {"source": name, "clients": clients, "partition": {"scheme": scheme}, "missing": missing}
    made = build_population(DataConfig.model_validate(about), 0)
    assert made.clients > 0, f"{name}: nobody holds a record"
    assert np.isfinite(made.public_x).all(), f"{name}: a record is not finite once it is encoded"
