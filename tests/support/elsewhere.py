"""The files of a package of somebody else's: what a plug-in's author writes, and nothing else."""

UNLEARNER = '''
"""Approximate unlearning by weight decay."""

from typing import ClassVar, Literal

from pydantic import Field

from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.unlearning import Outcome
from palimpsest.simulator.world.records import Release
from palimpsest.simulator.world.specs import Frozen


class Shrink(Frozen):
    """Every parameter times a factor.

    Guarantee: none.

    Attributes:
        factor: of every parameter.
    """

    card: ClassVar[Card] = Card(
        summary="every parameter nearer to zero", levels=("record", "client"), algorithms=("fedavg",)
    )
    method: Literal["shrink"] = "shrink"
    factor: float = Field(default=0.9, gt=0, lt=1)

    def unlearn(self, history, cases, federation):
        for case in cases:
            smaller = {name: (self.factor * value).astype(value.dtype) for name, value in case.before.items()}
            yield Outcome(Release(case.branch, case.round, "unlearning", smaller))

    def public_rule(self):
        return "hessian", 1.0
'''

ATTACK = '''
"""Reconstruction from the largest change of a class's weights."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.attacks.average import guess
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.records import Reconstruction
from palimpsest.simulator.world.specs import Frozen


class Tilt(Frozen):
    """The public mean, moved along the weights of the class that changed most.

    Attributes:
        strength: how far.
    """

    card: ClassVar[Card] = Card(
        summary="the public mean moved along the largest change",
        models=("softmax",),
        needs=("public sample",),
        promises="reconstruction",
    )
    kind: Literal["tilt"] = "tilt"
    strength: float = Field(default=1.0, gt=0)

    def run(self, cases, knowledge, rng):
        return [self._one(case, knowledge) for case in cases]

    def _one(self, case, knowledge):
        if case.silent:
            return guess(case.index, case.size, case.labels, knowledge, no_signal=True)
        change = np.asarray(case.after["weight"], np.float64) - np.asarray(case.before["weight"], np.float64)
        lengths = np.linalg.norm(change, axis=1)
        row = int(lengths.argmax())
        record = knowledge.mean - self.strength * change[row] / lengths[row]
        labels = case.labels if case.labels is not None else (float(row),) * case.size
        return Reconstruction(case.index, np.tile(record, (case.size, 1)), np.array(labels, np.float64))
'''

DEFENSE = '''
"""Released parameters on a grid."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.defense import Defense


class Grid(Defense):
    """Release every parameter as a multiple of a step.

    Guarantee: none.

    Attributes:
        step: of the grid.
    """

    card: ClassVar[Card] = Card(summary="every parameter to the nearest multiple of a step", places=("release",))
    kind: Literal["grid"] = "grid"
    step: float = Field(default=0.25, gt=0)

    def release(self, release, noise):
        return replace(release, params={name: self._moved(value) for name, value in release.params.items()})

    def _moved(self, value):
        return (np.round(value / self.step) * self.step).astype(value.dtype)


class Careless(Grid):
    """Says nothing of where it acts.

    Guarantee: none.
    """

    card: ClassVar[Card] = Card(summary="says nothing of where it acts")
    kind: Literal["careless"] = "careless"
'''

SOURCE = '''
"""Three classes on a ramp."""

import numpy as np

from palimpsest.simulator.world.data.raw import Raw


def load():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    return Raw("", rng.normal(size=(400, 4)) + y[:, None], y, class_names=("low", "middle", "high"))
'''

TEST = """
from palimpsest.simulator.testing import check_attack, check_defense, check_unlearner


def test_shrink(tmp_path):
    check_unlearner("shrink", tmp_path, factor=0.8)


def test_tilt():
    check_attack("tilt", strength=0.5)


def test_grid():
    check_defense("grid")


def test_careless():
    check_defense("careless")
"""

FILES = {
    "elsewhere/__init__.py": "",
    "elsewhere/shrink.py": UNLEARNER,
    "elsewhere/tilt.py": ATTACK,
    "elsewhere/grid.py": DEFENSE,
    "elsewhere/ramp.py": SOURCE,
    "elsewhere/test_elsewhere.py": TEST,
}
BROKEN = {"elsewhere/torn.py": "raise RuntimeError('the file is torn')\n"}

POINTS = {
    "unlearners": {"shrink": "elsewhere.shrink:Shrink"},
    "attacks": {"tilt": "elsewhere.tilt:Tilt", "torn": "elsewhere.torn:Torn"},
    "defenses": {"grid": "elsewhere.grid:Grid", "careless": "elsewhere.grid:Careless"},
    "sources": {"ramp": "elsewhere.ramp:load"},
}
"""Name and target of what the package announces, by group."""

SCENARIO = """
name = "elsewhere"

[data]
source = "ramp"
clients = 6
public_fraction = 0.4

[training]
rounds = 2
clients_per_round = 3

[deletion]
requests = 2
level = "record"

[[unlearning]]
method = "shrink"
factor = [0.5, 0.9]

[[defense]]
kind = "none"

[[defense]]
kind = "grid"
step = 0.25

[[attack]]
kind = "tilt"
strength = 2.0

[runtime]
backend = "serial"
"""
