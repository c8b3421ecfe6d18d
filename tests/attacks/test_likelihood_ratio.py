"""The likelihood ratio is what Neyman and Pearson say, where it claims to be exact; the posterior mean errs least."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from palimpsest.attacks.likelihood_ratio import LikelihoodRatio, mixture
from palimpsest.attacks.observations import Observation
from palimpsest.attacks.posterior_mean import PosteriorMean
from palimpsest.defenses.bound import gaussian_blow_up
from palimpsest.defenses.output_perturbation import OutputPerturbation
from palimpsest.simulator.testing.transcripts import Data, digits, optimum
from palimpsest.simulator.world.models.model import linear_params, theta
from palimpsest.simulator.world.protocols.defense import Solved
from palimpsest.simulator.world.protocols.knowledge import CaseView, KnownRecords, PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Challenge, Params
from tests.support.noise import is_normal

ROUNDS, TRIALS, CLIP, RATE, REST = 4, 150, 0.5, 0.3, 6
DATA = digits(private=REST + 40, public=60)
RECORD, LABEL = 4.0 * DATA.x[-1], int(DATA.y[-1])
"""So long that its gradient is always cut to the clip."""


def _residuals(matrix: Array, x: Array, y: Array) -> Array:
    scores = np.column_stack([x, np.ones(len(x))]) @ matrix
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.eye(10)[y] - odds / odds.sum(axis=1, keepdims=True)


def _sum_of_clipped(matrix: Array, x: Array, y: Array) -> Array:
    """By outer products: a record's gradient is -x~ r^T, whose length is a product of two."""
    features, residual = np.column_stack([x, np.ones(len(x))]), _residuals(matrix, x, y)
    length = np.linalg.norm(features, axis=1) * np.linalg.norm(residual, axis=1)
    return -(features * np.minimum(1.0, CLIP / length)[:, None]).T @ residual


def _trained(rng: np.random.Generator, sigma: float, present: bool) -> list[Params]:
    """Full-batch steps of one client, noised as DP-SGD does it."""
    x, y = DATA.x[:REST], DATA.y[:REST]
    if present:
        x, y = np.concatenate([x, RECORD[None]]), np.append(y, LABEL)
    models = [np.zeros((65, 10))]
    for _ in range(ROUNDS):
        noise = sigma * CLIP * rng.standard_normal((65, 10))
        models.append(models[-1] - RATE / (REST + 1) * (_sum_of_clipped(models[-1], x, y) + noise))
    return [linear_params(matrix) for matrix in models]


def _knowledge(sigma: float, data: Data = DATA, **training: Any) -> PublicKnowledge:
    known = data.knowledge(data.spec("softmax", 0.0))
    facts = known.facts.model_copy(
        update={
            "n": REST + 1,
            "clients": 1,
            "algorithm": "fedsgd",
            "training": {"learning_rate": RATE, "clients_per_round": 0, "sampling": None, "local_steps": 0} | training,
            "operator": "unknown",
            "defense": ({"kind": "dp-sgd", "noise_multiplier": sigma, "clip": CLIP},),
        }
    )
    asked = Challenge(RECORD[None], np.array([LABEL]))
    return replace(known, facts=facts, challenge=asked, rest=KnownRecords(data.x[:REST], data.y[:REST]))


def _ratios(trained: Sequence[Sequence[Params]], knowledge: PublicKnowledge) -> Array:
    cases = [
        Case(i, 1, models[0], models[-1], trunk=models, branch=trained[0]) for i, models in enumerate(trained)
    ]  # the branch has not read the record, and who knows the rest does not need it
    answers = LikelihoodRatio().run(cases, knowledge, np.random.default_rng(0))
    return np.array([answer.deleted[0] for answer in answers])


def test_with_the_rest_known_it_is_the_log_likelihood_ratio_of_two_gaussians() -> None:
    """N(-mu^2/2, mu^2) without the record and N(mu^2/2, mu^2) with it, mu^2 = rounds / sigma^2: its ROC is therefore
    Phi(Phi^-1(alpha) + mu), the trade-off curve of all that was paid, which no test can pass."""
    sigma = 1.4
    mu = np.sqrt(ROUNDS) / sigma
    rng = np.random.default_rng(1)
    worlds = [[_trained(rng, sigma, present) for _ in range(TRIALS)] for present in (False, True)]
    absent, present = (_ratios(trained, _knowledge(sigma)) for trained in worlds)
    assert is_normal((absent + mu**2 / 2) / mu, 1.0)
    assert is_normal((present - mu**2 / 2) / mu, 1.0)
    for wrong in (sigma / 1.5, 1.5 * sigma):
        other = np.sqrt(ROUNDS) / wrong
        assert not is_normal((_ratios(worlds[0], _knowledge(wrong)) + other**2 / 2) / other, 1.0)
    for alpha in (0.05, 0.3):
        threshold = norm.isf(alpha) * mu - mu**2 / 2
        found = binomtest(int((present > threshold).sum()), TRIALS, gaussian_blow_up(mu, alpha))
        assert found.pvalue > 1e-3


def test_under_output_perturbation_it_is_the_ratio_of_two_gaussians_too() -> None:
    """The pair of noised ridge solutions: D = A^-1 x~ r^T + sqrt 2 noise, A of the others, r by the model before."""
    data = replace(DATA, x=DATA.x / np.linalg.norm(DATA.x, axis=1, keepdims=True))
    guard = OutputPerturbation(noise_multiplier=1e-3, clip=1.0)
    spec = guard.model(data.spec("ridge", 5.0))
    exact = [
        optimum(data.spec("ridge", 5.0), data.x[: len(data.x) - gone], data.y[: len(data.y) - gone]) for gone in (0, 1)
    ]
    features = np.column_stack([data.x, np.ones(len(data.x))])
    signal = np.linalg.norm(exact[0] - exact[1])
    deviation = guard.sigma * guard.sensitivity(Solved(spec, len(data.x), 0.0, np.random.default_rng(0)))
    guard = guard.model_copy(update={"noise_multiplier": guard.sigma * signal / (3.0 * deviation)})
    about = Solved(spec, len(data.x), 0.0, np.random.default_rng(3))
    plain = data.knowledge(spec)
    facts = plain.facts.model_copy(update={"defense": (guard.model_dump(),), "n": len(data.x)})
    known = replace(
        plain,
        facts=facts,
        challenge=Challenge(data.x[-1:], data.y[-1:]),
        rest=KnownRecords(data.x[:-1], data.y[:-1]),
    )
    pairs = [[guard.solution(linear_params(matrix), about) for matrix in exact] for _ in range(TRIALS)]
    cases = [Case(i, 1, before, after) for i, (before, after) in enumerate(pairs)]
    found = np.array([one.deleted[0] for one in LikelihoodRatio().run(cases, known, np.random.default_rng(0))])
    # Before is noisy, and with it r: the mean of each ratio is mu^2 / 2 for the mu of its own r.
    noise = np.sqrt(2.0) * guard.sigma * guard.sensitivity(about)
    inverse = np.linalg.inv(features[:-1].T @ features[:-1] + 5.0 * np.eye(65)) @ features[-1]
    residual = np.eye(10)[int(data.y[-1])] - np.stack([features[-1] @ theta(before) for before, _ in pairs])
    mu = np.linalg.norm(inverse) * np.linalg.norm(residual, axis=1) / noise
    assert mu.mean() == pytest.approx(3.0 / np.sqrt(2.0), rel=0.1)
    assert np.mean((found - mu**2 / 2) / mu) == pytest.approx(0.0, abs=0.3)
    assert np.std((found - mu**2 / 2) / mu) == pytest.approx(1.0, abs=0.2)


def test_unknown_coins_are_a_mixture() -> None:
    """Against densities written out: b of three coins fell, and the mean is b over what is expected."""
    readings, probability = np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.3, 0.2])
    at, mean, deviation = np.array([-1.0, 0.3, 4.0]), 1.7, 0.9
    density = sum(p * norm.pdf(at, b * mean, deviation) for b, p in zip(readings, probability, strict=True))
    wanted = np.log(density / norm.pdf(at, 0.0, deviation))
    found = mixture(at * mean / deviation**2, np.full(3, (mean / deviation) ** 2), readings, probability)
    assert found == pytest.approx(wanted)


def test_what_others_add_is_a_covariance() -> None:
    rng = np.random.default_rng(0)
    factor, deviation = rng.standard_normal((5, 12)), rng.uniform(0.5, 2.0, 12)
    seen = Observation(np.zeros(12), (), 0.0, deviation, factor, np.ones(1), np.ones(1))
    vectors = rng.standard_normal((3, 12))
    inverse = np.linalg.inv(np.diag(deviation**2) + factor.T @ factor)
    assert seen.precise(vectors) == pytest.approx(vectors @ inverse)
    assert seen.squares(vectors) == pytest.approx(np.diag(vectors @ inverse @ vectors.T))


@pytest.mark.parametrize(("sigma", "better"), [(0.0, 0.01), (0.003, 0.15), (0.1, 0.9), (1e4, 1.02)])
def test_the_posterior_mean_errs_least(sigma: float, better: float) -> None:
    """One noised step on the record: from nearly no error to the public mean's, and never beyond either."""
    data = digits(private=60, public=900)
    spec = data.spec("softmax", 0.0)
    rng, step = np.random.default_rng(2), 0.7
    start = 0.1 * rng.standard_normal((65, 10))
    known = data.knowledge(spec, "identity", step)
    defense = ({"kind": "dp-sgd", "noise_multiplier": sigma, "clip": 1.0},)
    known = replace(known, facts=known.facts.model_copy(update={"defense": defense}))
    cases = []
    for i in range(40):
        features, residual = np.append(data.x[i], 1.0), _residuals(start, data.x[i : i + 1], data.y[i : i + 1])[0]
        gradient = -np.outer(features, residual)
        gradient *= min(1.0, 1.0 / np.linalg.norm(gradient))
        moved = start + step * (gradient + sigma * rng.standard_normal(start.shape))
        cases.append(Case(i, 1, linear_params(start), linear_params(moved)))
    answers = PosteriorMean().run(cases, known, rng)
    error = np.mean([((answer.x[0] - x) ** 2).mean() for answer, x in zip(answers, data.x, strict=False)])
    assert error < better * ((data.x[:40] - known.mean) ** 2).mean()


@pytest.mark.parametrize(("rest", "better"), [(True, 0.1), (False, 1.0)])
def test_the_posterior_mean_reads_noised_solutions_as_the_inverse_of_the_gram_matrix_shows_them(
    rest: bool, better: float
) -> None:
    """Ridge under little noise on the parameters: what is seen is A^-1 x~ r^T, and no record's direction itself."""
    data, sigma = digits(private=60, public=600), 1e-6
    spec = data.spec("ridge", 5.0)
    known, rng, error = data.knowledge(spec), np.random.default_rng(0), []
    facts = known.facts.model_copy(update={"defense": ({"kind": "obfuscation", "sigma": sigma},)})
    for i in range(10):
        kept = np.arange(len(data.x)) != i
        before, after = (
            optimum(spec, data.x[some], data.y[some]) + sigma * rng.standard_normal((65, 10))
            for some in (np.ones(len(data.x), bool), kept)
        )
        granted = KnownRecords(data.x[kept], data.y[kept]) if rest else None
        case = Case(0, 1, linear_params(before), linear_params(after))
        [answer] = PosteriorMean().run([case], replace(known, facts=facts, rest=granted), rng)
        error.append(((answer.x[0] - data.x[i]) ** 2).mean())
    assert np.mean(error) < better * ((data.x[:10] - known.mean) ** 2).mean()


def test_with_the_rest_known_several_deletions_are_told_apart() -> None:
    """``rest`` leaves out all of them: the training alone says the same of each, its unlearnings do not."""
    x, y, deleted = DATA.x, DATA.y, np.arange(REST, REST + 3)
    known = _knowledge(1e-3)
    views = tuple(CaseView(before=ROUNDS, after=ROUNDS, size=1) for _ in deleted)
    facts = known.facts.model_copy(update={"n": REST + 3, "cases": views})
    known = replace(known, facts=facts, challenge=Challenge(x[deleted], y[deleted]))
    rng = np.random.default_rng(4)
    everybody = np.arange(REST + 3)
    trunk = _noised(rng, everybody)
    branches = [_noised(rng, np.delete(everybody, one)) for one in deleted]
    cases = [Case(i, 1, trunk[-1], some[-1], trunk=trunk, branch=some) for i, some in enumerate(branches)]
    scores = np.stack([one.deleted for one in LikelihoodRatio().run(cases, known, rng)])
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]


def _noised(rng: np.random.Generator, places: Array) -> list[Params]:
    """Steps on some records, at the weights of all."""
    models = [np.zeros((65, 10))]
    for _ in range(ROUNDS):
        noise = 1e-3 * CLIP * rng.standard_normal((65, 10))
        moved = _sum_of_clipped(models[-1], DATA.x[places], DATA.y[places]) + noise
        models.append(models[-1] - RATE / (REST + 3) * moved)
    return [linear_params(matrix) for matrix in models]
