"""The bound on reconstruction: closed forms, an independent composition, and adversaries who come close to it."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from palimpsest.defenses.bound import blow_up, gaussian_blow_up, group_blow_up


@pytest.mark.parametrize(("mu", "gamma"), [(0.5, 0.034), (1, 0.092), (2, 0.372), (4, 0.953)])
def test_the_closed_form_of_one_gaussian_mechanism(mu: float, gamma: float) -> None:
    """kappa = 0.01: Phi(Phi^-1(kappa) + mu), to the published digits."""
    assert blow_up({(1 / mu, 1.0): 1}, 0.01) == pytest.approx(gamma, abs=5e-4)


def test_gaussian_mechanisms_compose_by_their_squares() -> None:
    spending = {(2.0, 1.0): 3, (1.0, 1.0): 2, (0.5, 0.0): 7, (0.1, 1.0): 0}
    assert blow_up(spending, 0.05) == pytest.approx(gaussian_blow_up(math.sqrt(0.75 + 2), 0.05), rel=1e-12)


def test_a_group_pays_k_mu() -> None:
    """kappa = 0.001, mu = 0.5: 0.0048 for one record, 0.92 for nine; and k mu for any k."""
    one = {(2.0, 1.0): 1}
    assert group_blow_up([one], 0.001) == pytest.approx(0.0048, abs=5e-5)
    assert group_blow_up([one] * 9, 0.001) == pytest.approx(0.92, abs=5e-3)
    for k in (2, 3, 7):
        assert group_blow_up([one] * k, 0.02) == pytest.approx(gaussian_blow_up(0.5 * k, 0.02), rel=1e-9)


def test_the_ends() -> None:
    assert blow_up({}, 0.3) == 0.3
    assert group_blow_up([], 0.3) == 0.3
    assert blow_up({(0.0, 1.0): 1}, 0.01) == 1.0
    assert blow_up({(1.0, 0.1): 10}, 1.0) == 1.0
    with pytest.raises(ValueError, match="must be a probability"):
        blow_up({}, 1.1)


def test_gamma_grows_with_kappa_and_with_every_step() -> None:
    kappas = np.linspace(0.001, 0.999, 9)
    few, many = ([blow_up({(1.0, 0.2): steps}, k) for k in kappas] for steps in (2, 10))
    assert np.all(np.diff(few) > 0)
    assert np.all(np.array(many) > few)
    assert np.all(few >= kappas)
    assert np.all(np.diff(few, 2) < 1e-9), "1 - f is concave"


def _loss_masses(rate: float, noise: float, steps: int, present: bool, width: float) -> np.ndarray:
    """Distribution of the log likelihood ratio (present against absent), ascending, by powers of a Fourier transform.

    Rounded to the nearest multiple of ``width``, so neither up nor down: an oracle, no bound.
    """
    x = np.linspace(-12 * noise, 12 * noise + 1, 400_001)
    absent, shifted = norm.pdf(x, 0, noise), norm.pdf(x, 1, noise)
    mass = ((1 - rate) * absent + rate * shifted) if present else absent
    loss = np.log1p(rate * np.expm1((2 * x - 1) / (2 * noise**2)))
    count = 1 << 17
    bins = np.zeros(count)
    np.add.at(bins, np.round(loss / width).astype(int) % count, mass / mass.sum())
    composed = np.fft.irfft(np.fft.rfft(bins) ** steps, count)
    return np.fft.fftshift(composed)


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.1, 30), (0.7, 0.3, 10)])
def test_subsampled_composition_against_an_independent_one(noise: float, rate: float, steps: int) -> None:
    """gamma is the worse of: the most powerful test of absent against present, and of present against absent."""
    absent = _loss_masses(rate, noise, steps, False, 1e-3)
    present = _loss_masses(rate, noise, steps, True, 1e-3)
    for kappa in (0.001, 0.01, 0.1, 0.5):
        forward = np.interp(kappa, np.cumsum(absent[::-1]), np.cumsum(present[::-1]))
        backward = np.interp(kappa, np.cumsum(present), np.cumsum(absent))
        gamma = blow_up({(noise, rate): steps}, kappa)
        assert gamma == pytest.approx(max(forward, backward), rel=5e-3)


def test_without_subsampling_both_computations_agree() -> None:
    """A rate just below 1 goes through loss distributions; its gamma is an upper bound, and a close one."""
    for kappa in (0.001, 0.1, 0.9):
        exact = gaussian_blow_up(1.0, kappa)
        assert exact - 1e-9 <= blow_up({(2.0, 1.0 - 1e-9): 4}, kappa) == pytest.approx(exact, rel=1e-3)


def test_an_optimal_adversary_comes_close_and_never_above() -> None:
    """Sixty subsampled steps; the likelihood ratio's threshold is where it errs with probability kappa."""
    rng, steps, rate, noise, trials = np.random.default_rng(0), 60, 0.1, 1.2, 100_000

    def ratios(present: bool) -> np.ndarray:
        total = np.zeros(trials)
        for _ in range(steps):
            x = noise * rng.standard_normal(trials) + (present & (rng.random(trials) < rate))
            total += np.log1p(rate * np.expm1((2 * x - 1) / (2 * noise**2)))
        return total

    absent, present = ratios(False), ratios(True)
    for kappa in (0.01, 0.1):
        success = (present > np.quantile(absent, 1 - kappa)).mean()
        gamma = blow_up({(noise, rate): steps}, kappa)
        assert 0.85 * gamma < success < gamma + 4 * math.sqrt(gamma / (kappa * trials))


@pytest.mark.parametrize("mu", [1.0, 3.0])
def test_picking_the_record_out_of_ten_stays_below_gamma(mu: float) -> None:
    """Ten orthogonal records, one of them in a noisy sum; the best guess names the largest coordinate."""
    rng, trials, among = np.random.default_rng(1), 100_000, 10
    released = rng.standard_normal((trials, among))
    released[:, 0] += mu
    success = (released.argmax(axis=1) == 0).mean()
    assert 0.7 * gaussian_blow_up(mu, 1 / among) < success < gaussian_blow_up(mu, 1 / among)
