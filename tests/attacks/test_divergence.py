"""What is read of a retraining that shares the training's order: more than its last pair."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from palimpsest.attacks.candidate_match import CandidateMatch
from palimpsest.attacks.divergence import (
    DivergingCase,
    Reads,
    at_divergence,
    divergence_of,
    single_step,
    step_of_a_round,
)
from palimpsest.attacks.hrec import Hrec
from palimpsest.attacks.last_layer import last_layers
from palimpsest.attacks.linear import released_gradients
from palimpsest.attacks.raw_difference import RawDifference
from palimpsest.defenses.pruning import Pruning
from palimpsest.simulator.testing.transcripts import Data, digits
from palimpsest.simulator.world.models.model import linear_params, theta
from palimpsest.simulator.world.protocols.alignment import aligned
from palimpsest.simulator.world.protocols.knowledge import cases_of
from palimpsest.simulator.world.protocols.transcript import Transcript, TranscriptWriter
from palimpsest.simulator.world.records import Array, Case, Challenge, Params, Reconstruction, Release
from tests.support.trainings import LEARNING_RATE, overheard

DELETED = [[3], [100], [250], [333], [420], [501], [640], [777]]


def centred(answers: list[Reconstruction], data: Data, deletions: list[list[int]]) -> Array:
    """Cosine of each answer and its record, both less the public mean."""
    mean = data.public_x.mean(axis=0)
    pairs = [(answer.x[0] - mean, data.x[gone[0]] - mean) for answer, gone in zip(answers, deletions, strict=True)]
    return np.array([a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs])


def test_all_rounds_tell_what_the_last_pair_hides(tmp_path: Path) -> None:
    data = digits()
    cases, knowledge = overheard(tmp_path, data, DELETED, rounds=12, batch=20)
    medians = {}
    for reads in ("pair", "first", "all"):
        answers = RawDifference(reads=reads).run(cases, knowledge, np.random.default_rng(0))
        medians[reads] = float(np.median(centred(answers, data, DELETED)))
        right = [answer.y[0] == data.y[gone[0]] for answer, gone in zip(answers, DELETED, strict=True)]
        assert reads != "all" or all(right)
    assert medians["all"] > 0.95
    assert medians["all"] > medians["pair"]
    assert medians["first"] > medians["pair"]


def test_rounds_unmix_what_is_deleted_together(tmp_path: Path) -> None:
    """Records first read in different rounds, and four of them at once: no single round tells all."""
    data = digits()
    groups = [[int(i) for i in np.random.default_rng([1, s]).choice(800, 4, replace=False)] for s in range(8)]
    cases, knowledge = overheard(tmp_path, data, groups, rounds=12, batch=20)
    mean, told = data.public_x.mean(axis=0), {}
    for reads in ("pair", "first", "all"):
        cosines = []
        for answer, gone in zip(Hrec(reads=reads).run(cases, knowledge, np.random.default_rng(0)), groups, strict=True):
            ours, theirs = (
                rows / np.linalg.norm(rows, axis=1)[:, None] for rows in (answer.x - mean, data.x[gone] - mean)
            )
            rows, columns = linear_sum_assignment(-ours @ theirs.T)
            cosines.extend((ours @ theirs.T)[rows, columns])
        told[reads] = float(np.median(cosines))
    assert told["all"] > max(told["pair"], told["first"])


def test_a_single_step_gives_the_records_gradient_itself(tmp_path: Path) -> None:
    """Weights are the records that are left: every other client cancels to the last bits."""
    data, deletions = digits(), [[5], [481, 482], [90]]
    cases, knowledge = overheard(tmp_path, data, deletions, rounds=3, batch=1000)
    assert single_step(knowledge)
    assert [case.divergence for case in cases] == [1, 1, 2]
    for case, gone in zip(at_divergence(cases, knowledge, "auto"), deletions, strict=True):
        phi = np.concatenate([data.x[gone], np.ones((len(gone), 1))], axis=1)
        start = theta(case.before)
        scores = np.exp(phi @ start)
        slopes = phi.T @ (scores / scores.sum(axis=1, keepdims=True) - np.eye(10)[data.y[gone].astype(int)])
        moved = theta(case.after) - start
        np.testing.assert_allclose(moved, LEARNING_RATE * slopes / 400, atol=1e-12)


def test_the_step_of_a_round_brings_one_record_to_its_own_length(tmp_path: Path) -> None:
    data = digits()
    cases, knowledge = overheard(tmp_path, data, DELETED, rounds=2, batch=80)
    point = np.stack([theta(case.trunk[case.divergence - 1]) for case in cases if case.divergence])
    released = released_gradients(cases, knowledge, "identity", "first")
    for start, matrix, gone in zip(point, released.gradients, DELETED, strict=True):
        phi = np.append(data.x[gone[0]], 1.0)
        chances = np.exp(phi @ start) / np.exp(phi @ start).sum()
        exact = np.outer(phi, np.eye(10)[int(data.y[gone[0]])] - chances)
        assert np.linalg.norm(matrix) == pytest.approx(np.linalg.norm(exact), rel=0.25)
    assert step_of_a_round(knowledge) == pytest.approx(LEARNING_RATE / 400)


@pytest.mark.parametrize(
    "other", [{"strategy": "fedmedian"}, {"strategy": "krum"}, {"strategy": "elsewhere"}, {"optimizer": "adam"}]
)
def test_a_round_of_another_strategy_is_not_taken_for_one_step(tmp_path: Path, other: dict[str, str]) -> None:
    """Then its change is no gradient: attacks on networks are told the way that the clients' steps went."""
    cases, knowledge = overheard(tmp_path, digits(), [[5]], rounds=3, batch=1000)
    facts = knowledge.facts.model_copy(update={"training": knowledge.facts.training | other})
    elsewhere = replace(knowledge, facts=facts)
    assert not single_step(elsewhere)
    [case] = at_divergence(cases, elsewhere, "auto")
    assert isinstance(case, DivergingCase)
    assert len(case.path) == 3


@pytest.mark.parametrize("bits", [5, 8])
def test_rounded_releases_are_averaged_over_rounds(tmp_path: Path, bits: int) -> None:
    data = digits()
    cases, knowledge = overheard(tmp_path, data, DELETED, rounds=16, batch=8, bits=bits)
    parts = [divergence_of(case, knowledge) for case in cases]
    assert all(part is not None and part.noisy(1) for part in parts)
    told = {
        reads: np.median(
            centred(RawDifference(reads=reads).run(cases, knowledge, np.random.default_rng(0)), data, DELETED)
        )
        for reads in ("pair", "first", "all")
    }
    assert told["all"] > max(told["pair"], told["first"])


def pruned(cases: list[Case]) -> list[Case]:
    """The same with two parameters of five cut from every release."""
    defense = Pruning(share=0.4)

    def cut(model: Params) -> Params:
        return defense.release(Release(0, 0, "training", model), np.random.default_rng(0)).params

    lives = [([cut(model) for model in case.trunk], [cut(model) for model in case.branch]) for case in cases]
    return [
        replace(case, before=kept[-1], after=gone[-1], trunk=kept, branch=gone)
        for case, (kept, gone) in zip(cases, lives, strict=True)
    ]


def test_parameters_that_are_cut_in_some_rounds_are_filled_from_the_others(tmp_path: Path) -> None:
    data = digits()
    cases, knowledge = overheard(tmp_path, data, DELETED, rounds=12, batch=20)
    cut = pruned(cases)
    pair, first, whole = (
        np.median(centred(RawDifference(reads=reads).run(cut, knowledge, np.random.default_rng(0)), data, DELETED))
        for reads in ("pair", "first", "all")
    )
    assert whole > max(pair, first)


@pytest.mark.parametrize("reads", ["pair", "first"])
def test_what_was_cut_from_one_of_two_models_counts_as_equal(tmp_path: Path, reads: Reads) -> None:
    """Gradient matching and case mixes see what the records did to the rest, and not which parameters were cut."""
    cases, knowledge = overheard(tmp_path, digits(), DELETED, rounds=12, batch=20)
    rng = np.random.default_rng(0)

    def cut(model: Params) -> Params:
        return {name: np.where(rng.random(value.shape) < 0.3, 0.0, value) for name, value in model.items()}

    def change(case: Case) -> Array:
        moved: Array = (theta(case.after) - theta(case.before)).ravel()
        return moved / np.linalg.norm(moved)

    for case in cases:
        at = case.divergence
        kept, gone = ([*models[:at], *map(cut, models[at:])] for models in (case.trunk, case.branch))
        pruned_case = replace(case, before=kept[-1], after=gone[-1], trunk=kept, branch=gone)
        [whole], [left] = (at_divergence([heard], knowledge, reads) for heard in (case, pruned_case))
        assert change(left) @ change(whole) > 0.5
        assert change(pruned_case) @ change(whole) < 0.2
        told, seen = (
            last_layers([heard], knowledge, "identity", reads)[case.index].gradient.ravel()
            for heard in (case, pruned_case)
        )
        assert told @ seen > 0.5 * np.linalg.norm(told) * np.linalg.norm(seen)


def test_a_weight_that_only_the_deleted_record_moved_is_no_cut(tmp_path: Path) -> None:
    data = digits()
    [case], knowledge = overheard(tmp_path, data, [[3]], rounds=3, batch=8)
    gone = {name: np.where(value > np.quantile(value, 0.9), 0.0, value) for name, value in case.after.items()}
    lone = replace(case, after=gone)
    assert at_divergence([lone], knowledge, "pair") == [lone]


def test_a_retraining_of_another_beginning_shares_nothing(tmp_path: Path) -> None:
    """Where no model is common, every reading is that of the pair."""
    data = digits()
    cases, knowledge = overheard(tmp_path, data, DELETED[:2], rounds=4, batch=8)
    shifted = [
        replace(case, branch=[linear_params(theta(model) + 1e-3) for model in case.branch], after=case.after)
        for case in cases
    ]
    assert [case.divergence for case in shifted] == [None, None]
    everything, pair = (
        Hrec(reads=reads).run(shifted, knowledge, np.random.default_rng(0)) for reads in ("all", "pair")
    )
    for ours, theirs in zip(everything, pair, strict=True):
        np.testing.assert_array_equal(ours.x, theirs.x)
    assert at_divergence(shifted, knowledge, "auto") == shifted


def test_candidates_are_told_apart_by_all_rounds(tmp_path: Path) -> None:
    data = digits()
    cases, knowledge = overheard(tmp_path, data, DELETED, rounds=12, batch=20)
    rows = np.concatenate([np.ravel(DELETED), np.arange(10, 90)])
    asked = replace(knowledge, challenge=Challenge(data.x[rows], data.y[rows]))
    scores = CandidateMatch().run(cases, asked, np.random.default_rng(0))
    assert [int(np.argmax(each.deleted)) for each in scores] == list(range(len(DELETED)))


class TestAlignment:
    def write(self, path: Path, lines: list[tuple[int, int, float, int | None]], phases: bool = True) -> Transcript:
        """One release a line: branch, round, value, parent."""
        writer = TranscriptWriter(path, with_phases=phases)
        for branch, number, value, parent in lines:
            model = {"weight": np.full((1, 2), value), "bias": np.zeros(1)}
            writer.append(Release(branch, number, "training", model), parent)
        return Transcript.open(path)

    def test_rounds_pair_releases(self, tmp_path: Path) -> None:
        lines = [(0, 0, 1.0, None), (0, 1, 2.0, None), (0, 2, 3.0, None), (1, 1, 2.0, 2), (1, 2, 2.5, None)]
        assert aligned(self.write(tmp_path, lines), 2, [3, 4]) == ([1, 2], [3, 4])

    def test_in_a_chain_the_last_retraining_counts(self, tmp_path: Path) -> None:
        lines = [(0, r, 1.0 + r, None) for r in (0, 1)] + [(0, r, 2.0 + r, None) for r in (0, 1)]
        lines += [(0, r, 3.0 + r, None) for r in (0, 1)]
        assert aligned(self.write(tmp_path, lines), 3, [4, 5]) == ([2, 3], [4, 5])

    @pytest.mark.parametrize(("first", "expected"), [(2.0, ([1, 2], [3, 4])), (9.0, ([1, 2], [3, 4]))])
    def test_without_rounds_equal_models_do_or_the_ends(
        self, tmp_path: Path, first: float, expected: tuple[list[int], list[int]]
    ) -> None:
        lines = [(0, 0, 1.0, None), (0, 1, 2.0, None), (0, 2, 3.0, None), (1, 1, first, 2), (1, 2, 2.5, None)]
        assert aligned(self.write(tmp_path, lines, phases=False), 2, [3, 4]) == expected

    def test_equal_models_come_before_ends(self, tmp_path: Path) -> None:
        lines = [(0, 0, 1.0, None), (0, 1, 2.0, None), (0, 2, 3.0, None), (1, 0, 1.0, 2), (1, 1, 2.5, None)]
        assert aligned(self.write(tmp_path, lines, phases=False), 2, [3, 4]) == ([0, 1], [3, 4])


def test_a_case_loads_its_models_when_they_are_read(tmp_path: Path) -> None:
    class Counted(Transcript):
        loaded = 0

        def load(self, number: int) -> Params:
            type(self).loaded += 1
            return super().load(number)

    data = digits(private=100)
    _, knowledge = overheard(tmp_path, data, [[3]], rounds=3, batch=8)
    [case] = cases_of(Counted.open(tmp_path), knowledge.facts)
    assert (len(case.trunk), len(case.branch), Counted.loaded) == (4, 4, 2)
    assert np.array_equal(case.trunk[0]["weight"], case.branch[0]["weight"])
    assert Counted.loaded == 4


def test_the_path_of_several_local_steps_has_both_ends(tmp_path: Path) -> None:
    data = digits()
    cases, knowledge = overheard(tmp_path, data, [[3]], rounds=3, batch=8)
    [case] = at_divergence(cases, knowledge, "auto")
    assert isinstance(case, DivergingCase)
    first, middle, last = (theta(model) for model in case.path)
    np.testing.assert_allclose(2 * middle, first + last)
