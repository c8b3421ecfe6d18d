"""What a server makes of the mean update is undone from the releases alone, strategy by strategy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palimpsest.attacks.divergence import at_divergence, single_step
from palimpsest.attacks.hrec import Hrec
from palimpsest.attacks.server_steps import STEPS, mean_updates, server_step
from palimpsest.server.strategies import CARDS
from palimpsest.server.strategies.fedadam import FedAdam
from palimpsest.server.strategies.fedavg import FedAvg
from palimpsest.server.strategies.fedavgm import FedAvgM
from palimpsest.server.strategies.fedprox import FedProx
from palimpsest.server.strategies.fedyogi import FedYogi
from palimpsest.server.strategies.scaffold import Scaffold
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import FEDAVG, Bench
from palimpsest.simulator.testing.transcripts import digits
from palimpsest.simulator.world.errors import TranscriptError
from palimpsest.simulator.world.models.model import flat, theta
from palimpsest.simulator.world.protocols.strategy import Received, ServerState, Strategy
from palimpsest.simulator.world.records import Array, Params
from tests.attacks.test_divergence import DELETED, centred
from tests.support.trainings import LEARNING_RATE, overheard

STRATEGIES = {
    "fedavg": FedAvg(),
    "fedprox": FedProx(),
    "fedavgm": FedAvgM(server_momentum=0.8, server_learning_rate=0.5),
    "fedadam": FedAdam(server_learning_rate=0.05),
    "fedyogi": FedYogi(server_learning_rate=0.1),
    "scaffold": Scaffold(server_learning_rate=0.7),
}
ROUNDS = 12


def trained(strategy: Strategy, directory: Path) -> tuple[list[Params], list[Params]]:
    """The releases of a training by a real server, and the mean updates of which it made them."""
    means: list[Params] = []

    class Noting(type(strategy)):  # type: ignore[misc]
        def step(self, received: Received, state: ServerState) -> tuple[Params, ServerState]:
            each = received.each
            means.append({name: np.mean(each[name], axis=0) for name in each} if each else received.mean)
            stepped: tuple[Params, ServerState] = super().step(received, state)
            return stepped

    noting: Any = Noting(**strategy.model_dump())
    plan = FEDAVG.model_copy(update={"strategy": noting, "rounds": ROUNDS})
    releases = Bench(digits_population(), directory, plan=plan).history().record.releases
    return [release.params for release in releases], means


def errors(found: list[Params], means: list[Params]) -> Array:
    """``[rounds]`` relative error of each round's mean update."""
    pairs = [(flat(a), flat(b)) for a, b in zip(found, means, strict=True)]
    return np.array([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs])


@pytest.mark.parametrize("name", STEPS)
def test_the_mean_update_of_every_round_comes_back(name: str, tmp_path: Path) -> None:
    """Releases are float32. An adaptive step has two mean updates that explain it; beside one like it, as a retraining
    is read beside the training, the right one is taken."""
    models, means = trained(STRATEGIES[name], tmp_path)
    step = server_step(STRATEGIES[name].model_dump())
    assert len(means) == ROUNDS
    assert errors(mean_updates(models, step, near=means), means).max() < 1e-4


@pytest.mark.parametrize("name", ["fedadam", "fedyogi"])
def test_without_one_like_it_the_smaller_of_two_is_taken_and_is_right_for_most(name: str, tmp_path: Path) -> None:
    """The first round has one alone. Later nothing in the releases tells the two apart where both are to be had."""
    models, means = trained(STRATEGIES[name], tmp_path)
    found = mean_updates(models, server_step(STRATEGIES[name].model_dump()))
    pairs = [(flat(a), flat(b)) for a, b in zip(found, means, strict=True)]
    assert errors(found, means)[0] < 1e-4
    assert np.mean([np.abs(a - b) < 1e-3 * np.abs(b).max() for a, b in pairs]) > 0.9


def test_a_round_to_which_nobody_came_leaves_the_state(tmp_path: Path) -> None:
    models, means = trained(STRATEGIES["fedadam"], tmp_path)
    waited = [*models[:3], models[2], *models[3:]]
    nobody = {name: np.zeros_like(value) for name, value in means[0].items()}
    found = mean_updates(waited, server_step(STRATEGIES["fedadam"].model_dump()), [*means[:2], nobody, *means[2:]])
    assert not flat(found[2]).any()
    assert errors([*found[:2], *found[3:]], means).max() < 1e-4


@pytest.mark.parametrize(("name", "deletions"), [
    ("fedavgm", [[5], [481, 482], [90]]),
    ("fedadam", [[5], [481, 482], [90]]),
    ("fedyogi", [[5], [481, 482]]),
])  # fmt: skip
def test_a_single_step_gives_the_records_gradient_itself(name: str, deletions: list[list[int]], tmp_path: Path) -> None:
    """As under averaging: what the server made of the mean update is gone. Record 90 is first read in round 2, before
    which Yogi's state has to be told from a round that two mean updates explain."""
    data = digits()
    cases, knowledge = overheard(tmp_path, data, deletions, rounds=3, batch=1000, strategy=STRATEGIES[name])
    assert single_step(knowledge)
    for case, gone in zip(at_divergence(cases, knowledge, "auto"), deletions, strict=True):
        phi = np.concatenate([data.x[gone], np.ones((len(gone), 1))], axis=1)
        start = theta(case.before)
        scores = np.exp(phi @ start)
        slopes = phi.T @ (scores / scores.sum(axis=1, keepdims=True) - np.eye(10)[data.y[gone].astype(int)])
        wanted = LEARNING_RATE * slopes / 400
        assert np.linalg.norm(theta(case.after) - start - wanted) < 1e-4 * np.linalg.norm(wanted)


def told(directory: Path, name: str, undone: bool = True, resumed: int = 0) -> float:
    """Median centred cosine of what ``hrec`` makes of all rounds, of records deleted by a retraining or a rollback."""
    data = digits()
    cases, knowledge = overheard(
        directory, data, DELETED, rounds=12, batch=20, strategy=STRATEGIES[name], resumed=resumed
    )
    if not undone:
        training = knowledge.facts.training | {"strategy": "of another package"}
        knowledge = replace(knowledge, facts=knowledge.facts.model_copy(update={"training": training}))
    read = [case for case in cases if case.divergence is not None]
    assert [len(case.earlier) for case in read] == [resumed] * len(read)
    answers = Hrec().run(read, knowledge, np.random.default_rng(0))
    return float(np.median(centred(answers, data, [DELETED[case.index] for case in read])))


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi"])
def test_all_rounds_tell_nearly_as_much_as_under_averaging(name: str, tmp_path: Path) -> None:
    assert told(tmp_path / "undone", name) > 0.95 > 0.5 > told(tmp_path / "as-it-is", name, undone=False)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam"])
def test_after_a_rollback_the_rounds_before_it_tell_what_the_server_had_kept(name: str, tmp_path: Path) -> None:
    assert told(tmp_path / "undone", name, resumed=3) > 0.95
    assert told(tmp_path / "as-it-is", name, undone=False, resumed=3) < 0.8


def test_what_is_missing_or_wrong_is_one_sentence() -> None:
    with pytest.raises(TranscriptError, match=r"training by fedavgm lacks .*server_momentum"):
        server_step({"strategy": "fedavgm", "server_learning_rate": 1.0})
    with pytest.raises(TranscriptError, match=r"training by fedadam has .*beta_1"):
        server_step(STRATEGIES["fedadam"].model_dump() | {"beta_1": 1.5})


def test_every_built_in_strategy_is_undone_or_reads_single_updates() -> None:
    """A new strategy gets a line in the table, or the docs' figures of it are those of attacks made for another."""
    assert {name for name, card in CARDS.items() if name not in STEPS} == {"fedmedian", "trimmed-mean", "krum"}
