"""A package of somebody else's: an attack with an answer of its own, measures and a figure, in a whole run."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from palimpsest.simulator.attack_metrics.answers import answer_card
from palimpsest.simulator.cli.attack import attack
from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.figures.all import draw_all
from palimpsest.simulator.results.answers import BUILT_IN, answer_names, load_answers
from palimpsest.simulator.results.report import markdown
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import ArmResult
from palimpsest.simulator.results.verdicts import verdict
from palimpsest.simulator.scenario.load import ScenarioError
from palimpsest.simulator.world.errors import RunFailure
from tests.support.scenarios import small_scenario

ATTACK = '''
"""How bright were the deleted records? Guesses that they were as bright as public ones."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.specs import Frozen

@dataclass(frozen=True)
class Brightness:
    name: ClassVar = "brightness"
    case: int
    value: float
    no_signal: bool = False

    @classmethod
    def pack(cls, guesses):
        return {
            "x": np.array([guess.value for guess in guesses]),
            "case": np.array([guess.case for guess in guesses]),
            "no_signal": np.array([guess.no_signal for guess in guesses]),
        }

    @classmethod
    def unpack(cls, fields):
        rows = zip(fields["case"], fields["x"], fields["no_signal"])
        return [cls(int(case), float(value), bool(silent)) for case, value, silent in rows]


class Glow(Frozen):
    """Guesses how bright the deleted records were."""

    card: ClassVar[Card] = Card(
        summary="guesses how bright the deleted records were", needs=("public sample",), promises="brightness"
    )
    kind: Literal["glow"] = "glow"

    def run(self, cases, knowledge, rng):
        return [Brightness(case.index, float(knowledge.x.mean()), case.silent) for case in cases]
'''
CARD = '''
"""How guesses of brightness are scored, drawn and said."""

import pandas as pd
from glow_attack import Brightness
from palimpsest.simulator.attack_metrics.card import AnswerCard, Reading, Row, Scored

def score(attempt, material):
    errors = [abs(g.value - float(t.x.mean())) for g, t in zip(attempt.guesses, material.truths)]
    frame = pd.DataFrame({"case": [t.case for t in material.truths], "error": errors})
    return Scored(frame, {"close": float((frame["error"] < 0.1).mean())})

def clause(tried):
    [(name, figures)] = tried.items()
    return f"{name} guesses brightness closely in {100 * figures['close']:.0f} % of deletions"

def row(figures):
    return Row(figures["close"], 0.25, "close", (0.1, 1.0))

def lines(guess, schema):
    return [f"deletion {guess.case}: brightness {guess.value:.2f}"]

CARD = AnswerCard(Brightness, score, Reading(clause, row), lines)
'''
MEASURES = """
import numpy as np
from palimpsest.simulator.attack_metrics.measures.measure import Measure
from palimpsest.simulator.unlearning_metrics.measures import measure as unlearning

LARGEST = Measure(lambda pairs, background: np.abs(pairs.x - pairs.found_x).max(axis=1))
CROOKED = Measure(lambda pairs, background: np.zeros((2, 3)))

def norm(observed):
    return np.array([np.sqrt(sum((value**2).sum() for value in params.values())) for params in observed.models])

NORM = unlearning.Measure(norm)
BENT = unlearning.Measure(lambda observed: np.zeros((2, 3)))
LARGEST_CHANGE = unlearning.Distance(
    lambda one, other: float(max(np.abs(one.params[name] - other.params[name]).max() for name in one.params))
)
"""
FIGURE = """
from matplotlib.figure import Figure
from palimpsest.simulator.figures.style import save

def draw(run):
    if not any("glow" in arm.attacks for arm in run.arms):
        return None
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, "brightness")
    return save(figure, run.directory.figure("brightness"))
"""
POINTS = """
[palimpsest.attacks]
glow = glow_attack:Glow
[palimpsest.answers]
brightness = glow_card:CARD
[palimpsest.attack_measures]
largest_error = glow_measures:LARGEST
cosine = glow_measures:CROOKED
[palimpsest.unlearning_measures]
weight_norm = glow_measures:NORM
[palimpsest.unlearning_distances]
largest_change = glow_measures:LARGEST_CHANGE
[palimpsest.figures]
brightness = glow_figure:draw
"""


def install(place: Path, points: str = POINTS) -> Path:
    """What an installation of the package leaves in a folder of importable files."""
    about = place / "glow-2.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: glow\nVersion: 2.1\n")
    (about / "entry_points.txt").write_text(points)
    files = {"attack": ATTACK, "card": CARD, "measures": MEASURES, "figure": FIGURE}
    for name, text in files.items():
        (place / f"glow_{name}.py").write_text(text)
    return place


@pytest.fixture(autouse=True)
def forgotten_modules() -> Iterator[None]:
    """Each test imports the package anew."""
    yield
    for name in [name for name in sys.modules if name.startswith("glow_")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run with the package installed."""
    place = tmp_path_factory.mktemp("glowing")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(install(place / "site")))
        scenario = small_scenario(attack=[{"kind": "hrec"}, {"kind": "glow"}])
        preparation = prepare(scenario)
        assert "glow_card" not in sys.modules  # nothing but scoring needs it
        (place / "run").mkdir()
        simulate(scenario, preparation, place / "run", SerialGrid(1))
        drawn = {path.name for path in draw_all(place / "run")}
        assert {"summary.png", "inference.png", "brightness.png"} <= drawn
    yield place / "run"


def test_an_answer_is_scored_by_its_card_and_the_verdict_says_by_whose_measure(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    for arm in results["arms"]:
        figures, rows = arm["attacks"]["glow"], pd.read_parquet(finished / "scores" / f"{arm['arm']}.parquet")
        rows = rows[rows["attack"] == "glow"]
        assert figures["close"] == figures["success"] == (rows["error"] < 0.1).mean()
        assert (figures["kind"], figures["n"], figures["cases"]) == ("brightness", 2, 2)
        assert figures["no_signal"] == (2 if arm["unlearning"]["method"] == "none" else 0)
        said = f"glow guesses brightness closely in {100 * figures['close']:.0f} % of deletions (as glow 2.1 measures"
        assert said in arm["verdict"] and arm["verdict"] == verdict(ArmResult.model_validate(arm))


def test_measures_are_columns_and_figures(finished: Path) -> None:
    arm = json.loads((finished / "results.json").read_text())["arms"][0]
    rows = pd.read_parquet(finished / "scores" / f"{arm['arm']}.parquet")
    rows = rows[rows["attack"] == "hrec"]
    assert arm["attacks"]["hrec"]["largest_error_median"] == pytest.approx(rows["largest_error"].median())
    assert (rows["largest_error"] ** 2 >= rows["mse"]).all()
    assert rows["cosine"].notna().all()  # a name that is taken stays ours
    models = pd.read_parquet(finished / "forgetting" / f"{arm['arm']}.parquet")
    unlearned = models[models["model"] == "unlearned"]
    assert arm["forgetting"]["weight_norm"] == pytest.approx(unlearned["weight_norm"].mean())
    assert 0.0 < arm["forgetting"]["largest_change_to_retrained"] <= arm["forgetting"]["distance_to_retrained"]


def test_results_are_read_and_drawn_where_the_package_is_not_installed(finished: Path) -> None:
    run = RunFiles.open(finished)
    text = markdown(run.results)
    assert "| success |" in text and "| glow |" in text and "as glow 2.1 measures it" in text
    assert "brightness.png" not in {path.name for path in draw_all(finished)}
    shown = run.files(run.arms[0]).reconstructions()
    assert "hrec" in shown and "glow" not in shown  # although that answer has a field x too
    path = finished / "reconstructions" / f"{run.arms[0].arm}.safetensors"
    assert answer_names(path) == {**dict.fromkeys(shown, "reconstruction"), "glow": "brightness"}
    with pytest.raises(ValueError, match=r"glow answered with 'brightness'; what can be read here is reconstruction"):
        load_answers(path)


def test_the_adversarys_command_shows_and_keeps_the_answer(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))
    [transcript, *_] = sorted((finished / "transcripts").iterdir())
    console = Console(record=True, width=100)
    [written] = attack(transcript, ["glow"], None, tmp_path / "said.safetensors", console)
    kind = answer_card("brightness").answer
    guesses = load_answers(written, {**BUILT_IN, "brightness": kind})["glow"]
    assert [type(guess) for guess in guesses] == [kind, kind]
    assert f"deletion 0: brightness {vars(guesses[0])['value']:.2f}" in console.export_text()


def test_an_answer_that_nothing_scores_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path, "[palimpsest.attacks]\nglow = glow_attack:Glow\n")))
    with pytest.raises(ScenarioError, match=r"'glow' answers with 'brightness', .* there are reconstruction, labels"):
        prepare(small_scenario(attack=[{"kind": "glow"}]))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"error": errors', '"cosine": errors, "error": errors', "'brightness' answers have the columns cosine"),
        ('{"close": ', '{"names": {1}, "close": ', r"glow: figures of 'brightness' answers \(glow 2\.1\) are no JSON"),
    ],
)
def test_scores_that_cannot_be_kept_are_refused_in_a_sentence(
    before: str, after: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = install(tmp_path / "site")
    assert before in CARD
    (place / "glow_card.py").write_text(CARD.replace(before, after))
    monkeypatch.syspath_prepend(str(place))
    scenario = small_scenario(unlearning=[{"method": "retrain"}], attack=[{"kind": "glow"}])
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match=said):
        simulate(scenario, prepare(scenario), tmp_path / "run", SerialGrid(1))


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ("brightness = glow_card:NOTHING", r"'brightness' answers \(glow_card:NOTHING\) cannot be imported"),
        ("brightness = glow_card:clause", r"is function; it must be of the type AnswerCard"),
        ("darkness = glow_card:CARD", r"is for 'brightness' answers .* must be for 'darkness' ones"),
    ],
)
def test_a_card_that_is_none_is_refused_in_a_sentence(
    points: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path, f"[palimpsest.answers]\n{points}\n")))
    with pytest.raises(RunFailure, match=said):
        answer_card(points.partition(" ")[0])


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("[palimpsest.attack_measures]\ncrooked = glow_measures:CROOKED", r"an array of shape \(2, 3\) for 2 records"),
        ("[palimpsest.unlearning_measures]\ncrooked = glow_measures:BENT", r"shape \(2, 3\) for 3 models"),
    ],
)
def test_a_measure_of_the_wrong_shape_is_refused_by_name(
    point: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path / "site", f"{point}\n")))
    scenario = small_scenario(unlearning=[{"method": "retrain"}])
    (tmp_path / "run").mkdir()
    with pytest.raises(ValueError, match=rf"'crooked' returned {said}"):
        simulate(scenario, prepare(scenario), tmp_path / "run", SerialGrid(1))
