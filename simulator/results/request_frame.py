"""The rows of requests as a table, as ``requests/<arm>.parquet`` holds it."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from palimpsest.simulator.results.requests import RequestResult

_NESTED = ("forgetting", "attacks")
_WHOLE = ("case", "rejoined", "client", "client_updates", "bytes_up", "bytes_down", "clients_left", "records_left")
_FIGURES = (
    "utility_before", "utility_after", "utility_retrained", "forgetting_gap", "epsilon_leaver", "epsilon_retained",
    "epsilon_retained_before", "seconds",
)  # fmt: skip
_FIGURES_OF = ("success_", "chance_", "forgetting_")


def frame(rows: Sequence[RequestResult]) -> pd.DataFrame:
    """The rows, flat: the columns of ``RequestResult``, with missing values where it has None.

    In the place of ``forgetting`` there is a column ``forgetting_<measure>`` each; in the place of ``attacks`` the
    columns ``success_<attack>``, ``chance_<attack>``, ``inferred_<attack>`` and ``measure_<attack>``.
    """
    plain = [name for name in RequestResult.model_fields if name not in _NESTED]
    table = pd.DataFrame([_line(row, plain) for row in rows], columns=None if rows else plain)
    figures = [name for name in map(str, table) if name in _FIGURES or name.startswith(_FIGURES_OF)]
    return table.astype({**dict.fromkeys(_WHOLE, "Int64"), **dict.fromkeys(figures, "Float64")})


def _line(row: RequestResult, plain: Sequence[str]) -> dict[str, Any]:
    line = {name: getattr(row, name) for name in plain}
    line |= {f"forgetting_{name}": value for name, value in row.forgetting.items()}
    for attack, got in row.attacks.items():
        line |= {
            f"success_{attack}": got.success,
            f"chance_{attack}": got.chance,
            f"inferred_{attack}": got.inferred,
            f"measure_{attack}": got.measure,
        }
    return line
