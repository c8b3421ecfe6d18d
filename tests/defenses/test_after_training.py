"""Defenses of releases, of the schedule and of solved models: what they change, how much noise, and what it bounds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest

from palimpsest.defenses.batching import Batching
from palimpsest.defenses.dp_statistics import DpStatistics
from palimpsest.defenses.finetuning import Finetuning
from palimpsest.defenses.obfuscation import Obfuscation
from palimpsest.defenses.output_perturbation import OutputPerturbation
from palimpsest.defenses.pruning import Pruning
from palimpsest.defenses.rounding import Rounding
from palimpsest.defenses.stack import Stack
from palimpsest.server.algorithms.ridge import RidgeSolver
from palimpsest.server.setup import TrainingPlan
from palimpsest.server.unlearning.downdate import Downdate
from palimpsest.server.unlearning.retrain import Retrain
from palimpsest.simulator.scenario.load import ScenarioError, scenario_from_dict
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import RIDGE, SOFTMAX, Bench, record_requests
from palimpsest.simulator.world.models.model import flat, theta
from palimpsest.simulator.world.protocols.defense import Defense, Solved
from palimpsest.simulator.world.protocols.federation import Block, Statistics
from palimpsest.simulator.world.protocols.questions import RidgeFactors
from palimpsest.simulator.world.records import Array, DeletionRequest, Release

EXACT = TrainingPlan(algorithm="closed-form")
WIDE = Release(3, 7, "unlearning", {"weight": np.linspace(-2, 2, 40_000).reshape(100, 400), "bias": np.ones(100)})


def assert_gaussian(noise: Array, sigma: float) -> None:
    """The noise has deviation sigma, and neither two thirds of it nor one and a half times."""
    assert kstest(noise.ravel() / sigma, "norm").pvalue > 1e-3
    for wrong in (2 / 3, 3 / 2):
        assert kstest(noise.ravel() / (wrong * sigma), "norm").pvalue < 1e-9


def test_obfuscation_has_the_noise_that_it_says_anew_for_each_release() -> None:
    guard, rng = Obfuscation(sigma=0.3), np.random.default_rng(0)
    first, second = (flat(guard.release(WIDE, rng).params) - flat(WIDE.params) for _ in range(2))
    assert_gaussian(first, 0.3)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_pruning_keeps_the_largest_parameters_as_they_are() -> None:
    released = flat(Pruning(share=0.25).release(WIDE, np.random.default_rng(0)).params)
    whole = flat(WIDE.params)
    assert (released == 0.0).sum() == round(0.25 * len(whole))
    assert np.array_equal(released[released != 0.0], whole[released != 0.0])
    assert np.abs(whole[released == 0.0]).max() <= np.abs(whole[released != 0.0]).min()


@pytest.mark.parametrize("bits", [1, 4, 12])
def test_rounding_is_off_by_half_a_unit_in_the_last_bit_at_most(bits: int) -> None:
    released = flat(Rounding(bits=bits).release(WIDE, np.random.default_rng(0)).params)
    whole = flat(WIDE.params)
    assert np.abs(released / whole - 1.0).max() <= 2.0**-bits
    assert len(np.unique(np.frexp(released)[0])) <= 2 ** (bits + 1)


def test_a_stack_acts_in_its_order() -> None:
    noise, bits = Obfuscation(sigma=0.5), Rounding(bits=2)
    stacked = Stack(of=(noise, bits)).release(WIDE, np.random.default_rng(1))
    by_hand = bits.release(noise.release(WIDE, np.random.default_rng(1)), np.random.default_rng(2))
    assert np.array_equal(flat(stacked.params), flat(by_hand.params))


def _requests(*rounds: int) -> list[DeletionRequest]:
    return [DeletionRequest(i, round, "record", {i % 2: (i,)}) for i, round in enumerate(rounds)]


def test_a_batch_goes_when_it_is_full_or_when_time_is_up() -> None:
    batches = Batching(size=3, rounds=4).schedule(_requests(1, 2, 3, 5, 10, 11))
    assert [(one.index, one.round, one.size) for one in batches] == [(0, 3, 3), (3, 9, 1), (4, 11, 2)]
    assert batches[0].forget == {0: (0, 2), 1: (1,)}
    assert Batching(size=3).schedule([]) == ()


def test_batching_never_mixes_levels_or_classes() -> None:
    mixed = [DeletionRequest(i, 1, "label", {0: (i,)}, label=i % 2) for i in range(4)]
    assert [one.label for one in Batching(size=2).schedule(mixed)] == [0, 1]


def _served(tmp_path: Path, bench: Bench, defense: Any, sequential: bool = False) -> tuple[list[Any], list[Release]]:
    guarded = bench.but(defense=defense or Defense(), directory=tmp_path)
    requests = record_requests(bench.population, 2, bench.plan.rounds if bench.plan.algorithm == "fedavg" else 1)
    return guarded.serve(Retrain(), requests, sequential), guarded.broadcast


def test_finetuning_lets_out_one_model_a_deletion_and_it_has_trained_on(tmp_path: Path) -> None:
    bench = Bench(digits_population(), tmp_path)
    plain, _ = _served(tmp_path / "plain", bench, None)
    tuned, heard = _served(tmp_path / "tuned", bench, Finetuning(rounds=2))
    of_branches = [release for release in heard if release.branch]
    assert [(release.branch, release.phase) for release in of_branches] == [(1, "recovery"), (2, "recovery")]
    assert [release.round for release in of_branches] == [bench.plan.rounds + 2] * 2
    for one, other in zip(plain, tuned, strict=True):
        assert not np.array_equal(flat(one.released), flat(other.released))


def _statistics(tmp_path: Path, clip: float) -> tuple[Statistics, Statistics, DpStatistics]:
    """Of clipped digits, all of them and without one."""
    guard = DpStatistics(clip=clip)
    bench = Bench(digits_population(), tmp_path, spec=guard.model(RIDGE), plan=EXACT)
    [case] = bench.serve(Downdate(), record_requests(bench.population, 1, 1), sequential=True)
    assert case.case.statistics is not None
    one = bench.federation().ask(
        RidgeFactors(bench.spec, [Block(0, 1, tuple(case.case.forgotten), case.case.forgotten)])
    )[0]
    whole = case.case.statistics
    return whole, Statistics(whole.gram - one.root.T @ one.root, whole.moment - one.moment, whole.count - 1), guard


@pytest.mark.parametrize("clip", [0.5, 2.0])
def test_a_record_moves_statistics_by_no_more_than_the_noise_is_made_for(tmp_path: Path, clip: float) -> None:
    whole, less, _ = _statistics(tmp_path, clip)
    bound = np.hypot(clip, 1.0)
    assert np.linalg.norm(whole.gram - less.gram) <= bound**2 + 1e-9
    assert np.linalg.norm(whole.gram - less.gram) == pytest.approx(bound**2, rel=1e-6), "digits are longer than that"
    assert np.linalg.norm(whole.moment - less.moment) <= bound + 1e-9
    moved = abs(np.linalg.eigvalsh(whole.gram)[0] - np.linalg.eigvalsh(less.gram)[0])
    assert moved <= bound**2


def test_statistics_have_the_noise_that_they_pay_for(tmp_path: Path) -> None:
    """sqrt 3 sigma R^2 on each entry of a symmetric Gram matrix, sqrt 3 sigma R B on the moment's."""
    whole, _, guard = _statistics(tmp_path, 2.0)
    rng, upper = np.random.default_rng(0), np.triu_indices(65, 1)
    noised = [guard.statistics(whole, RIDGE.model_copy(update={"row_clip": 2.0}), rng) for _ in range(12)]
    grams = np.stack([one.gram - whole.gram for one in noised])
    assert np.allclose(grams, grams.transpose(0, 2, 1), atol=1e-9)
    assert_gaussian(grams[:, upper[0], upper[1]], np.sqrt(3) * guard.sigma * 5.0)
    assert_gaussian(np.stack([one.moment - whole.moment for one in noised]), np.sqrt(3) * guard.sigma * np.sqrt(5.0))
    assert all(np.linalg.eigvalsh(one.gram + RIDGE.regularisation * np.eye(65))[0] > 0 for one in noised)


def test_only_fresh_noise_hides_a_record(tmp_path: Path) -> None:
    """The pair of ridge models, one with the record and one without, read with the exact Gram matrix.

    With noise kept through the downdate the difference is the record's; with noise of its own for each it is noise.
    """
    whole, less, guard = _statistics(tmp_path, 2.0)
    spec, penalty = RIDGE.model_copy(update={"row_clip": 2.0}), RIDGE.regularisation
    record = np.linalg.eigh(whole.gram - less.gram)[1][:, -1]

    def likeness(before: Statistics, after: Statistics) -> float:
        moved = RidgeSolver(before, penalty).solution - RidgeSolver(after, penalty).solution
        growth = float(np.trace(before.gram - whole.gram)) / len(record)
        read = (whole.gram + (penalty + growth) * np.eye(len(record))) @ moved
        return float(abs(np.linalg.svd(read)[0][:, 0] @ record))

    kept, fresh = [], []
    for draw in range(8):
        before = guard.statistics(whole, spec, np.random.default_rng(draw))
        gone = Statistics(whole.gram - less.gram, whole.moment - less.moment, 1)
        kept.append(likeness(before, Statistics(before.gram - gone.gram, before.moment - gone.moment, 0)))
        fresh.append(likeness(before, guard.statistics(less, spec, np.random.default_rng(1000 + draw))))
    assert np.median(kept) > 0.9
    assert np.median(fresh) < 0.5


@pytest.mark.parametrize(("spec", "algorithm"), [(RIDGE, "closed-form"), (SOFTMAX, "lbfgs")])
def test_no_record_moves_the_minimiser_further_than_the_noise_is_made_for(
    tmp_path: Path, spec: Any, algorithm: str
) -> None:
    """Refits without each of some records stay within the sensitivity, for softmax within a factor of 30 of it."""
    guard = OutputPerturbation(clip=1.0)
    plan = TrainingPlan(algorithm=algorithm, gradient_norm=1e-8)  # type: ignore[arg-type]
    exact = guard.model(spec.model_copy(update={"dtype": "float64"}))
    bench = Bench(digits_population(), tmp_path, spec=exact, plan=plan)
    done = bench.serve(Retrain(coupling="same-order"), record_requests(bench.population, 10, 1))
    moved = [np.linalg.norm(flat(one.released) - flat(one.case.before)) for one in done]
    tolerance = 1e-8 if algorithm == "lbfgs" else 0.0
    allowed = guard.sensitivity(Solved(exact, 300, tolerance, np.random.default_rng(0)))
    assert max(moved) < allowed
    if spec.kind == "softmax":
        assert max(moved) > allowed / 30


def test_solutions_have_the_noise_that_they_pay_for() -> None:
    guard = OutputPerturbation(clip=2.0, noise_multiplier=3.0)
    spec = SOFTMAX.model_copy(update={"row_clip": 2.0})
    about = Solved(spec, 300, 1e-6, np.random.default_rng(0))
    expected = 3.0 * (np.sqrt(2.0) * np.sqrt(5.0) + 2e-6) / spec.regularisation
    assert_gaussian(flat(guard.solution(WIDE.params, about)) - flat(WIDE.params), expected)


@pytest.mark.parametrize("kind", [DpStatistics, OutputPerturbation])
def test_every_solution_is_charged_and_has_noise_of_its_own(tmp_path: Path, kind: Any) -> None:
    """In a chain of two deletions those who stay pay three times, the first deleted record once, the second twice."""
    bench = Bench(digits_population(), tmp_path, spec=RIDGE, plan=EXACT)
    guard = kind(noise_multiplier=4.0)
    guarded = bench.but(defense=guard, spec=guard.model(RIDGE))
    done = guarded.serve(Retrain(coupling="same-order"), record_requests(bench.population, 2, 1), sequential=True)
    account = guarded.account
    paid = [account.spent(0, client, 0)[4.0, 1.0] for one in done for client in one.case.request.forget]
    assert paid == [1, 2]
    assert max(spent[4.0, 1.0] for spent in account.of_everybody(0)) == 3
    plain = Bench(digits_population(), tmp_path / "plain", spec=guard.model(RIDGE), plan=EXACT)
    plain.serve(Retrain(coupling="same-order"), record_requests(bench.population, 2, 1), sequential=True)
    noise = [theta(a.params) - theta(b.params) for a, b in zip(guarded.broadcast, plain.broadcast, strict=True)]
    for one, other in ((0, 1), (1, 2)):
        assert np.abs(noise[one] - noise[other]).max() > 0.1 * np.abs(noise[one]).max()


def _scenario(defense: dict[str, Any], **changes: Any) -> Any:
    base = {
        "name": "t",
        "data": {"source": "digits", "clients": 4},
        "model": {"kind": "ridge"},
        "training": {"algorithm": "closed-form"},
        "unlearning": [{"method": "downdate"}],
        "defense": [defense],
    }
    return scenario_from_dict(base | changes)


def test_impossible_combinations_are_refused_in_one_sentence() -> None:
    with pytest.raises(ScenarioError, match="iterates before it are broadcast"):
        _scenario(
            {"kind": "output-perturbation"},
            training={"algorithm": "lbfgs"},
            unlearning=[{"method": "retrain"}],
            adversary={"sees": "broadcasts"},
        )
    with pytest.raises(ScenarioError, match="works on closed-form"):
        _scenario({"kind": "dp-statistics"}, training={"algorithm": "lbfgs"}, unlearning=[{"method": "retrain"}])
    with pytest.raises(ScenarioError, match="rests on noise that the seed gives away"):
        _scenario({"kind": "dp-statistics"}, adversary={"knows": ["seeds"]})
    with pytest.raises(ScenarioError, match="each set the noise"):
        _scenario({"kind": "dp-statistics", "noise_multiplier": 1.0, "target_epsilon": 1.0})
    with pytest.raises(ScenarioError, match="fedavg"):
        _scenario({"kind": "finetuning"})


def test_private_statistics_stack_with_what_acts_on_releases() -> None:
    stacked = _scenario({"kind": "stack", "of": [{"kind": "dp-statistics"}, {"kind": "rounding"}, {"kind": "pruning"}]})
    assert stacked.defense[0]["of"][0]["kind"] == "dp-statistics"
