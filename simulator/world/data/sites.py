"""Sites: places that hold the records of their own clients, and of nobody else's.

Client k of n belongs to site k * sites // n: runs of neighbours, as equal as can be. ``save_site`` writes what one site
holds; a host that is given such a directory serves these clients and no others.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from palimpsest.simulator.world.data.population import AbstractPopulation, Population
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

_ABOUT = "site.json"


def site_of(clients: Array, population: int, sites: int) -> Array:
    """``[k]`` the site of each client of a population of so many; 0 everywhere where there are no sites."""
    sites_of: Array = np.asarray(clients, dtype=np.int64) * sites // population
    return sites_of


def save_site(population: AbstractPopulation, name: str, site: int, sites: int, directory: Path) -> None:
    """Write what one site holds of a population: other clients are there by their number alone, without records.

    Args:
        population: all of it.
        name: of the population, as the server calls it.
        site: which, counted from 0.
        sites: how many there are.
        directory: of the site; other populations may be in it already.
    """
    here = site_of(np.arange(population.clients), population.clients, sites) == site
    sizes = np.where(here, population.sizes, 0)
    x, y = population.take(np.concatenate([population.rows(int(client)) for client in np.flatnonzero(here)]))
    shared: dict[str, Any] = {field.name: getattr(population, field.name) for field in fields(AbstractPopulation)}
    nothing = {part: shared[part][:0] for part in ("public_x", "public_y", "test_x", "test_y")}
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    shared["preview"] = None  # it tells of other sites' clients
    Population(**{**shared, **nothing}, train_x=x, train_y=y, offsets=offsets).save(directory / name)
    (directory / _ABOUT).write_text(json.dumps({"site": site, "sites": sites}))


def about_site(directory: Path) -> dict[str, int]:
    """``site`` and ``sites`` of what ``save_site`` wrote.

    Raises:
        DataError: the directory holds no site's data.
    """
    try:
        about: dict[str, int] = json.loads((directory / _ABOUT).read_text())
    except OSError:
        raise DataError(
            f"{directory} holds no site's data (no {_ABOUT}); write it with: palimpsest split SCENARIO --out DIR"
        ) from None
    return about


def open_site(directory: Path, name: str) -> Population:
    """Memory-map what a site holds of a population.

    Raises:
        DataError: it holds nothing of that one.
    """
    if not (directory / name).is_dir():
        raise DataError(
            f"{directory} holds nothing of population {name}: it was split from another scenario, seed or source; "
            f"write it anew with: palimpsest split SCENARIO --out DIR"
        )
    return Population.open(directory / name)
