"""What spending amounts to, against two other accountants, and who pays for what."""

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import RDPAccountant

from palimpsest.defenses.accountant import epsilon
from palimpsest.defenses.calibration import smallest_noise
from palimpsest.simulator.world.privacy.account import Account, Charge

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


@pytest.mark.parametrize(("rounds", "expected"), [(1, 1.21), (50, 4.59), (100, 6.71), (150, 8.46)])
def test_fifty_rounds_and_two_retrainings_of_fifty(rounds: int, expected: float) -> None:
    """One round costs 1.21 by itself; none, one and two retrainings of fifty rounds 4.59, 6.71 and 8.46."""
    found = epsilon({(1.0, 0.01): ROUND * rounds}, DELTA)
    assert found == pytest.approx(expected, abs=0.01)
    assert found == pytest.approx(_opacus({(1.0, 0.01): ROUND * rounds}), abs=1e-9)


MIXTURES: list[dict[tuple[float, float], int]] = [
    {(1.0, 0.01): 5000},
    {(0.9, 0.25): 8, (1.3, 0.1): 40, (2.0, 1.0): 3},
    {(4.0, 1.0): 1},
]


@pytest.mark.parametrize("spending", MIXTURES)
def test_mixtures_agree_with_opacus_and_dp_accounting(spending: dict[tuple[float, float], int]) -> None:
    found = epsilon(spending, DELTA)
    assert found == pytest.approx(_opacus(spending), abs=1e-9)
    assert found == pytest.approx(_theirs(RdpAccountant(), spending), rel=0.02)


def test_prv_is_tighter_and_agrees_with_privacy_loss_distributions() -> None:
    spending = {(2.0, 0.1): 50}
    exact = _theirs(PLDAccountant(), spending)
    assert exact - 1e-3 <= epsilon(spending, DELTA, "prv") <= exact + 0.03 < epsilon(spending, DELTA)


def test_nothing_spent_is_nothing() -> None:
    assert epsilon({}, DELTA) == 0.0


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
