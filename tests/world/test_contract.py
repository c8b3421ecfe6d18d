"""The contracts of models and data sources: the built-in ones keep them, and a broken one is one sentence."""

from pathlib import Path

import pytest
import torch
from opacus.validators import ModuleValidator
from torch import nn

from palimpsest.simulator.testing import check_model, check_source
from palimpsest.simulator.world.data.sources import CARDS as SOURCES
from palimpsest.simulator.world.models.card import ModelCard
from palimpsest.simulator.world.models.given import remember
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


class Block(nn.Module):
    """As torchvision writes it: BatchNorm, activations in place, an addition in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[n, channels, height, width]`` to the same."""
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x
        done: torch.Tensor = self.relu(out)
        return done


def residual() -> nn.Module:
    stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
    return nn.Sequential(
        stem,
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        Block(8),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def test_a_network_with_batchnorm_is_refused_and_keeps_the_contract_once_the_remedy_is_applied() -> None:
    with pytest.raises(AssertionError, match=r"BatchNorm2d .* opacus\.validators\.ModuleValidator\.fix"):
        check_model(remember(ModelCard(lambda schema, options: residual(), tasks=("classification",))))
    fixed = ModelCard(lambda schema, options: ModuleValidator.fix(residual()), tasks=("classification",))
    check_model(remember(fixed))
