"""Figures, read as far as a test can: which are drawn, which records they show, what their titles say."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from palimpsest.attacks import CARDS
from palimpsest.simulator.attack_metrics.answers import CARDS as ANSWERS
from palimpsest.simulator.attack_metrics.answers import answer_card
from palimpsest.simulator.attack_metrics.measures import CARDS as RECONSTRUCTED
from palimpsest.simulator.attack_metrics.measures import measures
from palimpsest.simulator.figures import CARDS as FIGURES
from palimpsest.simulator.figures.all import draw_all, functions
from palimpsest.simulator.figures.gallery import choose, collect
from palimpsest.simulator.figures.style import colour, spread
from palimpsest.simulator.figures.tiers import cells, tiers
from palimpsest.simulator.results.answers import BUILT_IN
from palimpsest.simulator.results.arm_files import Records
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import RunFilesError
from palimpsest.simulator.results.verdicts import reconstructions
from palimpsest.simulator.unlearning_metrics.measures import CARDS as MODELS
from palimpsest.simulator.unlearning_metrics.measures import DISTANCE_CARDS as DISTANCES
from palimpsest.simulator.unlearning_metrics.measures import distances
from palimpsest.simulator.unlearning_metrics.measures import measures as of_models
from tests.support.fabricated import WAYS, Way, diabetes, digits, make_run


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an image variant and a table variant, two seeds each."""
    place = tmp_path_factory.mktemp("run")
    return make_run(place, {"digits": digits(), "table": diabetes()}, deletions=16, seeds=(0, 1))


def test_every_figure_that_applies_is_drawn(both: Path) -> None:
    drawn = draw_all(both)
    kinds = ("gallery", "cosine-cdf", "utility")
    expected = {"summary.png", *(f"{kind}-{variant}.png" for kind in kinds for variant in ("digits", "table"))}
    assert {path.name for path in drawn} == expected
    assert {path.name for path in (both / "figures").iterdir()} == expected  # and no drafts
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_figures_and_measures_are_listed_without_importing_what_draws_or_measures_them() -> None:
    code = (
        "import sys; from palimpsest.simulator.cli.listing import listing;"
        "tables = [listing(kind) for kind in ('figures', 'measures')];"
        "print([m for m in ('matplotlib', 'torch', 'pandas', 'scipy') if m in sys.modules],"
        "[table.row_count for table in tables])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[] [{len(FIGURES)}, {len(RECONSTRUCTED) + len(MODELS) + len(DISTANCES)}]"


def test_every_card_leads_to_what_it_names() -> None:
    of_run, of_variant = functions()
    assert len(of_run) + len(of_variant) == len(FIGURES)
    assert list(measures()) == list(RECONSTRUCTED)
    assert (list(of_models()), list(distances())) == (list(MODELS), list(DISTANCES))
    assert [answer_card(name).answer for name in ANSWERS] == list(BUILT_IN.values())


def test_a_figure_that_does_not_apply_is_absent(tmp_path: Path) -> None:
    make_run(tmp_path, {"": digits()}, ways=WAYS[:1], deletions=8, rounds=0)  # one release: nothing to draw by round
    for path in (tmp_path / "truth").iterdir():
        path.unlink()
    assert {path.name for path in draw_all(tmp_path)} == {"summary.png", "cosine-cdf.png"}


def test_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFilesError, match=r"no results\.json"):
        draw_all(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({"schema": 2, "arms": []}))
    with pytest.raises(RunFilesError, match="schema 2"):
        draw_all(tmp_path)


def test_gallery_shows_the_first_deleted_record_of_each_class_in_order() -> None:
    y = np.array([3, 1, 3, 0, 1])
    records = Records(np.zeros((5, 2)), y, np.arange(5))
    assert choose(records, classes=4).tolist() == [3, 1, 0, 2, 4]
    assert choose(records, classes=0).tolist() == [0, 1, 2, 3, 4]


def test_gallery_puts_each_answer_under_the_record_it_was_matched_with(tmp_path: Path) -> None:
    """Two records a deletion, perfectly reconstructed, but answered in the other order."""
    make_run(tmp_path, {"": digits()}, ways=(Way({"method": "ascent"}, {"hrec": 1.0}),), deletions=8)
    run = RunFiles.open(tmp_path)
    name = run.arms[0].arm
    truth = load_file(tmp_path / "truth" / f"{name}.safetensors")
    pairs = np.arange(8) // 2
    swapped = np.arange(8).reshape(4, 2)[:, ::-1].ravel()
    save_file({**truth, "case": pairs}, tmp_path / "truth" / f"{name}.safetensors")
    answers = load_file(tmp_path / "reconstructions" / f"{name}.safetensors")
    answers |= {"hrec/x": np.ascontiguousarray(truth["x"][swapped]), "hrec/case": pairs, "average/case": pairs}
    save_file(answers, tmp_path / "reconstructions" / f"{name}.safetensors")
    shown = collect(run, run.settings(""))
    assert shown is not None
    [row] = [row for row in shown.rows if row.attack == "hrec"]
    np.testing.assert_array_equal(row.x, shown.x)


def test_gallery_finds_a_record_again_where_deletions_are_batched(tmp_path: Path) -> None:
    """Under batching several requests are one case, in an order of its own: records are the same, cases are not."""
    ways = tuple(Way({"method": "ascent"}, {"hrec": 1.0}, defense={"kind": kind}) for kind in ("none", "batching"))
    make_run(tmp_path, {"": digits()}, ways=ways, deletions=8)
    run = RunFiles.open(tmp_path)
    alone, batched = (arm.arm for arm in run.arms)
    order = np.arange(8)[::-1]
    truth = load_file(tmp_path / "truth" / f"{alone}.safetensors")
    case = np.arange(8) // 4
    records = {"x": np.ascontiguousarray(truth["x"][order]), "y": np.ascontiguousarray(truth["y"][order]), "case": case}
    save_file(records, tmp_path / "truth" / f"{batched}.safetensors")
    answers = load_file(tmp_path / "reconstructions" / f"{batched}.safetensors")
    answers |= {"hrec/x": records["x"], "hrec/y": records["y"], "hrec/case": case, "average/case": case}
    save_file(answers, tmp_path / "reconstructions" / f"{batched}.safetensors")
    shown = collect(run, run.settings(""))
    assert shown is not None
    rows = [row for row in shown.rows if row.attack == "hrec"]
    assert [row.setting for row in rows] == ["ascent", "ascent under batching"]
    for row in rows:
        np.testing.assert_allclose(row.x, shown.x)
    save_file({**records, "x": records["x"] + 1.0}, tmp_path / "truth" / f"{batched}.safetensors")
    others = collect(run, run.settings(""))
    assert others is not None
    assert {row.setting for row in others.rows} == {"ascent"}  # other records were deleted there


def test_a_setting_that_changed_nothing_takes_one_line(both: Path) -> None:
    run = RunFiles.open(both)
    shown = collect(run, run.settings("digits"))
    assert shown is not None
    assert shown.silent == ("no unlearning",)
    assert {row.setting for row in shown.rows if row.attack != "average"} == {
        "retrain, same order",
        "retrain, independent",
        "ascent",
    }


def test_attacks_can_be_told_apart() -> None:
    assert len({colour(attack) for attack in CARDS}) == len(CARDS)
    assert colour("somebody-elses") == colour("somebody-elses")


@pytest.mark.parametrize("values", [[0.1, 0.5, 0.9], [0.5, 0.5, 0.5], [0.0, 0.01, 0.02, 0.5, 0.505], [0.3]])
def test_labels_are_kept_apart_in_order_and_centred(values: list[float]) -> None:
    places = spread(values, 0.1)
    assert np.diff(places).min(initial=1.0) >= 0.1 - 1e-12
    assert np.mean(places) == pytest.approx(np.mean(values))


def test_tiers_are_a_table_of_the_best_attack_of_each_adversary(tmp_path: Path) -> None:
    make_run(tmp_path, {"heard": digits(), "seen": digits()}, deletions=8)
    content = json.loads((tmp_path / "results.json").read_text())
    assert tiers(RunFiles.open(tmp_path)) is None  # one adversary is no comparison
    for arm in content["arms"]:
        if arm["variant"] == "seen":
            arm["conditions"]["sees"] = "updates"
    (tmp_path / "results.json").write_text(json.dumps(content))
    run = RunFiles.open(tmp_path)
    found = cells(run.arms)
    assert {sees for _, sees in found} == {"releases", "updates"}
    assert {cell.attack for cell in found.values()} == {"hrec"}
    for arm in run.arms:
        if arm.variant == "seen" and arm.unlearning.method == "ascent":
            best = found["ascent", "updates"]
            assert best.cosine == reconstructions(arm)["hrec"].cosine_centred_median
    assert tiers(run) == tmp_path / "figures" / "tiers.png"
