"""Names that the literature uses and this project does not."""

from typing import get_args

import pytest

from palimpsest.simulator.scenario.load import ScenarioError, load_scenario
from palimpsest.simulator.scenario.registry import Group, names
from palimpsest.simulator.scenario.synonyms import _ALSO
from palimpsest.simulator.world.data.sources import CARDS as SOURCES
from palimpsest.simulator.world.models.kinds import CARDS as MODELS


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("variant.0.model.kind=lr", "did you mean 'softmax'"),
        ("attack.0.kind=dlg", "did you mean 'inversion'"),
        ("unlearning.0.method=sisa", "did you mean 'sharded'"),
        ("unlearning.0.method=Gradient_Ascent", "did you mean 'ascent'"),
        ("defense.0.kind=dpsgd", "did you mean 'dp-sgd'"),
        ("training.strategy=fedproxx", "did you mean 'fedprox'"),
        ("unlearning.0.method=fedprox", "'fedprox' is a value of training.strategy"),
        ("variant.*.training.algorithm=fedprox", "'fedprox' is a value of training.strategy"),
        ("variant.*.training.algorithm=fedavgg", "did you mean 'fedavg'"),
    ],
)
def test_what_the_literature_calls_otherwise_is_understood(setting: str, said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        load_scenario("mnist-deletions", [setting])


def test_a_name_that_resembles_nothing_is_given_no_other() -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario("mnist-deletions", ["attack.0.kind=zzz"])
    assert "did you mean" not in str(caught.value)


def test_synonyms_lead_to_names_that_exist_and_shadow_none() -> None:
    known = {
        *MODELS,
        *(name for group in get_args(Group) for name in names(group)),
        *SOURCES,
    }
    assert set(_ALSO) <= known
    others = [other for said in _ALSO.values() for other in said.split()]
    assert len(others) == len(set(others))
    assert not known & set(others)
