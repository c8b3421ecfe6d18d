"""Successes beside their bounds: intervals, priors, and a bound that tells honest accounts from wrong ones."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm

from palimpsest.defenses.bound import gaussian_blow_up
from palimpsest.server.session import Processed
from palimpsest.simulator.attack_metrics.bounds import bounds, spans_of
from palimpsest.simulator.attack_metrics.priors import Share, best_guess, priors
from palimpsest.simulator.planning.drawing import weighed_chance
from palimpsest.simulator.world.privacy.account import Account, Charge, Spending
from palimpsest.simulator.world.protocols.unlearning import UnlearningCase
from palimpsest.simulator.world.records import Array, DeletionRequest

MANY = 400


def _named(mu: float, cases: int, candidates: int, rng: np.random.Generator) -> pd.DataFrame:
    """Scores of the best attack on ``candidates`` orthogonal records, one of them in a sum with noise 1 / mu."""
    released = rng.standard_normal((cases, candidates))
    released[:, 0] += mu
    rank = 1 + (released[:, 1:] > released[:, :1]).sum(axis=1)
    zeros = np.zeros(cases)
    columns = {"case": np.arange(cases), "rank": rank, "candidates": candidates, "cosine": zeros}
    return pd.DataFrame({**columns, "cosine_centred": zeros})


def _rows(scores: pd.DataFrame, spending: Spending | None, comparisons: int = 6) -> list[dict[str, object]]:
    rng = np.random.default_rng(5)
    public = rng.standard_normal((200, 30))
    groups = None if spending is None else [[spending]] * scores["case"].nunique()
    return bounds({"hrec": scores}, {"sequence": groups}, public, public.mean(axis=0), comparisons, rng)


def test_the_interval_is_clopper_pearsons() -> None:
    share = Share.of(0, 50, 0.01)
    assert (share.found, share.low) == (0.0, 0.0)
    assert share.high == pytest.approx(1 - 0.005 ** (1 / 50))
    assert Share.of(50, 50, 0.01).low == pytest.approx(0.005 ** (1 / 50))
    share, exact = Share.of(7, 50, 0.01), binomtest(7, 50).proportion_ci(0.99, method="exact")
    assert (share.low, share.high) == pytest.approx((exact.low, exact.high))


def test_an_honest_account_is_never_passed_and_a_wrong_one_is_found_out() -> None:
    """The strongest attack on a mechanism stays below its gamma, and above that of twice the noise."""
    scores = _named(mu=2.0, cases=MANY, candidates=10, rng=np.random.default_rng(0))
    [honest] = [row for row in _rows(scores, {(0.5, 1.0): 1}) if row["event"] == "top1"]
    [wrong] = [row for row in _rows(scores, {(1.5, 1.0): 1}) if row["event"] == "top1"]
    assert honest["kappa"] == pytest.approx(0.1)
    assert honest["gamma"] == pytest.approx(gaussian_blow_up(2.0, 0.1))
    assert honest["interval"][0] < honest["success"] < honest["gamma"]  # type: ignore[index]
    assert wrong["interval"][0] > wrong["gamma"]  # type: ignore[index]


def test_without_privacy_nothing_is_bounded_and_more_comparisons_widen_intervals() -> None:
    scores = _named(mu=2.0, cases=30, candidates=10, rng=np.random.default_rng(1))
    few, many = _rows(scores, None, 3), _rows(scores, None, 3000)
    assert {row["gamma"] for row in few} == {1.0}
    assert {row["event"] for row in few} == {"top1", "cosine>=0.9", "cosine_centred>=0.5"}
    for narrow, wide in zip(few, many, strict=True):
        assert wide["interval"][0] <= narrow["interval"][0]  # type: ignore[index]
        assert wide["interval"][1] > narrow["interval"][1]  # type: ignore[index]


def test_only_exact_chances_are_said_to_be_exact() -> None:
    scores = _named(mu=2.0, cases=30, candidates=10, rng=np.random.default_rng(1))
    public = np.random.default_rng(5).standard_normal((200, 30))
    of_drawn = {
        drawn is not None: bounds(
            {"hrec": scores}, {"pair": None}, public, public.mean(axis=0), 3, np.random.default_rng(4), drawn
        )
        for drawn in (None, np.ones((1, 2)))
    }
    told = {drawn: {str(row["event"]): row["kappa_is"] for row in rows} for drawn, rows in of_drawn.items()}
    assert told[True] == {"top1": "exact", "cosine>=0.9": "estimate", "cosine_centred>=0.5": "estimate"}
    assert told[False]["top1"] == "estimate"


def test_small_clients_are_deleted_more_often_than_their_records_are_candidates() -> None:
    """Two clients, one with a tenth of the records: a guess at its records is right five times as often."""
    strata = np.array([[0.1, 0.5], [0.9, 0.5]])
    assert weighed_chance(strata, 0.01) == pytest.approx(0.05)
    assert weighed_chance(strata, 0.2) == pytest.approx(0.5 + 0.1 * 0.5 / 0.9)
    assert weighed_chance(np.ones((1, 2)), 0.01) == pytest.approx(0.01)
    scores = _named(mu=2.0, cases=30, candidates=100, rng=np.random.default_rng(1))
    public = np.random.default_rng(5).standard_normal((200, 30))
    rows = bounds({"hrec": scores}, {"pair": None}, public, public.mean(axis=0), 3, np.random.default_rng(4), strata)
    [row] = [row for row in rows if row["event"] == "top1"]
    assert row["kappa"] == pytest.approx(0.05)


def test_the_sequence_holds_the_noised_releases_of_every_other_branch() -> None:
    """Three alternative deletions: each unit is read by the training and by the other two retrainings."""
    account = Account("record", np.array([3]))
    account.charge(0, None, {}, Charge(2.0))
    processed = []
    for branch in (1, 2, 3):
        account.fork(branch)
        forget = {0: (branch - 1,)}
        account.charge(branch, None, forget, Charge(2.0))
        case = UnlearningCase(branch, DeletionRequest(branch - 1, 1, "record", forget), forget, 1, {})
        processed.append(Processed(case, 0, branch, {}, {}))
    spans = spans_of(account, processed, solved=False)
    assert spans["pair"] == [[{(2.0, 1.0): 1}]] * 3
    assert spans["sequence"] == [[{(2.0, 1.0): 3}]] * 3


def test_records_deleted_together_pay_together() -> None:
    """Three records a case: any of three answers for any of three records, and three times mu."""
    scores = _named(mu=0.5, cases=60, candidates=500, rng=np.random.default_rng(2)).assign(case=np.repeat(range(20), 3))
    public = np.random.default_rng(3).standard_normal((50, 30))
    group = [[{(2.0, 1.0): 1}] * 3] * 20
    rows = bounds({"unmix": scores}, {"pair": group}, public, public.mean(axis=0), 3, np.random.default_rng(4))
    [row] = [row for row in rows if row["event"] == "top1"]
    assert row["n"] == 20
    assert row["kappa"] == pytest.approx(9 / 500)
    assert row["gamma"] == pytest.approx(norm.cdf(norm.ppf(9 / 500) + 1.5))


def test_the_prior_is_that_of_the_best_direction_on_records_it_was_not_fitted_to() -> None:
    """A third of the records around one direction, the rest anywhere: the best guess is that direction."""
    rng, origin = np.random.default_rng(6), np.zeros(60)
    towards = np.eye(60)[0] + 0.02 * rng.standard_normal((300, 60))
    points = np.concatenate([towards * rng.uniform(1, 9, (300, 1)), rng.standard_normal((600, 60))])
    count = best_guess(points, origin, 0.9, rng)
    assert count is not None
    share = Share.of(*count, 0.01)
    assert share.low < 1 / 3 < share.high
    assert share.high - share.low < 0.15
    nothing = best_guess(rng.standard_normal((900, 60)), origin, 0.9, rng)
    assert nothing == (0, 450), "what was fitted to is not counted: each record is its own best guess there"
    assert best_guess(points[:30], origin, 0.9, rng) is None


def test_the_search_finds_a_direction_that_no_record_has() -> None:
    """Records about a centre, at a cosine of 0.75 to it and of 0.56 to each other: at 0.7 only the centre is near."""
    rng, centre = np.random.default_rng(7), np.eye(300)[0]
    points = centre + 0.88 / np.sqrt(300) * rng.standard_normal((400, 300))
    count = best_guess(points, np.zeros(300), 0.7, rng)
    assert count is not None
    assert count[0] > 0.9 * count[1] == 0.9 * 200


def test_guesses_of_another_sample_mean_error_or_split_are_not_those_that_were_kept() -> None:
    public = np.random.default_rng(0).normal(size=(300, 12)) + 0.3
    mean = public.mean(axis=0)

    def asked(x: Array = public, centre: Array = mean, error: float = 0.01, seed: int = 0) -> dict[str, Share]:
        return {event: of.share for event, of in priors(x, centre, error, np.random.default_rng(seed)).items()}

    first = asked()
    fresh = best_guess(public, mean, 0.5, _after_one_split(public))
    assert fresh is not None
    assert asked() == first and first["cosine_centred>=0.5"] == Share.of(*fresh, 0.01)
    again = np.random.default_rng(0)
    priors(public, mean, 0.01, again)
    assert again.bit_generator.state == np.random.default_rng(0).bit_generator.state, "it was kept: nothing is drawn"
    other = public.copy()
    other[::2] += 1.0
    for changed in (asked(x=other), asked(centre=mean + 5.0), asked(error=0.2), asked(seed=1)):
        assert changed != first


def _after_one_split(public: Array) -> np.random.Generator:
    rng = np.random.default_rng(0)
    best_guess(public, np.zeros(12), 0.9, rng)
    return rng
