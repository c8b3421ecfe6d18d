"""Scores against values worked out by hand."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from palimpsest.simulator.attack_metrics.card import Truth
from palimpsest.simulator.attack_metrics.gains import gains
from palimpsest.simulator.attack_metrics.measures.ssim import ssim
from palimpsest.simulator.attack_metrics.reconstruction import score_attack, summarise
from palimpsest.simulator.testing.transcripts import Data
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Reconstruction
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Schema

TABLE = Schema(name="t", task="regression", shape=(2,), outputs=1)
IMAGES = Schema(name="i", task="classification", shape=(1, 8, 8), outputs=3)
NOBODY = np.zeros((0, 2))


def knowing(schema: Schema, public: Array) -> PublicKnowledge:
    data = Data(schema, public, np.zeros(len(public)), public, np.zeros(len(public)))
    return data.knowledge(data.spec("ridge", 1.0))


def scored(
    true: Array, found: Array, y: Array, found_y: Array, public: Array, candidates: Array = NOBODY
) -> pd.DataFrame:
    """One case with all these records."""
    answer = Reconstruction(0, found, found_y)
    return score_attack(
        [Truth(0, true, y)], [answer], knowing(TABLE, public), TABLE, candidates, generator(0, "candidates")
    )


def images(count: int) -> Array:
    return np.random.default_rng(0).random((count, 64))


def test_classes_are_centred_by_their_own_public_means_and_by_the_mean_of_all_where_there_is_none() -> None:
    """Class 0 has the public mean (1, 0), class 1 (0, 3), class 2 none: that of all four, (0.5, 1.5)."""
    schema = Schema(name="p", task="classification", shape=(2,), outputs=3)
    public = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 4.0]])
    data = Data(schema, public, np.zeros(4), public, np.array([0.0, 0.0, 1.0, 1.0]))
    true = np.array([[1.0, 1.0], [1.0, 3.0], [0.5, 2.5]])
    found = np.array([[2.0, 1.0], [1.0, 3.0], [0.5, 1.5]])
    truths = [Truth(i, true[i : i + 1], np.array([float(i)])) for i in range(3)]
    answers = [Reconstruction(i, found[i : i + 1], np.array([0.0])) for i in range(3)]
    known = data.knowledge(data.spec("ridge", 1.0))
    frame = score_attack(truths, answers, known, schema, NOBODY, generator(0, "candidates"))
    assert frame["cosine_in_class"].to_numpy() == pytest.approx([1 / np.sqrt(2), 1.0, 0.0])


def test_hand_computed_table() -> None:
    """Truth (3, 4), answer (4, 3), public mean (3, 0): cosine 24/25, centred (0, 4).(1, 3) / (4 sqrt 10)."""
    row = scored(
        np.array([[3.0, 4.0]]),
        np.array([[4.0, 3.0]]),
        np.array([1.5]),
        np.array([-0.5]),
        np.array([[2.0, 0.0], [4.0, 0.0]]),
    ).iloc[0]
    assert row["cosine"] == pytest.approx(0.96)
    assert row["cosine_centred"] == pytest.approx(3 / np.sqrt(10))
    assert row["mse"] == pytest.approx(1.0)
    assert row["target_error"] == pytest.approx(2.0)
    assert not set(row.index) & {"psnr", "ssim", "label_correct", "rank", "candidates"}


def test_hand_computed_images() -> None:
    """An image off by 0.1 everywhere: MSE 0.01, so 20 dB on [0, 1]; out-of-range pixels are clipped for PSNR alone."""
    x = 0.2 + 0.5 * images(3)
    found = x + 0.1
    found[2] = np.where(x[2] > 0.4, 3.0, x[2])
    truths = [Truth(i, x[i : i + 1], np.array([float(i)])) for i in range(3)]
    answers = [Reconstruction(i, found[i : i + 1], np.array([0.0])) for i in range(3)]
    frame = score_attack(truths, answers, knowing(IMAGES, images(5)), IMAGES, np.zeros((0, 64)), generator(0, "c"))
    assert frame["psnr"].to_numpy()[:2] == pytest.approx([20.0, 20.0])
    clipped = np.minimum(found[2], 1.0)
    assert frame["psnr"][2] == pytest.approx(-10 * np.log10(((clipped - x[2]) ** 2).mean()))
    assert frame["mse"][2] == pytest.approx(((found[2] - x[2]) ** 2).mean())
    assert frame["label_correct"].tolist() == [True, False, False]
    assert "target_error" not in frame


def test_ssim_of_equal_and_of_constant_images() -> None:
    """Equal images: 1. Constants a, b: (2ab + c1) / (a^2 + b^2 + c1), c1 = 0.01^2, for small and large images alike."""
    for side in (8, 28):
        schema = IMAGES.model_copy(update={"shape": (1, side, side)})
        x = np.stack([np.random.default_rng(1).random(side**2), np.full(side**2, 0.4)])
        found = np.stack([x[0], np.full(side**2, 0.6)])
        truths = [Truth(i, x[i : i + 1], np.zeros(1)) for i in range(2)]
        answers = [Reconstruction(i, found[i : i + 1], np.zeros(1)) for i in range(2)]
        frame = score_attack(truths, answers, knowing(schema, x), schema, np.zeros((0, side**2)), generator(0, "c"))
        assert frame["ssim"].to_numpy() == pytest.approx([1.0, (0.48 + 1e-4) / (0.52 + 1e-4)], abs=1e-6)
        assert np.isfinite(frame["psnr"]).all()


@pytest.mark.parametrize(
    ("shape", "gaussian", "window"), [((1, 28, 28), True, 11), ((3, 32, 24), True, 11), ((1, 8, 8), False, 7)]
)
def test_ssim_is_that_of_torchmetrics(shape: tuple[int, ...], gaussian: bool, window: int) -> None:
    rng = np.random.default_rng(5)
    one = rng.random((6, *shape))
    other = np.clip(one + 0.2 * rng.standard_normal(one.shape), 0.0, 1.0)
    expected = structural_similarity_index_measure(
        torch.tensor(one), torch.tensor(other), gaussian, kernel_size=window, reduction="none", data_range=1.0
    )
    assert isinstance(expected, torch.Tensor)
    np.testing.assert_allclose(ssim(one, other), expected.numpy(), rtol=1e-10)


def test_permuted_answers_score_the_same() -> None:
    """The best matching does not depend on the order of the answers; labels follow their records."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((6, 2))
    found, y = x + 0.1 * rng.standard_normal((6, 2)), np.arange(6.0)
    order = rng.permutation(6)
    public = rng.standard_normal((20, 2))
    straight = scored(x, found, y, y, public)
    permuted = scored(x, found[order], y, y[order], public)
    pd.testing.assert_frame_equal(straight, permuted)
    assert straight["cosine"].mean() >= np.mean(
        [(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(x, found, strict=True)]
    )


def test_matching_is_the_best_in_total_and_not_greedy() -> None:
    """Answer 0 suits both records best; the best total gives it to the record that has no other."""
    x = np.array([[1.0, 0.0], [np.cos(0.5), np.sin(0.5)]])
    found = np.array([[np.cos(0.2), np.sin(0.2)], [np.cos(0.9), np.sin(0.9)]])
    frame = scored(x, found[::-1], np.zeros(2), np.array([1.0, 0.0]), np.ones((3, 2)))
    assert frame["cosine"].to_numpy() == pytest.approx([np.cos(0.2), np.cos(0.4)])
    assert frame["target_error"].tolist() == [0.0, 1.0]


def test_the_public_mean_scores_zero_centred_and_ranks_at_random() -> None:
    """All candidates tie for it, so the true record's rank is uniform: ties do not favour the truth."""
    rng = np.random.default_rng(4)
    x, public, others = rng.random((400, 2)), rng.random((50, 2)), rng.random((99, 2))
    frame = scored(x, np.tile(public.mean(axis=0), (400, 1)), np.zeros(400), np.zeros(400), public, others)
    assert (frame["cosine_centred"] == 0.0).all()
    assert (frame["candidates"] == 100).all()
    assert frame["rank"].between(1, 100).all()
    rounded = scored(x, np.tile(public.mean(axis=0) * (1 + 1e-15), (400, 1)), np.zeros(400), np.zeros(400), public)
    assert (rounded["cosine_centred"] == 0.0).all()
    assert frame["rank"].mean() == pytest.approx(50.5, abs=4 * 28.9 / 20)
    assert (frame["rank"] == 1).mean() <= 0.01 + 4 * np.sqrt(0.01 * 0.99 / 400)


def test_ranks_by_hand() -> None:
    """Public mean 0; the answer points along the first axis; two of four other candidates are closer in angle."""
    others = np.array([[1.0, 0.05], [1.0, -0.1], [0.0, 1.0], [-1.0, 0.0]])
    public = np.array([[1.0, 1.0], [-1.0, -1.0]])
    frame = scored(np.array([[1.0, 0.5]]), np.array([[2.0, 0.0]]), np.zeros(1), np.zeros(1), public, others)
    assert frame["rank"].tolist() == [3]
    assert frame["candidates"].tolist() == [5]


def test_a_twin_among_the_candidates_shares_the_first_place() -> None:
    """Held-out copies of the true record make rank 1 a matter of chance: one in four with three copies."""
    x = np.tile([[1.0, 0.5]], (600, 1))
    public = np.array([[1.0, 1.0], [-1.0, -1.0]])
    frame = scored(x, 2.0 * x, np.zeros(600), np.zeros(600), public, x[:3])
    assert (frame["rank"] == 1).mean() == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 600))


def test_at_most_a_thousand_candidates() -> None:
    others = np.random.default_rng(5).standard_normal((1500, 2))
    frame = scored(np.ones((1, 2)), np.ones((1, 2)), np.zeros(1), np.zeros(1), np.eye(2), others)
    assert frame["candidates"].tolist() == [1000]


def test_flags_and_notes_are_carried_along() -> None:
    truths = [Truth(7, np.ones((2, 2)), np.zeros(2)), Truth(9, np.ones((1, 2)), np.zeros(1))]
    answers = [
        Reconstruction(7, np.ones((2, 2)), np.zeros(2), notes={"sign_flipped": 2.0}),
        Reconstruction(9, np.eye(2).mean(axis=0, keepdims=True), np.zeros(1), no_signal=True),
    ]
    frame = score_attack(truths, answers, knowing(TABLE, np.eye(2)), TABLE, NOBODY, generator(0, "c"))
    assert frame["case"].tolist() == [7, 7, 9]
    assert frame["target"].tolist() == [0, 1, 0]
    assert frame["no_signal"].tolist() == [False, False, True]
    assert frame["sign_flipped"].tolist() == [2.0, 2.0, 0.0]
    figures = summarise(frame, 6.0, generator(0, "bootstrap"))
    assert (figures["n"], figures["no_signal"], figures["sign_flips"]) == (3, 1, 2)
    assert figures["seconds_per_record"] == pytest.approx(2.0)


def test_wrong_answers_are_refused_with_a_reason() -> None:
    truth, good = Truth(0, np.ones((1, 2)), np.zeros(1)), Reconstruction(0, np.ones((1, 2)), np.zeros(1))
    for answers, reason in (
        ([], "answered cases"),
        ([Reconstruction(1, good.x, good.y)], "answered cases"),
        ([Reconstruction(0, np.ones((2, 2)), np.zeros(2))], "shapes"),
        ([Reconstruction(0, np.full((1, 2), np.nan), np.zeros(1))], "not finite"),
    ):
        with pytest.raises(ValueError, match=reason):
            score_attack([truth], answers, knowing(TABLE, np.eye(2)), TABLE, NOBODY, generator(0, "c"))


def test_nothing_deleted_gives_an_empty_frame() -> None:
    frame = score_attack([], [], knowing(TABLE, np.eye(2)), TABLE, NOBODY, generator(0, "c"))
    assert len(frame) == 0


def frame_of(cosine: Array, cases: Array) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "case": cases, "target": 0, "cosine": cosine, "cosine_centred": cosine, "mse": 1.0 - cosine,
            "label_correct": cosine > 0.5, "rank": np.where(cosine > 0.9, 1, 2), "candidates": 1000,
            "no_signal": False,
        }
    )  # fmt: skip


def test_a_summary_by_hand() -> None:
    """Eleven values 0, 0.1 ... 1: median 0.5, 10th percentile 0.1, 90th 0.9; JSON takes all of it."""
    values = np.linspace(0.0, 1.0, 11)
    figures = summarise(frame_of(values, np.arange(11)), 22.0, generator(0, "bootstrap"))
    assert figures["kind"] == "reconstruction"
    assert [figures[f"cosine_{name}"] for name in ("p10", "median", "p90")] == pytest.approx([0.1, 0.5, 0.9])
    assert figures["mse_median"] == pytest.approx(0.5)
    assert figures["label_accuracy"] == pytest.approx(5 / 11)
    assert figures["top1_of_1000"] == pytest.approx(1 / 11)
    assert figures["candidates"] == 1000
    assert not {"psnr_median", "ssim_median", "target_error_median", "sign_flips"} & set(figures)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_the_interval_of_the_median_covers() -> None:
    """In 200 samples of 41 cases the 95 % interval holds the true median about 190 times (binomial, 4 sigma)."""
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(200):
        low, high = summarise(frame_of(rng.random(41), np.arange(41)), 1.0, rng)["cosine_ci95"]
        held += low <= 0.5 <= high
    assert 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200) <= held / 200


def test_records_of_one_case_are_resampled_together() -> None:
    """Thirty copies of each case's value say no more than one: the interval stays as wide, also for uneven cases."""
    values = np.random.default_rng(7).random(15)
    once = summarise(frame_of(values, np.arange(15)), 1.0, generator(0, "bootstrap"))
    copies = summarise(frame_of(np.repeat(values, 30), np.repeat(np.arange(15), 30)), 1.0, generator(0, "bootstrap"))
    assert copies["cosine_ci95"] == pytest.approx(once["cosine_ci95"])
    sizes = np.where(np.arange(15) % 2, 29, 31)
    uneven = frame_of(np.repeat(values, sizes), np.repeat(np.arange(15), sizes))
    low, high = summarise(uneven, 1.0, generator(0, "bootstrap"))["cosine_ci95"]
    assert high - low > 0.5 * (once["cosine_ci95"][1] - once["cosine_ci95"][0])


def test_an_interval_is_given_where_it_is_one() -> None:
    """Five deletions have none; the records of a single deletion are compared with one another."""
    values = np.random.default_rng(7).random(30)
    five = summarise(frame_of(values[:5], np.arange(5)), 1.0, generator(0, "bootstrap"))
    assert not {"cosine_ci95", "cosine_centred_ci95", "mse_ci95", "resampled"} & set(five)
    together = summarise(frame_of(values, np.zeros(30)), 1.0, generator(0, "bootstrap"))
    apart = summarise(frame_of(values, np.arange(30)), 1.0, generator(0, "bootstrap"))
    assert (together["resampled"], apart["resampled"]) == ("record", "deletion")
    assert together["cosine_ci95"] == apart["cosine_ci95"]


def test_gains_compare_the_same_record() -> None:
    """Values of records vary by far more than what the attack has over the mean: only differences tell."""
    rng = np.random.default_rng(8)
    mean = rng.uniform(0.2, 0.8, 20)
    scores = {"average": frame_of(mean, np.arange(20)), "hrec": frame_of(mean + 0.03, np.arange(20)).iloc[::-1]}
    found = gains(scores, generator(0, "gains"))
    assert set(found) == {"hrec"}
    over = found["hrec"]["gain_over"]["average"]
    assert over["cosine"] == pytest.approx(0.03)
    assert over["cosine_ci95"] == pytest.approx([0.03, 0.03])
    own = summarise(scores["hrec"], 1.0, generator(0, "bootstrap"))["cosine_ci95"]
    assert own[0] < np.median(mean)
