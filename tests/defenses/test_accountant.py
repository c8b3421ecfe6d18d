"""What spending amounts to, against two other accountants, and who pays for what."""

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution, from_gaussian_mechanism
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import RDPAccountant

from palimpsest.defenses.accountant import Accountant, epsilon
from palimpsest.defenses.calibration import smallest_noise
from palimpsest.defenses.losses import sampled_gaussian
from palimpsest.simulator.world.privacy.account import Account, Charge
from palimpsest.simulator.world.privacy.gaussian import gaussian_delta

DELTA = 1e-5
ROUND = 100
"""Steps of a round of the example: sigma 1, sampling rate 0.01."""


def _theirs(accountant: RdpAccountant | PLDAccountant, spending: dict[tuple[float, float], int]) -> float:
    for (sigma, rate), steps in spending.items():
        event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(sigma))
        accountant.compose(event, steps)
    return float(accountant.get_epsilon(DELTA))


def _opacus(spending: dict[tuple[float, float], int]) -> float:
    accountant = RDPAccountant()
    accountant.history = [(sigma, rate, steps) for (sigma, rate), steps in spending.items()]
    return float(accountant.get_epsilon(DELTA))


def _unsampled(spending: dict[tuple[float, float], int]) -> float:
    mu = math.sqrt(sum(steps / sigma**2 for (sigma, _), steps in spending.items()))
    return float(dp_accounting.get_epsilon_gaussian(1.0 / mu, DELTA))


def _optimistic(sigma: float, rate: float, steps: int) -> PrivacyLossDistribution:
    step = from_gaussian_mechanism(sigma, pessimistic_estimate=False, sampling_prob=rate)
    return step.self_compose(steps)


@pytest.mark.parametrize(("rounds", "expected"), [(1, 1.21), (50, 4.59), (100, 6.71), (150, 8.46)])
def test_fifty_rounds_and_two_retrainings_of_fifty(rounds: int, expected: float) -> None:
    """One round costs 1.21 by itself; none, one and two retrainings of fifty rounds 4.59, 6.71 and 8.46."""
    spent = epsilon({(1.0, 0.01): ROUND * rounds}, DELTA, "rdp")
    assert spent == pytest.approx(expected, abs=0.01)
    assert spent == pytest.approx(_opacus({(1.0, 0.01): ROUND * rounds}), abs=1e-9)


MIXTURES: list[dict[tuple[float, float], int]] = [
    {(1.0, 0.01): 5000},
    {(0.9, 0.25): 8, (1.3, 0.1): 40, (2.0, 1.0): 3},
]
GRID: list[dict[tuple[float, float], int]] = [
    {(sigma, rate): steps}
    for sigma in (0.6, 1.0, 2.5, 20.0)
    for rate in (0.01, 0.1, 0.4)
    for steps in (1, 20, 300, 2000)
] + MIXTURES


@pytest.mark.parametrize("spending", GRID, ids=str)
def test_fifty_settings_agree_with_opacus_and_dp_accounting(spending: dict[tuple[float, float], int]) -> None:
    rdp, pld, tightest = (epsilon(spending, DELTA, how) for how in ("rdp", "pld", "tightest"))
    closed, opacus = _unsampled(spending), _opacus(spending)
    finest = 1e-3 if min(spending)[0] < 10.0 else 1e-5
    exact = _theirs(PLDAccountant(value_discretization_interval=finest), spending)
    assert pld == pytest.approx(min(exact, closed), rel=5e-3, abs=5e-4)
    assert min(exact, closed) - 5e-3 <= rdp <= opacus + 1e-9
    if all(sigma < 10.0 for sigma, _ in spending):  # beyond, Opacus' orders end before the best one
        assert rdp == pytest.approx(min(opacus, closed), abs=1e-9)
    assert tightest == min(rdp, pld)


@pytest.mark.parametrize("spending", MIXTURES)
def test_prv_agrees_with_privacy_loss_distributions(spending: dict[tuple[float, float], int]) -> None:
    exact = _theirs(PLDAccountant(), spending)
    assert exact - 1e-3 <= epsilon(spending, DELTA, "prv") <= exact + 0.03


@pytest.mark.parametrize("accountant", ["tightest", "rdp", "pld", "prv"])
@pytest.mark.parametrize("mu", [1e-3, 0.1, 1.0, 30.0, 1e4])
def test_without_sampling_every_accountant_gives_the_exact_value(mu: float, accountant: Accountant) -> None:
    """Three mechanisms together are one of mu-GDP; delta at its epsilon is the target again (another formula)."""
    paid = {(2.0 / mu, 1.0): 1, (math.sqrt(8.0 / 3.0) / mu, 1.0): 2}
    spent = epsilon(paid, DELTA, accountant)
    assert gaussian_delta(spent, 1.0 / mu, 1.0) == pytest.approx(DELTA, rel=1e-6 * max(1.0, mu))


@pytest.mark.parametrize("accountant", ["tightest", "rdp", "pld", "prv"])
@pytest.mark.parametrize("delta", [1e-12, 1e-5, 0.05, 0.9])
@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 300.0, 1e6])
def test_no_noise_ends_in_an_error_or_below_zero_or_in_infinity(
    sigma: float, delta: float, accountant: Accountant
) -> None:
    spent = [epsilon({(sigma, rate): 20}, delta, accountant) for rate in (1e-3, 0.25, 1.0)]
    assert all(0.0 <= value < math.inf for value in spent)
    assert max(spent) == spent[-1]


def test_sampling_and_noise_lower_what_is_spent() -> None:
    by_sigma = [epsilon({(sigma, 0.1): 50}, DELTA) for sigma in (0.05, 0.3, 1.0, 3.0, 30.0)]
    by_rate = [epsilon({(0.8, rate): 50}, DELTA) for rate in (1.0, 0.5, 0.1, 0.01)]
    assert by_sigma == sorted(by_sigma, reverse=True)
    assert by_rate == sorted(by_rate, reverse=True)


def test_half_the_noise_is_seen_by_a_second_accountant() -> None:
    """An accountant that takes sigma for twice what it is falls below what dp-accounting says from below."""
    spending = {(1.0, 0.1): 100}
    least = float(_optimistic(1.0, 0.1, 100).get_epsilon_for_delta(DELTA))
    assert least <= epsilon(spending, DELTA) <= 1.02 * least
    assert epsilon({(2.0, 0.1): 100}, DELTA) < least


def test_nothing_spent_is_nothing() -> None:
    assert epsilon({}, DELTA) == 0.0


@pytest.mark.parametrize("target", [1e-9, 1e-3, 1e3, 1e13])
def test_targets_far_out_are_met_or_refused_with_the_lowest(target: float) -> None:
    def spends(sigma: float) -> float:
        return epsilon({(sigma, 1.0): 4}, DELTA)

    try:
        assert spends(smallest_noise(spends, target)) <= target
    except ValueError as error:
        assert f"the lowest is {spends(1e6):.2g}" in str(error)
        assert target < spends(1e6)


def test_calibration_never_exceeds_the_target_and_wastes_little() -> None:
    def spends(sigma: float) -> float:
        return epsilon({(sigma, 0.1): 100}, DELTA)

    sigma = smallest_noise(spends, 2.0)
    assert 1.95 < spends(sigma) <= 2.0


def test_who_pays() -> None:
    """Retained units pay for all that follows; deleted ones keep what they spent, and pay for what reads them."""
    account, price, ascent = Account("record", np.array([3, 2])), Charge(1.0, 0.1, 5), Charge(1.0)
    account.charge(0, [0, 1], {}, price)
    account.mark(1)
    account.charge(0, [0], {}, price)
    account.mark(2)
    for branch, round in ((1, 1), (2, 2)):
        account.fork(branch, round=round)
        account.charge(branch, [0], {0: (2,)}, ascent, of="forgotten")
        account.charge(branch, [0, 1], {0: (2,)}, price)
    assert account.spent(0, 0) == {(1.0, 0.1): 10}
    assert account.spent(1, 0) == {(1.0, 0.1): 10}  # a round of the trunk it saw, and a round of its own
    assert account.spent(1, 0, record=2) == {(1.0, 0.1): 5, (1.0, 1.0): 1}
    assert account.spent(2, 0) == {(1.0, 0.1): 15}
    assert account.spent(2, 0, record=2) == {(1.0, 0.1): 10, (1.0, 1.0): 1}
    assert account.spent(2, 1) == {(1.0, 0.1): 10}
    assert account.of_everybody(2) == [account.spent(2, client) for client in range(2)]
    chain = account.copy()
    chain.rewind(1)
    chain.charge(0, None, {}, price)
    assert [chain.spent(0, client) for client in range(2)] == [{(1.0, 0.1): 10}, {(1.0, 0.1): 10}]
    assert account.spent(0, 1) == {(1.0, 0.1): 5}


def test_a_client_that_keeps_records_goes_on_paying_and_one_without_stops() -> None:
    account = Account("client", np.array([3, 2]))
    account.charge(0, [0, 1], {}, Charge(2.0))
    account.charge(0, [0, 1], {0: (0,), 1: (0, 1)}, Charge(2.0))
    assert [account.spent(0, client) for client in range(2)] == [{(2.0, 1.0): 2}, {(2.0, 1.0): 1}]


@pytest.mark.parametrize("sigma", [0.3, 1.0, 6.0])
@pytest.mark.parametrize("rate", [0.001, 0.2, 0.99, 1.0])
def test_losses_of_a_step_are_those_of_dp_accounting(sigma: float, rate: float) -> None:
    """They are computed at once, not one by one: no epsilon and no divergence may change by more than rounding."""
    interval = max(1e-4, (0.5 / sigma**2 + 10.0 / sigma) / 2000)
    step = sampled_gaussian(sigma, rate, interval)
    theirs = from_gaussian_mechanism(sigma, sampling_prob=rate, value_discretization_interval=interval)
    ours, same = step.self_compose(7), theirs.self_compose(7)
    assert ours.get_epsilon_for_delta(DELTA) == pytest.approx(same.get_epsilon_for_delta(DELTA), rel=1e-9, abs=1e-12)
    for at in (-0.5, 0.0, 0.3, 2.0):
        expected = theirs.get_delta_for_epsilon(at)
        assert step.get_delta_for_epsilon(at) == pytest.approx(expected, rel=1e-9, abs=1e-14)
