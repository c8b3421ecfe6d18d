"""An installed distribution that announces models, as another package would."""

from pathlib import Path

import pytest

CODE = '''
import numpy as np
import torch
from torch import nn
from palimpsest.simulator.world.models.card import ModelCard
from palimpsest.simulator.world.specs import Frozen


class Options(Frozen):
    width: int = 6


class Net(nn.Module):
    """A residual one, whose children are named as their author liked."""

    def __init__(self, schema, options):
        super().__init__()
        self.stem = nn.Conv2d(schema.shape[0], options.width, 3, padding=1)
        self.inner = nn.Conv2d(options.width, options.width, 3, padding=1)
        self.norm = nn.GroupNorm(2, options.width)
        self.readout = nn.Linear(options.width * schema.shape[1] * schema.shape[2], schema.outputs)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        x = x + torch.tanh(self.norm(self.inner(x)))
        return self.readout(x.flatten(1))


class InPlace(Net):
    def forward(self, x):
        y = torch.zeros(len(x), self.readout.out_features, dtype=x.dtype)
        y.add_(super().forward(x))
        return y


class Counting(Net):
    def __init__(self, schema, options):
        super().__init__(schema, options)
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x):
        if self.training:
            self.steps = self.steps + 1
        return super().forward(x)


class Random(Net):
    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.3, self.training))


class Mixing(Net):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class NumPy(Net):
    def __init__(self, schema, options):
        super().__init__(schema, options)
        with torch.no_grad():
            self.stem.bias.copy_(torch.from_numpy(np.random.default_rng().random(options.width)))


class Headless(Net):
    def forward(self, x):
        return super().forward(x) * 2.0


def normed(schema):
    return nn.Sequential(nn.Conv2d(schema.shape[0], 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 10))


def dropping(schema):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10))


def short(schema):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def reading(schema):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def attending(schema):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.Sequential(nn.Flatten(0, 1), layer, nn.Flatten(), nn.Linear(64, 10))


NET = ModelCard(Net, "a network from elsewhere", Options, default_l2=1e-3)
IN_PLACE, COUNTING, RANDOM, MIXING, NUMPY, HEADLESS = (
    ModelCard(made, options=Options) for made in (InPlace, Counting, Random, Mixing, NumPy, Headless)
)
READING = ModelCard(lambda schema, options: reading(schema), first="1")
WRONG_FIRST = ModelCard(lambda schema, options: reading(schema), first="3")
WRONG_HEAD = ModelCard(lambda schema, options: reading(schema), head="1")
NUMBER = 3
'''

NAMES = {
    "net": "NET", "in-place": "IN_PLACE", "counting": "COUNTING", "random": "RANDOM", "mixing": "MIXING",
    "numpy-drawn": "NUMPY", "headless": "HEADLESS", "normed": "normed", "dropping": "dropping", "short": "short",
    "reading": "READING", "wrong-first": "WRONG_FIRST", "wrong-head": "WRONG_HEAD", "attending": "attending",
    "number": "NUMBER", "missing": "NOTHING",
}  # fmt: skip


def install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay a distribution ``elsewhere-models`` into a folder of the import path."""
    about = place / "elsewhere_models-2.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere-models\nVersion: 2.1\n")
    points = [f"{name} = elsewhere_models:{target}" for name, target in NAMES.items()]
    points.append("broken = elsewhere_broken:CARD")
    (about / "entry_points.txt").write_text("\n".join(["[palimpsest.models]", *points]) + "\n")
    (place / "elsewhere_models.py").write_text(CODE)
    (place / "elsewhere_broken.py").write_text("raise RuntimeError('no such driver')\n")
    monkeypatch.syspath_prepend(str(place))
