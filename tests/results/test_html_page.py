"""The report as one page: complete, harmless, and on its own."""

import base64
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from palimpsest.simulator.experiment.result import Result
from palimpsest.simulator.figures.all import draw_all
from palimpsest.simulator.results.html_page import table
from tests.support.fabricated import WAYS, Way, digits, make_run

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Elements of a page, with their attributes; text by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a kind."""
        return [attributes for found, attributes in self.elements if found == tag]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, drawn."""
    place = make_run(tmp_path_factory.mktemp("page") / "run", {"": digits()}, ways=WAYS[:3], deletions=8)
    draw_all(place)
    return place


def test_the_page_holds_every_figure_with_a_text_and_asks_for_nothing_outside(place: Path, tmp_path: Path) -> None:
    result = Result.open(place)
    text = result.to_html(tmp_path / "report.html").read_text()
    page = Page(text)
    images = page.all("img")
    assert len(images) == len(result.figures) == len(list((place / "figures").glob("*.png"))) > 2
    for image, path in zip(images, result.figures.values(), strict=True):
        assert image["src"] == f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
        assert len(image["alt"] or "") > 20
    assert not re.search(r"https?://|@import|url\(", text)
    assert not page.all("link")
    [policy] = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy is not None and "default-src 'none'" in policy
    assert len(page.all("script")) == 1


def test_the_page_says_what_was_found_and_how(place: Path) -> None:
    text = _seen(Result.open(place).to_html(place / "report.html").read_text())
    result = Result.open(place)
    for said in (result.headline, *result.arms["verdict"], 'source = "digits"', "torch 2.13.0"):
        assert said in text


def test_a_run_of_many_ways_of_unlearning_is_headed_by_their_number(tmp_path: Path) -> None:
    ways = tuple(
        Way({"method": "ascent", "learning_rate": rate / 100}, {"hrec": 0.995, "max-difference": 0.4})
        for rate in range(1, 13)
    )
    result = Result.open(make_run(tmp_path / "run", {"": digits()}, ways=ways))
    assert len(result.headline) > 400
    page = result.to_html(tmp_path / "report.html").read_text()
    shown = html.unescape(page.partition("<p class=headline>")[2].partition("</p>")[0])
    assert len(shown) < 200
    assert "all 12 ways of unlearning" in shown
    for verdict in result.arms["verdict"]:
        assert verdict in _seen(page)


def _seen(page: str) -> str:
    """What a reader of the page sees."""
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


def test_what_others_named_is_text(place: Path, tmp_path: Path) -> None:
    """A class, an arm, a method, a scenario and its file with an element in their names."""
    content = json.loads((place / "results.json").read_text())
    content["scenario"] = EVIL
    arm = content["arms"][0]
    arm["data"]["class_names"][0] = arm["data"]["source"] = arm["unlearning"]["method"] = arm["verdict"] = EVIL
    arm["arm"] = f'x" onload="{EVIL}'
    arm["attacks"][EVIL] = arm["attacks"]["hrec"]
    evil = tmp_path / "evil"
    (evil / "figures").mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(evil / "figures" / "summary.png")
    (evil / "results.json").write_text(json.dumps(content))
    (evil / "scenario.toml").write_text(f"# {EVIL}")
    result = Result.open(evil)
    page = Page(result.to_html(tmp_path / "evil.html").read_text())
    assert len(page.all("script")) == 1
    assert not any("onload" in attributes for _, attributes in page.elements)
    assert "<script" not in result._repr_html_()


def test_a_table_sorts_by_full_values_and_leaves_empty_columns_out() -> None:
    frame = pd.DataFrame(
        {
            "arm": ["a", "b"],
            "epsilon": [1.23456, None],
            "rounds": pd.array([1234, None], dtype="Int64"),
            "none": [None] * 2,
        }
    )
    text = table(frame, ["arm", "none", "epsilon", "rounds", "not there"])
    assert re.findall(r"<th scope=col>(.*?)</th>", text) == ["arm", "epsilon", "rounds"]
    assert '<td class=n data-v="1.23456">1.23</td>' in text
    assert '<td class=n data-v="1234">1,234</td>' in text
    assert text.count("<td></td>") == 2
