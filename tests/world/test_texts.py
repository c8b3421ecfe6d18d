"""Columns of free text: read as bags of words, trained on by ``text-linear``, and given back as words."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.world.data.build import build_population
from palimpsest.simulator.world.data.config import DataConfig
from palimpsest.simulator.world.data.datasets import load_source
from palimpsest.simulator.world.data.preview_text import lines
from palimpsest.simulator.world.data.reading import Columns, Reading
from palimpsest.simulator.world.data.texts import bags, vocabulary, words_of
from palimpsest.simulator.world.errors import DataError
from tests.support.scenarios import small_scenario

GOOD, BAD = ("fine", "lovely", "clean", "quiet", "friendly"), ("dirty", "loud", "rude", "cold", "broken")
OTHER = ("the", "room", "was", "we", "stayed", "two", "nights", "in", "May", "with", "breakfast", "by", "lake")


def reviews(count: int = 300) -> pd.DataFrame:
    """What guests wrote, whether they come again, and how long they stayed."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, count)
    texts = []
    for label in y:
        words = [*rng.choice(OTHER, 8), *rng.choice(GOOD if label else BAD, 3)]
        texts.append(" ".join(rng.permutation(words)).capitalize() + ".")
    return pd.DataFrame({"review": texts, "nights": rng.integers(1, 9, count), "again": np.where(y, "yes", "no")})


def config(place: Path, frame: pd.DataFrame, **changes: object) -> DataConfig:
    frame.to_csv(place / "reviews.csv", index=False)
    about: dict[str, object] = {"source": str(place / "reviews.csv"), "clients": 6, "public_fraction": 0.4}
    return DataConfig.model_validate(about | {"columns": {"target": "again", "text": ["review"]}} | changes)


def test_words_are_letters_and_digits_in_small_letters() -> None:
    assert words_of("Don't stay: 2 nights in ROOM_12, Übel!") == ["don", "stay", "nights", "in", "room", "12", "übel"]
    known = vocabulary("review", ["a room", "the room", "the lake"])
    assert known == ("room", "the")
    assert bags(["the room the lake", "nothing"], known).tolist() == [[1.0, 2.0], [0.0, 0.0]]


def test_a_record_is_a_bag_of_the_words_that_the_public_sample_uses(tmp_path: Path) -> None:
    frame = reviews()
    frame.loc[7, "review"] += " Xylophone"  # a word of one record
    population = build_population(config(tmp_path, frame), 0)
    names = population.schema.feature_names
    assert {"review:lovely", "review:room", "nights"} <= set(names)
    assert "review:xylophone" not in names and "review:by" in names
    words = [place for place, name in enumerate(names) if name.startswith("review:")]
    counts = np.asarray(population.train_x)[:, words]
    assert (counts == np.round(counts)).all() and counts.min() == 0
    assert (counts.sum(axis=1) == 11).mean() > 0.95
    assert population.preprocessing["mean"][words[0]] == 0.0 and population.preprocessing["scale"][words[0]] == 1.0
    assert population.preview is not None
    assert "columns   1 of text: review" in lines(population.preview)


def test_the_same_words_of_other_private_records_change_no_column(tmp_path: Path) -> None:
    """The vocabulary is the public sample's: what private records say cannot widen it."""
    frame = reviews()
    one = build_population(config(tmp_path, frame), 0)
    changed = frame.copy()
    changed["review"] = [f"{text} secret{k}" for k, text in enumerate(frame["review"])]
    assert build_population(config(tmp_path, changed), 0).schema.feature_names == one.schema.feature_names


def test_an_empty_text_has_no_words_and_what_is_no_text_is_refused(tmp_path: Path) -> None:
    frame = reviews()
    frame.loc[3, "review"] = ""
    frame.to_csv(tmp_path / "r.csv", index=False)
    raw = load_source(str(tmp_path / "r.csv"), Reading(columns=Columns(target="again", text=("review",))))
    assert raw.texts == (0,) and raw.levels[0][int(raw.x[3, 0])] == ""
    with pytest.raises(DataError, match=r"data\.columns\.text = 'reviews': there is no such column; did you mean"):
        build_population(config(tmp_path, frame, columns={"target": "again", "text": ["reviews"]}), 0)
    with pytest.raises(DataError, match=r"column 'review' has 400 different values .* data\.columns\.text if it is"):
        build_population(config(tmp_path, reviews(400), columns={"target": "again"}), 0)
    with pytest.raises(ValueError, match="names the column 'review' twice"):
        config(tmp_path, frame, columns={"target": "review", "text": ["review"]})
    lonely = frame.assign(review=[f"word{k}" for k in range(len(frame))])
    with pytest.raises(DataError, match="'review' has no word that occurs in two of the"):
        build_population(config(tmp_path, lonely), 0)


@pytest.mark.slow
def test_a_deleted_text_comes_back_as_words(tmp_path: Path) -> None:
    frame = reviews()[["review", "again"]]
    frame.to_csv(tmp_path / "reviews.csv", index=False)
    scenario = small_scenario(
        data={
            "source": str(tmp_path / "reviews.csv"),
            "clients": 6,
            "public_fraction": 0.4,
            "columns": {"target": "again", "text": ["review"]},
        },
        model={"kind": "text-linear"},
        training={"rounds": 10, "clients_per_round": 6, "batch_size": 32, "learning_rate": 1.0},
        deletion={"requests": 4},
        unlearning=[{"method": "ascent"}, {"method": "retrain", "coupling": "same-order"}],
    )
    (tmp_path / "run").mkdir()
    arms = simulate(scenario, prepare(scenario), tmp_path / "run", SerialGrid(1))["arms"]
    for arm in arms:
        assert arm["utility"]["trained"] > 0.8
        assert arm["attacks"]["hrec"]["cosine_median"] > 0.9
    run = RunFiles.open(tmp_path / "run")
    assert "hrec" in run.files(run.arms[0]).reconstructions()
