"""Who holds which record: Flower's partitioners, on labels or natural ids alone."""

import contextlib
import io
import re
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from palimpsest.simulator.world.data.reading import Note
from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import generator, seed_for_others
from palimpsest.simulator.world.specs import Frozen

if TYPE_CHECKING:
    from flwr_datasets.partitioner import Partitioner

Scheme = Literal["iid", "dirichlet", "pathological", "natural"]


class PartitionConfig(Frozen):
    """How records are divided among clients.

    Attributes:
        scheme: ``iid``: equal shares at random; ``dirichlet``: each class is divided by a draw of Dirichlet(alpha);
            ``pathological``: each client holds few classes (McMahan et al. 2017); ``natural``: by the source's
            ``client`` column.
        alpha: dirichlet only: small is uneven, large is even.
        min_records: dirichlet only: a client that the draw leaves with fewer gets some of the largest client's.
        classes_per_client: pathological only.
    """

    scheme: Scheme = "dirichlet"
    alpha: float = Field(default=0.5, ge=1e-6, le=1e9)
    min_records: int = Field(default=1, ge=1)
    classes_per_client: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _nothing_ignored(self) -> "PartitionConfig":
        """Refuse a setting of another scheme, unless it says what is the default anyway."""
        for key, scheme in {
            "alpha": "dirichlet",
            "min_records": "dirichlet",
            "classes_per_client": "pathological",
        }.items():
            value = getattr(self, key)
            if self.scheme != scheme and value != type(self).model_fields[key].default:
                raise ValueError(f"{key} = {value} is for scheme = {scheme!r}, not {self.scheme!r}; leave it out")
        return self


def partition(
    config: PartitionConfig,
    labels: Array,
    sites: Array | None,
    clients: int,
    seed: int,
    notes: list[Note] | None = None,
) -> tuple[list[Array], tuple[int, ...]]:
    """Divide records among clients.

    Args:
        labels: ``[n]`` classes, or targets, which only ``iid`` and ``natural`` can divide.
        sites: ``[n]`` natural ids, where the source has them.
        clients: how many; not read by ``natural``.
        seed: of the scenario.
        notes: is told which records nobody holds, and what the partitioner warns of.

    Returns:
        For each client the indices of its records; and, for ``natural``, each client's natural id.

    Raises:
        DataError: the records cannot be divided so.
    """
    n, said = len(labels), [] if notes is None else notes
    if config.scheme == "natural":
        if sites is None:
            raise DataError(
                "partition.scheme = 'natural' needs a `client` column, and the source has none; use iid or dirichlet"
            )
        return _divide(_natural(), {"by": sites}, said), tuple(int(site) for site in np.unique(sites))
    least = config.min_records if config.scheme == "dirichlet" else 1
    if clients * least > n:
        raise DataError(
            f"clients = {clients} with at least {least} record each need {clients * least} records, and {n} are left "
            f"for clients; have at most {n // least} clients, or lower test_fraction or public_fraction"
        )
    if config.scheme != "iid" and labels.dtype.kind == "f":
        raise DataError(
            f"partition.scheme = {config.scheme!r} divides classes, and this is regression; use iid or natural"
        )
    shares = _divide(_partitioner(config, clients, seed), {"by": labels}, said, order=_shuffled(n, seed))
    _note_unheld(config, labels, shares, clients, said)
    if config.scheme == "dirichlet":
        _top_up(shares, config.min_records)
    return shares, ()


def _shuffled(n: int, seed: int) -> Array:
    return generator(seed, "partition-order").permutation(n)


def _partitioner(config: PartitionConfig, clients: int, seed: int) -> "Partitioner":
    from flwr_datasets.partitioner import DirichletPartitioner, IidPartitioner, PathologicalPartitioner

    drawn = seed_for_others(seed, "partition")
    if config.scheme == "iid":
        return IidPartitioner(num_partitions=clients)
    if config.scheme == "dirichlet":
        # min_partition_size makes it draw everything again, eleven times at most; topping up always ends
        return DirichletPartitioner(clients, "by", config.alpha, min_partition_size=0, seed=drawn)
    return PathologicalPartitioner(clients, "by", config.classes_per_client, "first-deterministic", seed=drawn)


def _natural() -> "Partitioner":
    from flwr_datasets.partitioner import NaturalIdPartitioner

    return NaturalIdPartitioner(partition_by="by")


def _divide(
    partitioner: "Partitioner", columns: dict[str, Any], notes: list[Note], order: Array | None = None
) -> list[Array]:
    """Run a partitioner over the records in the given order; return indices into the order they came in."""
    from datasets import Dataset

    n = len(columns["by"])
    rows = np.arange(n) if order is None else order
    by = np.asarray(columns["by"])[rows]
    partitioner.dataset = Dataset.from_dict({"by": by, "row": rows})
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            parts = [partitioner.load_partition(k) for k in range(partitioner.num_partitions)]  # stderr: progress bars
    except ValueError as error:
        raise DataError(f"the records cannot be divided so: {error}") from None
    module = "flwr_datasets"
    for said in dict.fromkeys(str(w.message) for w in warned if module in str(w.filename)):
        plain = re.sub(r"np\.\w+\((.*?)\)", r"\1", said)
        if not plain.startswith("Classes: "):  # the records of these are counted and named
            notes.append(Note(kind="warning", text=f"Flower's partitioner says: {plain}"))
    return [np.asarray(part.with_format("numpy")["row"][:], dtype=np.int64) for part in parts]


def _note_unheld(config: PartitionConfig, labels: Array, shares: list[Array], clients: int, notes: list[Note]) -> None:
    """Count the records that are given to nobody, and say why."""
    held = np.zeros(len(labels), dtype=bool)
    for share in shares:
        held[share] = True
    lost = int((~held).sum())
    if not lost:
        return
    classes, each = np.unique(labels[~held]).tolist(), config.classes_per_client
    text = (
        f"of the classes {', '.join(map(str, classes))}, which partition.scheme = {config.scheme!r} gives to none of "
        f"{clients} clients with {each} classes each; have more clients or classes_per_client to keep them"
    )
    notes.append(Note(kind="dropped", text=text, count=lost))


def _top_up(shares: list[Array], least: int) -> None:
    """Move records from the largest clients to those with fewer than ``least``."""
    sizes = [len(share) for share in shares]
    for poor in np.flatnonzero(np.asarray(sizes) < least):
        while sizes[poor] < least:
            rich = int(np.argmax(sizes))
            shares[poor] = np.append(shares[poor], shares[rich][-1])
            shares[rich] = shares[rich][:-1]
            sizes[poor], sizes[rich] = sizes[poor] + 1, sizes[rich] - 1
