"""No text of any figure is cut off or lies on another, panels that are compared have equal axes, titles are short."""

import textwrap
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from palimpsest.simulator.figures import CARDS
from palimpsest.simulator.figures.all import draw_all
from palimpsest.simulator.figures.style import STYLE, alternative_text, fitting, heading, save
from tests.support import every_figure, swept
from tests.support.drawn import faults, figures_of
from tests.support.fabricated import WAYS, Way, diabetes, digits, make_run

DEFENDED = tuple(
    Way(way.unlearning, way.seen, way.silent, {"kind": kind}) for way in WAYS for kind in ("none", "dp-sgd")
)


def records(directory: Path) -> Path:
    """Images and rows of a table, after many ways of unlearning."""
    return make_run(directory, {"digits": digits(), "table": diabetes()}, ways=DEFENDED, deletions=8)


RUNS: dict[str, Callable[[Path], Path]] = {
    "records": records,
    "inferred": every_figure.inferred,
    "known": every_figure.known,
    "defended": every_figure.defended,
    "forgotten": every_figure.forgotten,
    "swept": swept.swept,
    "departures": every_figure.departures,
    "many-departures": lambda directory: every_figure.departures(directory, requests=30, rounds=2),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Figure]]]:
    """Of each run its directory, and its figures by name."""
    found = {}
    for name, made in RUNS.items():
        with pytest.MonkeyPatch.context() as patch:
            figures = figures_of(patch)
            place = made(tmp_path_factory.mktemp(name) / "run")
            draw_all(place)
            found[name] = place, figures
    return found


def test_there_is_a_run_for_every_kind_of_figure(drawn: dict[str, tuple[Path, dict[str, Figure]]]) -> None:
    names = [name for _, figures in drawn.values() for name in figures]
    assert [kind for kind in CARDS if not any(name.startswith(kind) for name in names)] == []


@pytest.mark.parametrize("run", RUNS)
def test_no_text_is_cut_off_or_lies_on_another(run: str, drawn: dict[str, tuple[Path, dict[str, Figure]]]) -> None:
    with mpl.rc_context(STYLE):
        found = {name: faults(figure) for name, figure in drawn[run][1].items()}
    assert {name: said for name, said in found.items() if said} == {}


@pytest.mark.parametrize("run", RUNS)
def test_every_figure_says_what_it_shows(run: str, drawn: dict[str, tuple[Path, dict[str, Figure]]]) -> None:
    place, figures = drawn[run]
    for name in figures:
        assert len(alternative_text(place / "figures" / f"{name}.png")) > 40


def test_a_trajectory_says_its_numbers_in_words(drawn: dict[str, tuple[Path, dict[str, Figure]]]) -> None:
    said = alternative_text(drawn["departures"][0] / "figures" / "trajectory-retrain.png")
    assert "After all 5 requests, retrain: accuracy" in said
    assert "Ashford General Hospital leaves: utility 0.85 (retrained 0.86)" in said


def test_panels_that_are_compared_have_equal_axes(drawn: dict[str, tuple[Path, dict[str, Figure]]]) -> None:
    for run, figure in (("records", "cosine-cdf-digits"), ("defended", "price")):
        panels = drawn[run][1][figure].axes
        by_label: dict[str, set[tuple[float, float]]] = {}
        for place, axes in enumerate(panels):
            column = str(place % 2) if run == "records" else ""
            by_label.setdefault(column, set()).add((*axes.get_xlim(), *axes.get_ylim()))
        assert len(panels) > len(by_label)
        assert [len(limits) for limits in by_label.values()] == [1] * len(by_label)


def test_a_fault_is_found(tmp_path: Path) -> None:
    figure = Figure(figsize=(4, 2))
    figure.text(0.9, 0.5, "beyond the right end")
    figure.text(0.1, 0.2, "one over")
    figure.text(0.12, 0.2, "another")
    assert sorted(faults(figure)) == ["cut off: 'beyond the right end'", "overlap: 'one over' and 'another'"]


def test_a_title_takes_two_lines_and_the_first_that_fits_is_shown(tmp_path: Path) -> None:
    long, short = "much too long " * 30, "short enough"
    assert fitting(6.0, [long, short]) == short
    assert len(textwrap.wrap(fitting(6.0, long), int((6.0 - 0.24) * 9.4))) == 2
    figure = Figure(figsize=(6.0, 2.0))
    heading(figure, [long, short], "And more.")
    assert alternative_text(save(figure, tmp_path / "a.png")) == "short enough. And more."


def test_a_title_of_three_findings_is_not_cut(tmp_path: Path) -> None:
    """Of three ways of unlearning with long names, each of which leaves something else behind."""
    ways = [
        Way({"method": "ascent"}, {"hrec": 1.0}),
        Way({"method": "retrain", "coupling": "same-order"}, {"hrec": 0.6}),
        Way({"method": "retrain", "coupling": "independent"}, {"hrec": 0.0}),
    ]
    run = make_run(tmp_path / "run", {"": digits()}, ways=ways, deletions=12)
    said = {path.name: alternative_text(path) for path in draw_all(run)}
    gallery = said["gallery.png"]
    assert gallery.count(";") >= 2, "three findings"
    assert not [name for name, text in said.items() if " ..." in text]
