"""The rows of requests: as a table with one type a column, and through the file."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from palimpsest.simulator.results.arm_files import ArmFiles
from palimpsest.simulator.results.request_frame import frame
from palimpsest.simulator.results.requests import RequestResult


def row(**changes: Any) -> RequestResult:
    """A site that left after round 4, attacked once."""
    attack = {"answers": "reconstruction", "inferred": "20 benign", "measure": "centred cosine", "success": 0.25}
    about = {
        "number": 1, "case": 0, "round": 4, "rejoined": None, "level": "client", "client": 2, "clients": 1,
        "name": "Riverside", "records": 20, "accepted": True, "reason": "", "utility_after": 0.9,
        "forgetting": {"forget_loss": 0.5}, "attacks": {"hrec": {**attack, "chance": 0, "no_signal": False}},
    }  # fmt: skip
    return RequestResult.model_validate({**about, **changes})


def test_a_refused_request_is_a_row_of_missing_values(tmp_path: Path) -> None:
    refused = row(
        number=2, case=None, accepted=False, reason="already gone", utility_after=None, forgetting={}, attacks={}
    )
    files = ArmFiles(tmp_path, "arm")
    files.write_requests((row(), refused))
    table = files.requests()
    assert table is not None
    assert table["name"].tolist() == ["Riverside"] * 2
    assert table["case"].tolist() == [0, pd.NA]
    assert (table["success_hrec"][0], table["inferred_hrec"][0], table["forgetting_forget_loss"][0]) == (
        0.25,
        "20 benign",
        0.5,
    )
    second = table.iloc[1]
    assert second[["success_hrec", "utility_after", "forgetting_forget_loss"]].isna().all()
    assert {str(table[name].dtype) for name in ("case", "client", "bytes_up")} == {"Int64"}
    assert {str(table[name].dtype) for name in ("success_hrec", "utility_before", "seconds")} == {"Float64"}


def test_no_requests_are_an_empty_table_with_the_columns() -> None:
    empty = frame(())
    assert len(empty) == 0
    assert {"number", "name", "utility_after", "epsilon_retained"} <= set(empty)


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="level"):
        row(level="site")
