"""CSV and Parquet files as the arrays that an npz file would hold."""

from pathlib import Path

import numpy as np

from palimpsest.simulator.world.errors import DataError
from palimpsest.simulator.world.records import Array

SUFFIXES = (".csv", ".parquet")
_ROLES = ("y", "client", "split")


def read_table(path: Path) -> dict[str, Array]:
    """Read a table whose column ``y`` is the target, ``client`` and ``split`` as in npz files, all others inputs.

    Columns of text become codes in alphabetical order: class names of ``y``, names of clients, categories of inputs.

    Raises:
        DataError: the file cannot be read, or has no ``y``, or values of text are missing.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except Exception as error:  # the parsers fail in as many ways as files can be damaged
        raise DataError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    if "y" not in frame:
        raise DataError(f"{path} has no column 'y' (it has {', '.join(map(str, frame.columns))}): rename the target")
    columns: dict[str, Array] = {}
    names: dict[str, Array] = {}
    for name, column in frame.items():
        if column.dtype.kind in "fiub":
            columns[str(name)] = column.to_numpy()
            continue
        if column.isna().any():
            raise DataError(f"{path}: column {name!r} lacks {int(column.isna().sum())} values; fill or remove them")
        levels, codes = np.unique(column.astype(str).to_numpy(dtype=str), return_inverse=True)
        columns[str(name)], names[str(name)] = codes.astype(np.int64), levels
    inputs = [name for name in columns if name not in _ROLES]
    if not inputs:
        raise DataError(f"{path} has no column but {', '.join(columns)}: nothing is left to learn from")
    found = {name: columns[name] for name in _ROLES if name in columns}
    found["x"] = np.column_stack([columns[name].astype(np.float64) for name in inputs])
    found["feature_names"] = np.array(inputs)
    found["is_categorical"] = np.array([name in names for name in inputs])
    for role, key in {"y": "class_names", "client": "client_names"}.items():
        if role in names:
            found[key] = names[role]
    return found
