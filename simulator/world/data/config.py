"""The data section of a scenario: which records there are, and who holds them."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from palimpsest.simulator.world.data.backdoor import BackdoorConfig
from palimpsest.simulator.world.data.datasets import MNIST_LIKE, check_source, is_table
from palimpsest.simulator.world.data.partition import PartitionConfig
from palimpsest.simulator.world.data.reading import Columns, Reading, TaskOrAuto
from palimpsest.simulator.world.errors import printable
from palimpsest.simulator.world.specs import Frozen

LONGEST_NAME = 24
"""Characters of a client's name: it has to fit into tables and figures."""


class DataConfig(Frozen):
    """Which records there are, and who holds them.

    Attributes:
        source: a shipped data set, a synthetic population, the path of a file or an image folder, or hub:OWNER/NAME.
        clients: how many; 0, and by default so, with the natural partition, which has as many as the source has ids.
        client_names: one for each client, in the order of their numbers; empty: clients have numbers alone, or with the
            natural partition the source's names.
        records_per_client: of a synthetic population, where every client has the same number.
        test_fraction: of all records, for measuring utility; 0: no test data. Where the source has a split, they are
            taken from its test part, as far as it goes.
        public_fraction: of all records, the public sample; from the training part of a source that has a split.
        sites: ids or names of natural clients to keep; empty: all. A test part of the source's own is kept whole.
        backdoor: a trigger planted in clients' records.
        columns: of a table: which is the target, the client, the split, and which are left out.
        missing: what happens where a value is missing: ``refuse``, ``drop`` the record, or fill in the ``mean`` of the
            public sample.
        task: whether targets are classes or amounts, where they do not say it themselves.
    """

    source: str = "mnist5k"
    clients: int = Field(default=100, ge=0)
    client_names: tuple[str, ...] = ()
    records_per_client: int = Field(default=50, ge=1)
    partition: PartitionConfig = PartitionConfig()
    test_fraction: float = Field(default=0.2, ge=0, lt=1)
    public_fraction: float = Field(default=0.3, gt=0, lt=1)
    sites: tuple[int | str, ...] = ()
    backdoor: BackdoorConfig | None = None
    columns: Columns = Columns()
    missing: Literal["refuse", "drop", "mean"] = "refuse"
    task: TaskOrAuto = "auto"

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

    @field_validator("client_names", mode="before")
    @classmethod
    def _printable(cls, names: Any) -> tuple[str, ...]:
        """Names stand in tables, figures and ledgers."""
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ValueError("must be a list of names, one for each client")
        for name in names:
            if not name or name.strip() != name or printable(name) != name or len(name) > LONGEST_NAME:
                raise ValueError(
                    f"{name!r} is no name of a client: 1 to {LONGEST_NAME} printable characters, with no blank at "
                    f"either end"
                )
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is there {names.count(name)} times; each client needs a name of its own")
        return tuple(names)

    @model_validator(mode="after")
    def _a_name_each(self) -> "DataConfig":
        names = self.client_names
        if names and self.partition.scheme == "natural":
            raise ValueError(
                "client_names with partition.scheme = 'natural', whose clients have the source's names; leave "
                "client_names out, or name them in the source"
            )
        if names and len(names) != self.clients:
            raise ValueError(
                f"client_names holds {len(names)} names, and there are clients = {self.clients}; give a name for each, "
                f"or none"
            )
        return self

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
    def _columns_of_a_table(self) -> "DataConfig":
        if self.columns != Columns() and not is_table(self.source):
            raise ValueError(
                f"columns are those of a table (.csv, .tsv, .parquet), and source = {self.source!r} is none; leave "
                f"columns out"
            )
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

    @property
    def reading(self) -> Reading:
        """How the source is to be read."""
        return Reading(columns=self.columns, missing=self.missing, task=self.task)
