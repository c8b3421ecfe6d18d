"""What every arm is compared by."""

from pathlib import Path

import pytest

from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.tracking.metrics import headline_metrics, undefended_of
from tests.support.fabricated import Way, digits, make_run

RETRAIN = {"method": "retrain"}
WAYS = (Way(RETRAIN, {"hrec": 0.8}, defense={"kind": "secure-aggregation"}), Way(RETRAIN, {"hrec": 0.8}))


def test_an_undefended_arm_without_scores_hides_no_cost_of_the_defended_one(tmp_path: Path) -> None:
    defended, undefended = RunFiles.open(make_run(tmp_path / "run", {"": digits()}, WAYS, deletions=4)).arms
    assert undefended_of(defended, (defended, undefended)) is undefended
    lost = undefended.model_copy(update={"utility": None, "attacks": {}, "diverged": "the model diverged"})
    found = headline_metrics(defended, undefended_of(defended, (defended, lost)))
    assert defended.utility is not None and defended.utility.retrained is not None
    assert found["utility_cost"] == pytest.approx(defended.utility.retrained - defended.utility.unlearned)
