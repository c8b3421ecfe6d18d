"""Candidate records beside an audit: which of them the two models single out."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from sklearn.datasets import load_digits

from palimpsest.simulator.audit.audit import AuditQuestion, audit
from palimpsest.simulator.audit.candidates import Candidates, needed
from palimpsest.simulator.audit.results import AuditResult
from palimpsest.simulator.audit.setting import Deletion
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.world.data.public_file import sample_of
from palimpsest.simulator.world.errors import DataError
from tests.audit.test_audit import palimpsest
from tests.support.trained_outside import Outside, ascended

X, Y = load_digits(return_X_y=True)
X = (X / 16.0).astype(np.float32).reshape(-1, 8, 8)
ASKED = list(range(40, 59))
"""Training records that were not deleted."""


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    return ascended(tmp_path_factory.mktemp("outside"))


def listed(place: Path, rows: list[int]) -> Path:
    np.savez(place / "candidates.npz", x=X[rows], y=Y[rows])
    return place / "candidates.npz"


def question(outside: Outside, candidates: Path, **changes: object) -> AuditQuestion:
    asked = AuditQuestion(
        outside.before, outside.after, "mlp", outside.public, {"hidden": 24}, outside.truth, Deletion(),
        ("candidate-match", "class-score"), candidates,
    )  # fmt: skip
    return replace(asked, **changes)  # type: ignore[arg-type]


def singled_out(outside: Outside, place: Path, rows: list[int], **changes: object) -> tuple[AuditResult, list[int]]:
    result = audit(question(outside, listed(place, rows), **changes), place / "out")
    judged = result.attacks["candidate-match"].candidates or ()
    assert len(judged) == len(rows)
    return result, [number for number, candidate in enumerate(judged) if candidate.singled_out]


def test_the_deleted_record_is_singled_out_and_no_other(outside: Outside, tmp_path: Path) -> None:
    result, chosen = singled_out(outside, tmp_path, [*ASKED[:7], 5, *ASKED[7:]])
    assert chosen == [7]
    told = (result.attacks["candidate-match"].candidates or ())[7]
    assert told.chance == pytest.approx(1 / 898)
    assert told.chance_ci95 == pytest.approx((0.0, 1.0 - 0.025 ** (1 / 897)))
    assert "singles out 7 of 20 candidates: at most 0.4 %" in result.attacks["candidate-match"].says
    assert "single out 7 of 20 candidates (counted from 0), and with them 1 of 1 deleted ones" in result.verdict
    assert result.attacks["class-score"].candidates is None
    assert json.loads((tmp_path / "out/audit.json").read_text())["attacks"]["candidate-match"]["candidates"][19]


def test_of_two_deleted_together_the_louder_one_is_and_no_other_candidate(tmp_path: Path) -> None:
    """The change is the sum of their gradients, along which the shorter one hardly lies."""
    both = ascended(tmp_path, records=2)
    result, chosen = singled_out(both, tmp_path, [5, 6, *ASKED], deletion=Deletion(records=2))
    assert chosen in ([0], [0, 1])
    assert f"and with them {len(chosen)} of 2 deleted ones" in result.verdict


def test_of_a_list_without_a_deleted_record_none_is(outside: Outside, tmp_path: Path) -> None:
    result = audit(question(outside, listed(tmp_path, ASKED), truth=None), tmp_path / "out")
    assert "The releases single out none of 19 candidates." in result.verdict
    assert "singles out none of 19 candidates" in result.attacks["candidate-match"].says


def test_equal_models_single_out_nobody(outside: Outside, tmp_path: Path) -> None:
    same = question(outside, listed(tmp_path, [5, *ASKED]), truth=None, after=outside.before)
    result = audit(same, tmp_path / "out")
    assert result.verdict == (
        "Nothing to read: the two models are equal. The releases single out none of 20 candidates."
    )
    assert all(candidate.chance == 1.0 for candidate in result.attacks["candidate-match"].candidates or ())


def test_too_few_public_records_are_said_to_be_too_few(outside: Outside, tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", x=X[900:1000], y=Y[900:1000])
    assert needed(20) == 399
    few = question(outside, listed(tmp_path, [5, *ASKED]), truth=None, public=tmp_path / "few.npz")
    result = audit(few, tmp_path / "out")
    assert "100 public records are too few to compare with, 399 are needed" in result.attacks["candidate-match"].says


def test_a_candidate_that_is_public_is_not_compared_with_itself(outside: Outside, tmp_path: Path) -> None:
    result = audit(question(outside, listed(tmp_path, [5, 6, 900, 901])), tmp_path / "out")
    judged = result.attacks["candidate-match"].candidates or ()
    assert [candidate.singled_out for candidate in judged] == [True, False, False, False]
    assert judged[0].chance == pytest.approx(1 / 896)


def test_work_grows_with_candidates_plus_public_records(tmp_path: Path) -> None:
    """Not with their product: each record is turned into bytes once."""
    public, bytes_made = sample_of({"x": X[100:300], "y": Y[100:300]}, "public.npz"), 0

    def count(frame: FrameType, event: str, called: object) -> None:
        nonlocal bytes_made
        bytes_made += event == "c_call" and getattr(called, "__name__", "") == "tobytes"

    file = listed(tmp_path, ASKED)
    sys.setprofile(count)
    try:
        Candidates.read(file, public)
    finally:
        sys.setprofile(None)
    assert len(ASKED) + len(public.y) <= bytes_made <= 2 * (len(ASKED) + len(public.y))


def test_what_is_wrong_is_one_sentence(outside: Outside, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"candidates\.npz has a record more than once"):
        audit(question(outside, listed(tmp_path, [5, 6, 5])), tmp_path / "out")
    with pytest.raises(ScenarioError, match="--truth has a record that is none of --candidates"):
        audit(question(outside, listed(tmp_path, ASKED)), tmp_path / "out")
    with pytest.raises(DataError, match="has all public records among it"):
        audit(question(outside, outside.public, truth=None), tmp_path / "out")
    left_out = audit(replace(question(outside, tmp_path), candidates=None), tmp_path / "none").left_out
    assert left_out["candidate-match"].endswith("give them by --candidates")


def test_at_the_command_line(outside: Outside, tmp_path: Path) -> None:
    code, shown, said = palimpsest(
        "audit", str(outside.before), str(outside.after), "--model", "mlp", "--option", "hidden=24",
        "--public", str(outside.public), "--attack", "candidate-match",
        "--candidates", str(listed(tmp_path, [5, 6, *ASKED])), "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert (code, said) == (0, "")
    assert "candidate-match: singles out 0 of 21 candidates: at most" in shown
    code, shown, said = palimpsest(
        "attack", str(tmp_path / "out/transcript"), "--attack", "candidate-match",
        "--out", str(tmp_path / "answers.safetensors"),
    )  # fmt: skip
    assert (code, said) == (0, "")
    assert "most likely of 918 challenged records: " in shown
