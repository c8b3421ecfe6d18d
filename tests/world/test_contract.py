"""The contracts of models and data sources: the built-in ones keep them, and a broken one is one sentence."""

from pathlib import Path

import pytest

from palimpsest.simulator.testing import check_model, check_source
from palimpsest.simulator.world.data.sources import CARDS as SOURCES
from palimpsest.simulator.world.models.kinds import CARDS as MODELS
from tests.support.packaged_models import install
from tests.support.packages import installed

SMALL = {"resnet18": {"channels": 2}, "convnet": {"channels": 4, "depth": 2}, "vit-tiny": {"width": 8, "depth": 1}}


@pytest.mark.parametrize("name", MODELS)
def test_models_keep_the_contract(name: str) -> None:
    check_model(name, **SMALL.get(name, {}))


@pytest.mark.parametrize("name", SOURCES)
def test_sources_keep_the_contract(name: str) -> None:
    check_source(name)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("normed", "BatchNorm2d"), ("numpy-drawn", "built twice from one seed"), ("broken", "no such driver")],
)
def test_a_model_that_breaks_it_is_told_why(
    kind: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    with pytest.raises(AssertionError, match=said):
        check_model(kind)
    check_model("in-place", width=4)


SOURCES_ELSEWHERE = """
import numpy as np
from palimpsest.simulator.world.data.raw import Raw

def restless():
    return Raw("", np.random.default_rng().normal(size=(90, 4)), np.arange(90) % 3)

def gaps():
    return Raw("", np.full((90, 4), np.nan), np.arange(90) % 3)

def uniform():
    return Raw("", np.random.default_rng(0).normal(size=(90, 4)), np.zeros(90, int), class_names=("a", "b"))
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("restless", "x differs from one call to the next"),
        ("gaps", "gaps: "),
        ("uniform", "all records have the same label"),
        ("nowhere", "there is no data set 'nowhere' here"),
    ],
)
def test_a_source_that_breaks_it_is_told_why(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, points = tmp_path / "package", ("restless", "gaps", "uniform")
    package.mkdir()
    (package / "odd_sources.py").write_text(SOURCES_ELSEWHERE)
    lines = ['[project]\nname = "odd-sources"\nversion = "1"\n[project.entry-points."palimpsest.sources"]']
    lines += [f'{point} = "odd_sources:{point}"' for point in points]
    (package / "pyproject.toml").write_text("\n".join(lines))
    installed(tmp_path / "site", package)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(AssertionError, match=said):
        check_source(name)
