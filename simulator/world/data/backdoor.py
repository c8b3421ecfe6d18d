"""A trigger planted in clients' records: what a model learns from it, it has learned from them and from nobody else."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator, model_validator

from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Frozen, Schema

Index = Annotated[int, Field(ge=0)]


class BackdoorConfig(Frozen):
    """A mark on some clients' records, which get the target as their label (BadNets, Gu et al. 2017).

    The public sample and the test data carry none. A model's backdoor success is the share of other classes' test
    records that it takes for the target once the mark is put on them: known truth about the carriers' influence.

    Attributes:
        target: the label that the mark stands for.
        patch: of images: row, column, height and width of the rectangle that is overwritten, in every channel.
        columns: of tables: positions or names of the encoded columns that are overwritten.
        value: what is written: of images between 0 and 1; of tables in standard deviations from the public mean.
        clients: who carries it; empty: everybody.
        share: of each carrier's records, rounded, at least one; drawn at random.
    """

    target: Index = 0
    patch: tuple[Index, Index, Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None
    columns: tuple[Index | str, ...] = ()
    value: float = 1.0
    clients: tuple[Index, ...] = ()
    share: float = Field(default=1.0, gt=0, le=1)

    @field_validator("patch", "columns", "clients", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _one_mark(self) -> "BackdoorConfig":
        if (self.patch is None) == (not self.columns):
            raise ValueError("patch (of images) or columns (of tables) says where the mark is; give one of the two")
        if len(set(self.clients)) < len(self.clients):
            raise ValueError(f"clients = {list(self.clients)} names one twice")
        return self


def marked(backdoor: BackdoorConfig, schema: Schema, x: Array) -> Array:
    """Copies of flat records ``[n, d]`` with the mark on them.

    Raises:
        DataError: the mark does not fit the records.
    """
    changed = np.array(x)
    changed[:, _columns(backdoor, schema)] = backdoor.value
    return changed


def plant(
    backdoor: BackdoorConfig, schema: Schema, x: Array, y: Array, offsets: Array, seed: int
) -> tuple[Array, Array]:
    """The clients' records with the mark on those that are to carry it, and the target as their label.

    Args:
        backdoor: what is planted, and where.
        schema: of the records.
        x, y: ``[n, d]`` and ``[n]``, sorted by client.
        offsets: ``[clients + 1]`` client k owns rows ``offsets[k]:offsets[k + 1]``.
        seed: of the scenario; draws the records.

    Raises:
        DataError: the mark does not fit the data, or there is no such class or client.
    """
    clients = len(offsets) - 1
    if schema.task != "classification":
        raise DataError(
            f"data.backdoor.target is a class, and {schema.name} has a real-valued target; leave backdoor out"
        )
    if backdoor.target >= schema.outputs:
        raise DataError(f"data.backdoor.target = {backdoor.target}: classes go from 0 to {schema.outputs - 1}")
    beyond = [client for client in backdoor.clients if client >= clients]
    if beyond:
        raise DataError(
            f"data.backdoor.clients holds {beyond[0]}: there is no such client; ids go from 0 to {clients - 1}"
        )
    rows = []
    for client in backdoor.clients or range(clients):
        size = int(offsets[client + 1] - offsets[client])
        wanted = min(size, max(1, round(backdoor.share * size)))
        rows.append(offsets[client] + generator(seed, "backdoor", client).permutation(size)[:wanted])
    carrying = np.concatenate(rows)
    planted_x, planted_y = np.array(x), np.array(y)
    planted_x[carrying] = marked(backdoor, schema, x[carrying])
    planted_y[carrying] = backdoor.target
    return planted_x, planted_y


def _columns(backdoor: BackdoorConfig, schema: Schema) -> Array:
    """Positions in a flat record that the mark overwrites."""
    if backdoor.patch is not None:
        return _pixels(backdoor.patch, schema)
    if schema.is_image:
        raise DataError(f"data.backdoor.columns are of tables, and {schema.name} has images; give data.backdoor.patch")
    names = {name: position for position, name in enumerate(schema.feature_names)}
    positions = [names.get(column, -1) if isinstance(column, str) else column for column in backdoor.columns]
    for column, position in zip(backdoor.columns, positions, strict=True):
        if not 0 <= position < schema.width:
            some = ", ".join(schema.feature_names[:10]) + (", ..." if schema.width > 10 else "")
            raise DataError(f"data.backdoor.columns holds {column!r}: there are {schema.width} columns: {some}")
    return np.array(positions)


def _pixels(patch: tuple[int, int, int, int], schema: Schema) -> Array:
    if not schema.is_image:
        raise DataError(f"data.backdoor.patch is of images, and {schema.name} is a table; give data.backdoor.columns")
    row, column, height, width = patch
    channels, rows, columns = schema.shape
    if row + height > rows or column + width > columns:
        raise DataError(f"data.backdoor.patch = {list(patch)} reaches beyond images of {rows} x {columns} pixels")
    places = np.arange(schema.width).reshape(channels, rows, columns)
    return places[:, row : row + height, column : column + width].ravel()
