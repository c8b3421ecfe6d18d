"""Which records are private, public and for testing; and which belong to the sites that a scenario keeps."""

import numpy as np

from palimpsest.simulator.world.data.config import DataConfig
from palimpsest.simulator.world.data.raw import Raw
from palimpsest.simulator.world.data.reading import Note
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import generator


def divide(raw: Raw, data: DataConfig, seed: int, notes: list[Note] | None = None) -> tuple[Array, Array, Array]:
    """Return disjoint rows (private, public, test) by one random permutation of all records.

    Args:
        raw: all records.
        data: says how many are public and for testing.
        seed: of the scenario.
        notes: is told which records are used for nothing.

    Raises:
        DataError: none are left for the clients.
    """
    order = generator(seed, "split").permutation(len(raw.y))
    kept = order[of_sites(raw, data.sites)[order]]
    unused = 0
    if raw.split is None:
        n = len(kept)
        train, tests = kept, kept[: round(data.test_fraction * n)]
        train = kept[len(tests) :]
    else:
        train, tests = kept[raw.split[kept] == 0], order[raw.split[order] == 1]
        n = len(train) + len(tests)
        unused = len(tests)
        tests = tests[: round(data.test_fraction * n)]
        unused -= len(tests)
    publics = max(1, round(data.public_fraction * n))
    if publics >= len(train):
        raise DataError(
            f"public_fraction = {data.public_fraction:g} of {n} records asks for {publics} of the {len(train)} that "
            f"are not test data, and leaves none for the clients; lower it"
        )
    if notes is not None:
        notes += _unused(raw, data, len(kept), unused)
    return train[publics:], train[:publics], tests


def _unused(raw: Raw, data: DataConfig, kept: int, tests: int) -> list[Note]:
    notes = []
    if tests:
        text = f"of the source's test part, beyond test_fraction = {data.test_fraction:g} of all records"
        notes.append(Note(kind="dropped", text=text, count=tests))
    if kept < len(raw.y):
        where = "of other sites" if raw.split is None else "of other sites (but for those of the test part)"
        notes.append(Note(kind="dropped", text=where, count=len(raw.y) - kept))
    if raw.client is not None and data.partition.scheme != "natural" and not data.sites:
        text = (
            f"the source names {len(np.unique(raw.client))} clients, and partition.scheme = {data.partition.scheme!r} "
            f"divides records without them; take 'natural' to keep them"
        )
        notes.append(Note(kind="warning", text=text))
    return notes


def of_sites(raw: Raw, sites: tuple[int | str, ...]) -> Array:
    """``[n]`` whether a record belongs to one of the sites; True everywhere where none are named.

    Raises:
        DataError: there is no such site.
    """
    if not sites:
        return np.ones(len(raw.y), dtype=bool)
    if raw.client is None:
        raise DataError(f"sites = {list(sites)} needs a `client` column, and {raw.name!r} has none; leave sites out")
    names = {name: number for number, name in enumerate(raw.site_names)}
    present = set(np.unique(raw.client).tolist())
    chosen = []
    for site in sites:
        number = names.get(site, site) if isinstance(site, str) else site
        if isinstance(site, str) and not names and site.isdecimal():
            number = int(site)
        if number not in present:
            some = list(raw.site_names) or sorted(present)
            shown = ", ".join(str(name) for name in some[:10]) + (", ..." if len(some) > 10 else "")
            raise DataError(f"sites holds {site!r}, and {raw.name!r} has no such client; it has {shown}")
        chosen.append(number)
    return np.isin(raw.client, chosen)
