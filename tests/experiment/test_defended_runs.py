"""Whole runs under defenses: no success above its bound, and what the figures of defenses make of a run."""

import copy
from pathlib import Path
from typing import Any

import pytest

from palimpsest.simulator.experiment.runner import prepare, simulate
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.figures.all import draw_all
from palimpsest.simulator.figures.defense_price import offers
from palimpsest.simulator.figures.privacy_tradeoff import TradeoffPoint, columns, title
from palimpsest.simulator.results.run_directory import RunFiles
from palimpsest.simulator.results.schema import ArmResult, Bound
from palimpsest.simulator.scenario.load import dump_toml, scenario_from_dict
from tests.support.entries import arm_result, reconstruction

BASE: dict[str, Any] = {
    "name": "defended",
    "data": {"source": "digits", "clients": 6, "partition": {"scheme": "iid"}, "public_fraction": 0.4},
    "deletion": {"requests": 8},
    "model": {"kind": "ridge"},
    "training": {"algorithm": "closed-form"},
    "unlearning": [{"method": "downdate"}],
    "defense": [{"kind": "none"}, {"kind": "dp-statistics", "target_epsilon": [1.0, 30.0]}],
    "runtime": {"backend": "serial"},
}


def _simulate(directory: Path, **changes: Any) -> RunFiles:
    scenario = scenario_from_dict(copy.deepcopy(BASE) | changes)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "scenario.toml").write_text(dump_toml(scenario))
    simulate(scenario, prepare(scenario), directory, SerialGrid(1))
    return RunFiles.open(directory)


@pytest.fixture(scope="module")
def ridge(tmp_path_factory: pytest.TempPathFactory) -> RunFiles:
    """Two seeds of ridge, undefended and under noised statistics."""
    return _simulate(tmp_path_factory.mktemp("ridge"), seeds=[0, 1])


def _bounds(run: RunFiles) -> list[Bound]:
    return [row for arm in run.arms for row in arm.privacy.bounds]


def test_no_success_lies_above_its_bound(ridge: RunFiles) -> None:
    rows = _bounds(ridge)
    assert {row.event for row in rows} == {"top1", "cosine>=0.9", "cosine_centred>=0.5"}
    assert {row.attack for row in rows} >= {"hrec", "average", "max-difference"}
    assert all(row.interval[0] <= row.gamma for row in rows)
    assert all(row.kappa <= row.gamma for row in rows)
    by_arm = {arm.arm: arm.privacy.bounds for arm in ridge.arms}
    assert {row.gamma for row in by_arm["downdate--none--seed0"]} == {1.0}
    gamma = {
        strength: next(
            row.gamma
            for row in by_arm[f"downdate--dp-statistics-{strength}--seed0"]
            if (row.attack, row.event, row.span) == ("hrec", "top1", "sequence")
        )
        for strength in (1, 30)
    }
    assert gamma[1] < 0.03 < gamma[30]


def test_fresh_noise_leaves_nothing_beyond_the_public_mean(ridge: RunFiles) -> None:
    """The centred cosine, 0 for the public mean, stays below 0.1 at epsilon 1; without privacy it is near 1."""
    found = {arm.arm: arm.attacks["hrec"].figure("cosine_centred_median") for arm in ridge.arms}
    assert all((found[f"downdate--dp-statistics-1--seed{seed}"] or 0.0) < 0.1 for seed in (0, 1))
    assert all((found[f"downdate--none--seed{seed}"] or 0.0) > 0.9 for seed in (0, 1))


def test_in_a_chain_the_sequence_allows_more_than_the_pair(tmp_path: Path) -> None:
    """Records deleted late are in several noised releases, but in one of the two around their deletion."""
    run = _simulate(
        tmp_path,
        deletion={"requests": 4, "pattern": "sequential"},
        defense=[{"kind": "dp-statistics", "target_epsilon": 2.0}],
    )
    rows = {row.span: row.gamma for row in _bounds(run) if (row.attack, row.event) == ("hrec", "cosine>=0.9")}
    assert rows["pair"] < rows["sequence"]


def test_nothing_is_bounded_where_labels_are_granted(tmp_path: Path) -> None:
    run = _simulate(tmp_path, adversary={"knows": ["labels"]}, defense=[{"kind": "none"}])
    assert all("bounds" not in arm.privacy.to_json() for arm in run.arms)


def test_the_tradeoff_is_drawn_by_epsilon_with_all_seeds_together(ridge: RunFiles) -> None:
    [(label, points)] = columns(ridge.arms).items()
    assert label.endswith("under dp-statistics")
    assert [round(point.epsilon) for point in points[:2]] == [1, 30]
    assert points[2].epsilon == float("inf")
    assert points[0].retained > points[0].epsilon
    successes, trials, gamma = points[2].pooled("top1", "hrec") or (0, 0, 0.0)
    assert (successes, trials, gamma) == (16, 16, 1.0)
    assert ridge.directory.figure("tradeoff") in draw_all(ridge.directory.path)


def test_the_title_tells_a_bound_from_an_estimate() -> None:
    """A success rate of 1 over 50 deletions, where 0.1 is allowed: of top-1 for certain, of a cosine by an estimate."""

    def titled(event: str) -> str:
        row = {"event": event, "attack": "hrec", "span": "sequence", "n": 50, "kappa": 0.01, "gamma": 0.1}
        bound = {**row, "success": 1.0, "interval": [0.9, 1.0]}
        spent = {"after": {"max": 1.0, "median": 1.0}}
        privacy = {"bounds": [bound], "deleted": spent, "retained": spent}
        points = [TradeoffPoint(1.0, 1.0, (arm_result(defense={"kind": "dp-sgd"}, privacy=privacy),))]
        return title("", {"ascent": points}, [event], 0.05)

    assert titled("top1") == "1 success above their bound"
    assert titled("cosine>=0.9") == "1 success above an estimated bound"


def _arm(kind: str, accuracy: float, cosine: float, **strength: float) -> ArmResult:
    return arm_result(
        defense={"kind": kind, **strength},
        utility={"metric": "accuracy", "trained": 0.9, "unlearned": accuracy, "retrained": 0.9},
        attacks={"hrec": reconstruction(0.9, cosine), "average": reconstruction(0.5, 0.0)},
    )


def test_a_price_is_what_is_taken_from_the_attack_for_each_point_lost() -> None:
    arms = [
        _arm("none", 0.90, 1.0),
        _arm("obfuscation", 0.85, 0.5, sigma=0.1),
        _arm("obfuscation", 0.80, 0.2, sigma=0.3),
        _arm("pruning", 0.90, 0.9),
        _arm("dp-sgd", 0.70, 0.0),
    ]
    [found] = offers(arms).values()
    price = {offer.label: offer.per_point for offer in found}
    assert price["obfuscation (sigma 0.1)"] == pytest.approx(0.5 / 5)
    assert price["obfuscation (sigma 0.3)"] == pytest.approx(0.8 / 10)
    assert price["pruning"] == pytest.approx(0.1)
    assert price["dp-sgd"] == pytest.approx(1.0 / 20)
    assert offers(arms[1:]) == {}
    surely = {offer.label: offer.surely for offer in found}
    assert surely["pruning"]
    assert not surely[""]
    [few] = offers([_arm("none", 0.90, 0.93), *arms[1:]]).values()
    assert {offer.label: offer.surely for offer in few}["pruning"] is False, "intervals of 0.93 and 0.9 overlap"
