"""What ``run`` takes and returns in a program and in a notebook."""

from pathlib import Path

import pandas as pd
import pytest

from palimpsest.simulator import Result, load_scenario, run
from palimpsest.simulator.figures.all import draw_all
from palimpsest.simulator.results.frames import ARM_COLUMNS
from palimpsest.simulator.results.schema import RunFilesError
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.scenario.load import scenario_from_dict
from palimpsest.simulator.world.protocols.events import RequestDone, Silent
from tests.support.fabricated import WAYS, digits, make_run
from tests.support.scenarios import small_scenario
from tests.support.stores import new_store

SMALL = {
    "name": "small",
    "data": {"source": "digits", "clients": 6},
    "model": {"kind": "softmax"},
    "training": {"rounds": 2, "clients_per_round": 3},
    "deletion": {"requests": 2, "pattern": "sequential"},
    "unlearning": [{"method": "ascent"}, {"method": "none"}],
    "runtime": {"backend": "serial", "hosts": 1},
}


@pytest.mark.mlflow
def test_a_run_from_a_dictionary_is_a_result_with_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[RequestDone] = []

    class Listener(Silent):
        def request_done(self, event: RequestDone) -> None:
            heard.append(event)

    uri = new_store(tmp_path)
    result = run(SMALL, str(tmp_path / "out"), Listener(), set={"data.clients": 5, "tracking.uri": uri})
    assert capsys.readouterr().err == ""
    assert (result.directory, len(heard)) == (tmp_path / "out", 4)
    assert result.results.arms[0].data.clients == 5
    assert list(result.arms.columns) == list(ARM_COLUMNS)
    assert list(result.arms["unlearning"]) == ["ascent", "none"]
    assert result.arms["centred"].between(-1, 1).all()
    requests = result.requests()
    assert list(requests["arm"]) == [result.arms["arm"][0]] * 2 + [result.arms["arm"][1]] * 2
    assert {"number", "name", "accepted", "utility_after", "success_hrec"} <= set(requests.columns)
    assert {"arm", "attack", "case", "cosine_centred"} <= set(result.scores().columns)
    rounds = result.rounds()
    assert set(rounds["phase"]) >= {"training", "unlearning"}
    assert rounds[rounds["phase"] == "training"]["utility"].notna().all()
    assert "hrec" in set(result.attacks["attack"])
    assert Result.open(str(result.directory)).results == result.results
    assert result.to_html(tmp_path / "page.html").stat().st_size > 10_000


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A fabricated run, drawn."""
    place = make_run(tmp_path_factory.mktemp("r") / "it", {"a": digits(), "b": digits()}, ways=WAYS[:2], deletions=8)
    draw_all(place)
    return Result.open(place)


def test_a_result_is_short_as_text_and_a_table_with_a_gallery_in_a_notebook(opened: Result) -> None:
    assert repr(opened) == f"Result('fabricated', 4 arms, {str(opened.directory)!r})"
    shown = opened._repr_html_()
    assert opened.headline.split(";")[0] in shown
    assert shown.count("<tr>") == 1 + 4
    assert shown.count("<img") == 1
    assert "figcaption>gallery-a" in shown


def test_a_result_without_figures_rounds_or_requests_shows_what_it_has(tmp_path: Path) -> None:
    bare = Result.open(make_run(tmp_path / "it", {"": digits()}, ways=WAYS[:1], deletions=8))
    assert "<img" not in bare._repr_html_()
    assert dict(bare.figures) == {}
    assert bare.requests().empty
    assert isinstance(bare.rounds(), pd.DataFrame)


def test_figures_are_pictures_by_name(opened: Result) -> None:
    assert {"summary", "gallery-a", "gallery-b"} <= set(opened.figures)
    assert opened.plot("summary").size[0] > 100
    for wrong, said in {"galery-a": "did you mean 'gallery-a'", "gallery": "several figures", "x": "no figure"}.items():
        with pytest.raises(ValueError, match=said):
            opened.plot(wrong)


def test_there_is_nothing_to_open_where_no_run_was(tmp_path: Path) -> None:
    with pytest.raises(RunFilesError, match="no finished run"):
        Result.open(tmp_path)


def test_scenarios_are_names_paths_tables_and_scenarios(tmp_path: Path) -> None:
    named = load_scenario("mnist-deletions")
    assert load_scenario() == named
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\n[data]\nsource = "digits"\n')
    written = load_scenario(file)
    assert load_scenario(str(file)) == written == load_scenario({"name": "mine", "data": {"source": "digits"}})
    assert load_scenario(written) is written
    assert load_scenario(written, {"data.clients": 30}).data.clients == 30
    assert load_scenario(written, ["data.clients=30"]) == load_scenario(file, {"data.clients": 30})
    assert load_scenario(file, {"deletion": {"requests": 3}}).deletion.requests == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.clients": "many"}, "data.clients"),
        ({"data.clients": object()}, "data.clients"),
        ({"defense.5.kind": "none"}, "there is no entry '5'"),
        ({"": 1}, "must be KEY=VALUE"),
    ],
)
def test_a_change_that_cannot_be_made_is_one_sentence(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        load_scenario("mnist-deletions", changes)


def test_a_star_sets_every_entry_of_a_list() -> None:
    base = scenario_from_dict(
        SMALL | {"variant": [{"name": "a", "data": {"clients": 4}}, {"name": "b", "data": {"clients": 8}}]}
    )
    assert [
        v.data.clients for v in load_scenario(base, ["variant.*.data.clients=5", "variant.1.model.l2=0.5"]).variant
    ] == [5, 5]
    with pytest.raises(ScenarioError, match=r"variant\.\*\.data\.clients for all variants"):
        load_scenario(base, ["data.clients=5"])
    with pytest.raises(ScenarioError, match="there is no entry '\\*'"):
        load_scenario(small_scenario(), ["training.*=5"])
    with pytest.raises(ScenarioError, match="there is no entry '\\*'"):
        load_scenario(SMALL, ["variant.*.data.clients=5"])


def test_the_page_on_python_says_what_every_column_holds() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "python.md").read_text()
    for name, text in ARM_COLUMNS.items():
        assert f"| `{name}` | {text} |" in page
