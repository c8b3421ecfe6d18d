"""The table that compares ways of unlearning, on a run whose outcome is made up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
from rich.console import Console

from palimpsest.simulator.figures.forgetting import forgetting
from palimpsest.simulator.figures.style import STYLE
from palimpsest.simulator.results.comparison import applies, lines, markdown, table, write
from palimpsest.simulator.results.run_directory import RunDirectory, RunFiles
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.unlearning_results import Forgetting
from tests.support.entries import arm_result, run_results

REQUESTS = 8


def _arm(directory: Path, method: str, seed: int, kl: float, loss: float) -> ArmResult:
    """An arm whose models all are ``kl`` from retraining (two retrainings: 0.1), and lose ``loss`` (retrained: 0.6)."""
    rows = [
        {"request": request, "model": model, "retraining": 0, "records": 3, "kl": kl, "forget_loss": lost}
        for request in range(REQUESTS)
        for model, lost in (("trained", 0.4), ("unlearned", loss + 0.001 * request), ("retrained", 0.6))
    ]
    name = f"{method}--seed{seed}"
    pd.DataFrame(rows).to_parquet(directory / "forgetting" / f"{name}.parquet")
    return arm_result(
        arm=name, seed=seed, unlearning={"method": method},
        utility={"metric": "accuracy", "trained": 0.9, "unlearned": 0.8 + 0.02 * seed, "retrained": 0.85},
        forgetting={
            "exact": method == "retrain", "kl_to_retrained": kl, "kl_between_retrained": 0.1, "membership_valid": True,
            "distance_to_retrained": 2.0, "distance_between_retrained": 2.0, "retrainings": 3,
            "membership_auc": 0.55, "membership_auc_retrained": 0.5, "membership_auc_retrained_spread": 0.02,
        },
        cost={"speed_up_seconds": 4.0},
    )  # fmt: skip


def _with_forgetting(arm: ArmResult, **changes: Any) -> ArmResult:
    return arm.model_copy(update={"forgetting": Forgetting.model_validate(arm.forgetting.to_json() | changes)})


def _run(directory: Path, arms: Sequence[ArmResult]) -> RunFiles:
    return RunFiles(RunDirectory(directory), run_results(*arms))


@pytest.fixture
def run(tmp_path: Path) -> RunFiles:
    (tmp_path / "forgetting").mkdir()
    outcomes = {"finetune": (0.2, 0.5), "retrain": (0.1, 0.6), "worse": (0.5, 0.2), "none": (0.3, 0.4)}
    arms = [_arm(tmp_path, method, seed, *of) for method, of in outcomes.items() for seed in (0, 1, 2)]
    return _run(tmp_path, arms)


def test_lines_are_sorted_and_say_who_beats_finetuning(run: RunFiles) -> None:
    found = lines(run, "")
    assert [(line.label, line.kind) for line in found] == [
        ("retrain", "exact"), ("finetune", "baseline"), ("no unlearning", "baseline"), ("worse", "approximate"),
    ]  # fmt: skip
    assert [line.apart for line in found] == pytest.approx([1.0, 2.0, 3.0, 5.0])
    best, baseline, _, worst = (line.figures for line in found)
    assert best["nearer than finetune"] == best["forgets better than finetune"] == "yes 24/24"
    assert worst["nearer than finetune"] == worst["forgets better than finetune"] == "no 0/24"
    assert "nearer than finetune" not in baseline
    assert (best["test"], best["AUC"], best["updates"], best["kept"]) == ("-0.030", "+0.050", "0.25", "2 MB")


def test_ranks_are_of_those_alone_whose_intervals_are_apart(run: RunFiles) -> None:
    """Six seeds: two methods whose distances overlap share a rank, a third is behind both; of three seeds none is."""
    assert all(line.rank is None and line.interval is None for line in lines(run, ""))
    place = run.directory.path
    kl = {"retrain": [0.08, 0.1, 0.12] * 2, "finetune": [0.09, 0.11, 0.13] * 2, "worse": [0.5, 0.6, 0.7] * 2}
    arms = [_arm(place, method, seed, own, 0.5) for method, of in kl.items() for seed, own in enumerate(of)]
    found = lines(_run(place, arms), "")
    assert [(line.label, line.rank) for line in found] == [("retrain", 1), ("finetune", 1), ("worse", 3)]
    for line in found:
        assert line.interval is not None
        assert line.interval[0] < line.apart < line.interval[1]
    assert "| worse | 6.00 (" in markdown(_run(place, arms))


def test_a_tie_a_close_call_and_too_few_requests_are_no_win(run: RunFiles) -> None:
    arms = [arm for arm in run.arms if arm.unlearning.method != "worse"]
    even = [
        _arm(run.directory.path, "worse", 0, 0.2, 0.71)
    ]  # as near as fine-tuning; too much forgetting counts as well
    found = lines(_run(run.directory.path, [*arms, *even]), "")
    [own] = [line.figures for line in found if line.label == "worse"]
    assert own["nearer than finetune"] == "few 0/0"
    assert own["forgets better than finetune"] == "no 0/8"


def test_a_shut_gate_is_marked(run: RunFiles) -> None:
    arms = [_with_forgetting(arm, membership_valid=False) for arm in run.arms]
    assert lines(_run(run.directory.path, arms), "")[0].figures["AUC"] == "+0.050!"


def test_it_is_printed_written_and_drawn(run: RunFiles) -> None:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table(run))
    text = console.export_text()
    assert all(word in text for word in ("(retrainings)", "±0.020", "yes 24/24", "no unlearning"))
    path = write(run)
    assert path is not None
    assert path.read_text() == markdown(run)
    assert sum(line.startswith("| ") for line in path.read_text().splitlines()) == 6
    with mpl.rc_context(STYLE):
        drawn = forgetting(run)
    assert drawn is not None
    assert drawn.read_bytes().startswith(b"\x89PNG")


def test_without_several_retrainings_there_is_nothing_to_compare(run: RunFiles) -> None:
    unmeasured = {"kl_between_retrained": None, "distance_between_retrained": None, "retrainings": 1}
    alone = _run(run.directory.path, [_with_forgetting(arm, **unmeasured) for arm in run.arms])
    assert not applies(alone)
    assert write(alone) is None
    assert forgetting(alone) is None
