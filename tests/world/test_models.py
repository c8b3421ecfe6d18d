"""The table of models: what a spec says, what a card says, and that nothing else knows models by name."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from palimpsest.simulator.scenario.load import scenario_from_dict
from palimpsest.simulator.world.models.kinds import CARDS
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.models.modules import Tried, check_kind, tried
from palimpsest.simulator.world.specs import ModelSpec, Schema

PROJECT = Path(__file__).parents[2]
SUITES = PROJECT / "simulator" / "testing"
TABLE = PROJECT / "simulator" / "world" / "models" / "kinds"


@pytest.mark.parametrize(
    ("kind", "options"), [("softmax", {}), ("mlp", {"hidden": 8}), ("cnn", {}), ("resnet18", {"channels": 4})]
)
def test_a_spec_of_a_run_before_there_were_options_is_read(kind: str, options: dict[str, int]) -> None:
    old = {"kind": kind, "task": "classification", "shape": [1, 8, 8], "outputs": 3, "regularisation": 0.0}
    spec = ModelSpec.model_validate(old | {"hidden": 8, "channels": 4})
    assert spec.options.root == options
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    assert model_of(spec).options.model_dump() == options


@pytest.mark.parametrize("outputs", [3, 1024, 1025])
@pytest.mark.parametrize("kind", ["softmax", "ridge", "svm"])
def test_residuals_of_few_and_of_many_classes(kind: str, outputs: int) -> None:
    """The identity of a hundred thousand classes would take 40 GB: a model holds that of few."""
    spec = ModelSpec(kind=kind, task="classification", shape=(2,), outputs=outputs, regularisation=0.0, dtype="float64")
    model, rng = model_of(spec), np.random.default_rng(0)
    scores, y = rng.normal(size=(5, outputs)), rng.integers(0, outputs, 5)
    truth = np.zeros((5, outputs))
    truth[range(5), y] = 1.0
    sign = 2.0 * truth - 1.0
    expected = {
        "softmax": truth - softmax(scores, axis=1),
        "ridge": truth - scores,
        "svm": sign * np.maximum(0.0, 1.0 - sign * scores),
    }[kind]
    given = model.residual(torch.from_numpy(scores), torch.from_numpy(y))
    np.testing.assert_allclose(given.numpy(), expected, atol=1e-12)
    assert (model._one_hot.identity is not None) == (outputs <= 1024)


def test_a_scenario_that_was_written_when_every_model_had_all_keys_is_read() -> None:
    model = {"kind": "softmax", "l2": 0.01, "hidden": 64, "channels": 64}
    assert scenario_from_dict({"name": "x", "model": model}) == scenario_from_dict({"name": "x"})


def test_the_card_in_the_documentation_is_a_model() -> None:
    code = (PROJECT / "docs" / "models.md").read_text().partition("```python\n")[2].partition("```")[0]
    there: dict[str, Any] = {}
    exec(code, there)
    schema = Schema(name="x", task="classification", shape=(1, 8, 8), outputs=10)
    module = check_kind("my-net", there["build"](schema, there["CARD"].options()), dropout_off=False)
    assert tried("my-net", there["CARD"], module, schema.shape, schema.outputs) == Tried("3", True)


def test_no_module_but_the_table_compares_a_model_with_a_name() -> None:
    """A new model is a file and a card: nobody else asks which one it is."""
    asked = []
    for folder in ("attacks", "clients", "defenses", "server", "simulator"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            if path.is_relative_to(TABLE) or path.is_relative_to(SUITES):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                names = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
                if isinstance(node, ast.Compare) and names & CARDS.keys():
                    asked.append(f"{path.relative_to(PROJECT)}:{node.lineno}")
    assert not asked
