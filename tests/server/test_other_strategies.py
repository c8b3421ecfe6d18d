"""A strategy of another package: the contract that it is held to, and a run with it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from palimpsest.server.strategies import CARDS
from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.scenario.errors import ScenarioError
from palimpsest.simulator.testing import check_strategy
from tests.support.packages import installed
from tests.support.scenarios import small_scenario

CODE = '''
from typing import Any, ClassVar, Literal

import numpy as np
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.strategy import ServerState, Strategy


class Heavy(Strategy):
    """Momentum that the state keeps."""

    card: ClassVar[Card] = Card(summary="momentum", algorithms=("fedavg",))
    strategy: Literal["heavy"] = "heavy"
    weight: float = 0.5

    def step(self, received, state):
        kept = state.arrays.get("momentum")
        new = {n: v + (self.weight * kept[n] if kept else 0.0) for n, v in received.mean.items()}
        return new, ServerState(state.steps + 1, {"momentum": new})


class Remembering(Heavy):
    """Momentum that it keeps to itself: a retraining would go on with it."""

    card: ClassVar[Card] = Card(summary="keeps it to itself", algorithms=("fedavg",))
    strategy: Literal["remembering"] = "remembering"
    own: ClassVar[dict[str, Any]] = {}

    def step(self, received, state):
        new = {n: v + self.weight * self.own.get(n, 0.0) for n, v in received.mean.items()}
        self.own.update(new)
        return new, state


class Peeking(Strategy):
    """Reads single updates, and does not say so."""

    card: ClassVar[Card] = Card(summary="reads single updates", algorithms=("fedavg",))
    strategy: Literal["peeking"] = "peeking"

    def step(self, received, state):
        return {n: np.max(received.each[n], axis=0) for n in received.mean}, state


class Hasty(Strategy):
    """Changes how clients train, and does not say so."""

    card: ClassVar[Card] = Card(summary="changes the clients' step", algorithms=("fedavg",))
    strategy: Literal["hasty"] = "hasty"

    def local_training(self, recipe):
        return recipe.model_copy(update={"learning_rate": 2 * recipe.learning_rate})
'''


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package, site = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("site")
    (package / "other_strategies.py").write_text(CODE)
    lines = ['[project]\nname = "other-strategies"\nversion = "1"\n[project.entry-points."palimpsest.strategies"]']
    lines += [f'{name} = "other_strategies:{name.title()}"' for name in ("heavy", "remembering", "peeking", "hasty")]
    (package / "pyproject.toml").write_text("\n".join(lines))
    installed(site, package)
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("other_strategies", None)


@pytest.mark.parametrize("name", [*CARDS, "heavy"])
def test_it_keeps_the_contract(name: str, tmp_path: Path) -> None:
    """Among others: retraining does not depend on what the deleted records were."""
    check_strategy(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("remembering", "a second training ends in other bits; what it keeps belongs into the ServerState"),
        ("peeking", "a strategy that reads received.each names the need 'single updates'"),
        ("hasty", "it overrides local_training, and its card does not need 'client step'"),
    ],
)
def test_one_that_breaks_it_is_told_why(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=said):
        check_strategy(name, tmp_path)


def test_it_takes_part_in_a_run(tmp_path: Path) -> None:
    training = {"rounds": 3, "clients_per_round": 3, "strategy": "heavy", "weight": 0.25}
    scenario = small_scenario(training=training, unlearning=[{"method": "rollback"}, {"method": "retrain"}])
    arms = simulate(scenario, prepare(scenario), tmp_path, SerialGrid(1))["arms"]
    assert all((arm["requests_made"], arm["requests_completed"]) == (2, 2) for arm in arms)
    plain = small_scenario(training={**training, "weight": 0.0}, unlearning=[{"method": "retrain"}])
    (tmp_path / "plain").mkdir()
    [other] = simulate(plain, prepare(plain), tmp_path / "plain", SerialGrid(1))["arms"]
    assert arms[1]["transcript_digest"] != other["transcript_digest"]


def test_what_its_card_rules_out_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"'federaser'.*heavy|heavy.*federaser"):
        small_scenario(
            training={"rounds": 3, "clients_per_round": 3, "strategy": "heavy"},
            deletion={"level": "client", "requests": 1},
            unlearning=[{"method": "federaser"}],
        )
