"""Audits of checkpoints of a torch model that was trained outside."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from palimpsest.simulator.audit.audit import AuditQuestion, audit
from palimpsest.simulator.audit.setting import Deletion
from palimpsest.simulator.cli import main as cli
from palimpsest.simulator.world.errors import DataError, ModelError
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from tests.support.trained_outside import Outside, ascended

HIDDEN = {"hidden": 24}


def palimpsest(*arguments: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(cli.app, arguments)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout, " ".join(found.stderr.split())


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    return ascended(tmp_path_factory.mktemp("outside"))


def question(outside: Outside, **changes: object) -> AuditQuestion:
    given = {"model": "mlp", "options": HIDDEN, "public": outside.public, "truth": outside.truth} | changes
    return AuditQuestion(outside.before, outside.after, **given)  # type: ignore[arg-type]


def test_the_record_of_an_ascent_step_comes_back(outside: Outside, tmp_path: Path) -> None:
    asked = question(outside, attacks=("inversion", "class-score", "average", "hrec"), deletion=Deletion(step=0.05))
    result = audit(asked, tmp_path / "out")
    assert result.attacks["inversion"].figures is not None
    assert result.attacks["inversion"].figures["cosine_centred_median"] > 0.999
    assert result.attacks["inversion"].explained == pytest.approx(1.0, abs=1e-4)
    assert result.attacks["average"].figures is not None
    assert result.attacks["average"].figures["cosine_centred_median"] == pytest.approx(0.0, abs=1e-9)
    assert result.left_out == {"hrec": "it works on models that are or have: linear"}
    assert result.verdict.startswith("By inversion, the record comes back")
    assert json.loads((tmp_path / "out/audit.json").read_text())["verdict"] == result.verdict
    assert (tmp_path / "out/answers.png").read_bytes().startswith(b"\x89PNG")


def test_without_the_truth_it_says_what_was_found_and_that_this_is_unscored(outside: Outside, tmp_path: Path) -> None:
    asked = question(outside, truth=None, attacks=("inversion", "average"))
    result = audit(asked, tmp_path / "out")
    assert result.attacks["inversion"].figures is None
    assert result.attacks["inversion"].says.endswith("explains 100.0 % of the change (unscored)")
    assert result.verdict.startswith("Unscored")
    assert "explains the change" in result.verdict
    assert "the length of that step is unknown, so that labels are read off its direction" in result.assumed


def test_no_truth_is_in_what_the_attacks_read(outside: Outside, tmp_path: Path) -> None:
    """The same answers with the truth, without, and with another."""
    answers = []
    other = tmp_path / "other.npz"
    np.savez(other, x=np.full((1, 8, 8), 0.5), y=np.array([0]))
    for name, truth in (("a", outside.truth), ("b", None), ("c", other)):
        audit(question(outside, truth=truth, attacks=("inversion",)), tmp_path / name)
        answers.append((tmp_path / name / "answers.safetensors").read_bytes())
    assert answers[0] == answers[1] == answers[2]


def test_several_records_are_told_by_class(tmp_path: Path) -> None:
    several = ascended(tmp_path, records=3)
    labels = sorted(np.load(several.truth)["y"].tolist())
    asked = question(several, attacks=("class-score",), deletion=Deletion(records=3, step=0.05))
    result = audit(asked, tmp_path / "out")
    assert result.attacks["class-score"].says.count("class ") >= 1
    assert result.attacks["class-score"].figures is not None
    assert result.attacks["class-score"].figures["n"] == len(labels)


def test_an_optimum_of_a_linear_model_is_read_through_the_public_hessian(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(400, 12)) * np.linspace(0.2, 3.0, 12), rng.normal(size=(12, 3))
    y = (x @ weights + rng.normal(size=(400, 3))).argmax(axis=1)

    def optimum(rows: slice) -> dict[str, torch.Tensor]:
        design, wanted = np.c_[x[rows], np.ones(len(x[rows]))], np.eye(3)[y[rows]]
        theta = np.linalg.solve(design.T @ design + 2.0 * np.eye(13), design.T @ wanted)
        return {"weight": torch.tensor(theta[:-1].T).contiguous(), "bias": torch.tensor(theta[-1])}

    save_file(optimum(slice(0, 200)), tmp_path / "before.safetensors")
    save_file(optimum(slice(1, 200)), tmp_path / "after.safetensors")
    np.savez(tmp_path / "public.npz", x=x[200:], y=y[200:])
    np.savez(tmp_path / "truth.npz", x=x[:1], y=y[:1])
    asked = AuditQuestion(
        tmp_path / "before.safetensors", tmp_path / "after.safetensors", "ridge", tmp_path / "public.npz", {},
        tmp_path / "truth.npz", Deletion(rule="optimum", n=200, regularisation=2.0), ("hrec", "raw-difference"),
    )  # fmt: skip
    result = audit(asked, tmp_path / "out")
    assert result.attacks["hrec"].figures is not None
    assert result.model.dtype == "float64"
    raw = result.attacks["raw-difference"].figures or {}
    assert result.attacks["hrec"].figures["cosine_centred_median"] > max(0.9, raw["cosine_centred_median"])
    assert (result.attacks["hrec"].explained or 0.0) > 0.95


def test_equal_models_are_said_to_hold_nothing(outside: Outside, tmp_path: Path) -> None:
    same = AuditQuestion(
        outside.before, outside.before, "mlp", outside.public, HIDDEN, attacks=("inversion", "average")
    )
    result = audit(same, tmp_path / "out")
    assert result.verdict == "Nothing to read: the two models are equal."
    assert result.attacks["inversion"].says == "inversion finds no signal and falls back on the public sample"


def test_the_transcript_of_an_audit_is_one_that_attack_reads(outside: Outside, tmp_path: Path) -> None:
    audit(question(outside, attacks=("average",)), tmp_path / "out")
    transcript = tmp_path / "out/transcript"
    assert PublicKnowledge.open(transcript / "knowledge.json").facts.cases[0].size == 1
    written = str(tmp_path / "found.safetensors")
    code, shown, said = palimpsest("attack", str(transcript), "--attack", "inversion", "--out", written)
    assert (code, said) == (0, "")
    assert "class 5" in shown


def mistakes(outside: Outside, place: Path) -> dict[str, tuple[list[str], str]]:
    """Arguments that replace good ones, and what must be said of them."""
    rows = np.load(outside.public)
    files = {
        "narrow": {"x": rows["x"].reshape(-1, 64)[:, :60], "y": rows["y"]},
        "hole": {"x": np.where(np.arange(64).reshape(8, 8) == 9, np.nan, rows["x"]), "y": rows["y"]},
        "nameless": {"inputs": rows["x"]},
        "objects": {"x": np.array([{}, {}], dtype=object), "y": np.array([0, 1])},
    }
    for name, arrays in files.items():
        np.savez(place / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    good = torch.load(outside.before, weights_only=True)  # noqa: TID251
    torch.save(torch.nn.Linear(3, 2), place / "whole.pt")
    torch.save({**good, "0.bias": good["0.bias"] * torch.nan}, place / "nan.pt")
    torch.save({"fc.weight": good["0.weight"]}, place / "names.pt")
    (place / "noise.safetensors").write_bytes(b"no checkpoint at all")
    return {
        "narrow": (["--public", str(place / "narrow.npz")], r"of shape \[1, 8, 8\]; the public ones have \[60\]"),
        "narrow-model": (["--public", str(place / "narrow.npz")], r"0.weight has shape \[24, 64\], .*\[24, 60\]"),
        "hole": (["--public", str(place / "hole.npz")], "NaN or an infinity"),
        "nameless": (["--public", str(place / "nameless.npz")], "holds inputs; x and y must be among it"),
        "objects": (["--public", str(place / "objects.npz")], "never loaded"),
        "whole": (["BEFORE", str(place / "whole.pt")], "whole modules are pickles, which are never loaded"),
        "nan": (["BEFORE", str(place / "nan.pt")], "nan.pt: 0.bias holds a NaN"),
        "names": (["BEFORE", str(place / "names.pt")], "has no parameter '0.weight'.*holds fc.weight"),
        "noise": (["BEFORE", str(place / "noise.safetensors")], "is no safetensors file"),
        "gone": (["BEFORE", str(place / "gone.pt")], "there is no checkpoint"),
        "kind": (["--model", "mpl"], "there is no model 'mpl'"),
        "images": (["--model", "cnn"], "'cnn' refuses its option 'hidden'"),
        "option": (["--option", "hiden=3"], "refuses its option 'hiden'"),
        "no-key": (["--option", "24"], "must be KEY=VALUE"),
        "size": (["--option", "hidden=32"], r"0.weight has shape \[24, 64\]"),
        "records": (["--records", "2"], "has 1 records, and 2 were deleted"),
        "rule": (["--rule", "guess"], "--rule guess: it should be 'step' or 'optimum'"),
        "lambda": (["--lambda", "0.1"], "a lambda was given without n"),
        "attack": (["--attack", "hrek"], "hrek"),
    }  # fmt: skip


def test_what_is_wrong_is_one_sentence(outside: Outside, tmp_path: Path) -> None:
    for name, (change, said) in mistakes(outside, tmp_path).items():
        before = change[1] if change[0] == "BEFORE" else str(outside.before)
        given = {
            "--model": "mlp", "--option": "hidden=24", "--public": str(outside.public), "--truth": str(outside.truth),
            "--attack": "average", "--out": str(tmp_path / "out"),
        }  # fmt: skip
        if change[0] != "BEFORE":
            given[change[0]] = change[1]
        if name == "narrow-model":
            del given["--truth"]
        flags = [part for pair in given.items() for part in pair]
        code, _, complaint = palimpsest("audit", before, str(outside.after), *flags)
        assert code == 2, (name, complaint)
        assert complaint.startswith("error: ") and re.search(said, complaint), (name, complaint)
        assert not (tmp_path / "out").exists(), name


def test_errors_name_the_file(outside: Outside, tmp_path: Path) -> None:
    np.savez(tmp_path / "truth.npz", x=np.zeros((1, 8, 8)), y=np.array([12]))
    with pytest.raises(DataError, match=r"truth\.npz: y holds the class 12; classes are 0 to 9"):
        audit(question(outside, truth=tmp_path / "truth.npz"), tmp_path / "out")
    with pytest.raises(ModelError, match="is for images, and the public x is a table"):
        np.savez(tmp_path / "table.npz", x=np.zeros((5, 64)), y=np.arange(5))
        audit(question(outside, model="cnn", options={}, public=tmp_path / "table.npz", truth=None), tmp_path / "out")
