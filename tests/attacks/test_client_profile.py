"""What a leaver had, from the change of the last layer."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from palimpsest.attacks.client_profile import ClientProfile
from palimpsest.simulator.testing.transcripts import Data, ascending, breast_cancer, digits, forgetting, optimum
from palimpsest.simulator.world.models.model import linear_params, theta
from palimpsest.simulator.world.profile import Profile
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case


def leavers(y: Array, count: int, size: int = 40) -> list[list[int]]:
    """Rows of leavers that hold few classes, as of Dirichlet(0.3)."""
    rng = np.random.default_rng(5)
    rows = []
    for _ in range(count):
        weights = rng.dirichlet(np.full(int(y.max()) + 1, 0.3))[y]
        rows.append(sorted(rng.choice(len(y), size, replace=False, p=weights / weights.sum()).tolist()))
    return rows


def answers(cases: list[Case], knowledge: PublicKnowledge, attack: ClientProfile | None = None) -> list[Profile]:
    return (attack or ClientProfile()).run(cases, knowledge, np.random.default_rng(0))


def histograms(data: Data, deletions: list[list[int]]) -> Array:
    return np.stack([np.bincount(data.y[rows], minlength=data.schema.outputs) for rows in deletions])


def distances(found: Array, true: Array) -> Array:
    """``[cases]`` total variation of two sets of histograms."""
    off: Array = 0.5 * np.abs(found - true).sum(axis=1) / true.sum(axis=1)
    return off


def prior(data: Data, true: Array) -> Array:
    """``[cases]`` total variation of the public shares."""
    share = np.bincount(data.public_y, minlength=true.shape[1]) / len(data.public_y)
    return distances(true.sum(axis=1, keepdims=True) * share, true)


@pytest.mark.parametrize(("kind", "regularisation"), [("ridge", 10.0), ("softmax", 8.0), ("svm", 8.0)])
def test_the_histogram_comes_back_and_intervals_hold_it(kind: str, regularisation: float) -> None:
    data = digits()
    spec, deletions = data.spec(kind, regularisation), leavers(data.y, 12)
    found, true = answers(forgetting(data, spec, deletions), data.knowledge(spec)), histograms(data, deletions)
    counts = np.stack([one.counts for one in found])
    assert np.allclose(counts.sum(axis=1), 40)
    assert np.median(distances(counts, true)) <= 0.5 * np.median(prior(data, true))
    held = [(one.counts_low <= row) & (row <= one.counts_high) for one, row in zip(found, true, strict=True)]
    assert np.mean(held) >= 0.9
    width = np.mean([one.counts_high - one.counts_low for one in found])
    assert width <= 20  # of 40: they say something


def test_class_means_and_columns_are_nearer_than_the_public_ones() -> None:
    data = digits()
    spec, deletions = data.spec("ridge", 10.0), leavers(data.y, 12)
    found = answers(forgetting(data, spec, deletions), data.knowledge(spec))
    said, public, inside = [], [], []
    for one, rows in zip(found, deletions, strict=True):
        label = int(np.bincount(data.y[rows]).argmax())
        true = data.x[rows][data.y[rows] == label].mean(axis=0)
        said.append(np.linalg.norm(one.means[label] - true))
        public.append(np.linalg.norm(data.public_x[data.public_y == label].mean(axis=0) - true))
        columns = data.x[rows].mean(axis=0)
        inside.append(((one.columns_low <= columns + 1e-9) & (columns - 1e-9 <= one.columns_high)).mean())
        assert np.linalg.norm(one.columns - columns) < np.linalg.norm(data.public_x.mean(axis=0) - columns)
    assert np.mean(said) < np.mean(public)
    assert np.mean(inside) >= 0.85


def test_columns_of_a_table_are_in_original_units() -> None:
    data = breast_cancer()
    spec, deletions = data.spec("ridge", 5.0), leavers(data.y, 4)
    cases, knowledge = forgetting(data, spec, deletions), data.knowledge(spec)
    scale, mean = np.arange(1.0, 31.0), np.full(30, 7.0)
    facts = knowledge.facts.model_copy(update={"preprocessing": {"mean": mean.tolist(), "scale": scale.tolist()}})
    for plain, original in zip(answers(cases, knowledge), answers(cases, replace(knowledge, facts=facts)), strict=True):
        assert np.allclose(original.columns, plain.columns * scale + mean)
        assert np.allclose(original.columns_low, plain.columns_low * scale + mean)
        assert np.allclose(original.means, plain.means)


def test_two_unrelated_models_tell_no_more_than_the_public_shares() -> None:
    """The chance test: the model after is trained on other records altogether."""
    data = digits()
    spec, deletions = data.spec("softmax", 8.0), leavers(data.y, 12)
    rng, cases = np.random.default_rng(9), []
    for index in range(len(deletions)):
        first, second = (rng.choice(len(data.x), 400, replace=False) for _ in range(2))
        models = [linear_params(optimum(spec, data.x[rows], data.y[rows])) for rows in (first, second)]
        cases.append(Case(index, 40, models[0], models[1]))
    found, true = answers(cases, data.knowledge(spec)), histograms(data, deletions)
    off = distances(np.stack([one.counts for one in found]), true)
    assert np.median(off) >= 0.9 * np.median(prior(data, true))
    held = [(one.counts_low <= row) & (row <= one.counts_high) for one, row in zip(found, true, strict=True)]
    assert np.mean(held) >= 0.85


def test_the_first_round_that_differs_is_the_leavers_own_message() -> None:
    """Others' updates are the same in both sequences; the leaver trained for one epoch of batches of ten."""
    data = digits()
    spec, deletions = data.spec("softmax", 0.0), leavers(data.y, 8)
    rng = np.random.default_rng(2)
    common = 0.01 * rng.standard_normal((65, 10))
    cases = []
    for index, rows in enumerate(deletions):
        others = 0.05 * rng.standard_normal((65, 10))
        sent = _trained(data, common, rows) - common
        kept, gone = common + (760 * others + 40 * sent) / 800, common + others
        trunk, branch = ([linear_params(one) for one in (common, last)] for last in (kept, gone))
        cases.append(Case(index, 40, trunk[-1], branch[-1], trunk=trunk, branch=branch))
    training = {"clients_per_round": 0, "local_epochs": 1, "local_steps": 0, "batch_size": 10, "learning_rate": 0.05}
    knowledge = data.knowledge(spec)
    facts = knowledge.facts.model_copy(update={"algorithm": "fedavg", "training": training, "clients": 20})
    knowledge, true = replace(knowledge, facts=facts), histograms(data, deletions)
    found = answers(cases, knowledge)
    assert np.median(distances(np.stack([one.counts for one in found]), true)) <= 0.4 * np.median(prior(data, true))
    held = [(one.counts_low <= row) & (row <= one.counts_high) for one, row in zip(found, true, strict=True)]
    assert np.mean(held) >= 0.9
    pair = answers(cases, knowledge, ClientProfile(reads="pair"))
    assert any(not np.array_equal(one.counts, other.counts) for one, other in zip(found, pair, strict=True))


def test_a_networks_last_layer_tells_it_as_well() -> None:
    data = digits()
    spec, deletions = data.spec("mlp", 0.0), leavers(data.y, 8)
    found = answers(ascending(data, spec, deletions, 0.1), data.knowledge(spec, "identity", 0.1))
    true = histograms(data, deletions)
    assert np.median(distances(np.stack([one.counts for one in found]), true)) <= 0.6 * np.median(prior(data, true))


def test_nothing_is_told_where_nothing_changed_and_granted_labels_are_believed() -> None:
    data = digits(private=150, public=200)
    spec = data.spec("ridge", 4.0)
    (case,) = forgetting(data, spec, [list(range(20))])
    silent = Case(1, 20, case.before, case.before)
    labels = tuple(np.sort(data.y[:20]).astype(float))
    told, untold = answers([replace(case, labels=labels), silent], data.knowledge(spec))
    assert np.array_equal(told.counts, np.bincount(data.y[:20], minlength=10))
    assert np.array_equal(told.counts_low, told.counts)
    assert untold.no_signal and not told.no_signal
    share = np.bincount(data.public_y, minlength=10) / 200
    assert distances(untold.counts[None], 20 * share[None])[0] <= 0.1


def test_an_answer_depends_neither_on_the_order_nor_on_the_number_of_cases() -> None:
    data = digits(private=200, public=200)
    spec = data.spec("softmax", 4.0)
    cases = forgetting(data, spec, leavers(data.y, 3, 15))
    knowledge = data.knowledge(spec)
    first, again, backwards = answers(cases, knowledge), answers(cases, knowledge), answers(cases[::-1], knowledge)
    packed, same = Profile.pack(first), Profile.pack(again)
    assert all(np.array_equal(packed[name], same[name]) for name in packed)
    for one, other in zip(first, backwards[::-1], strict=True):
        assert one.case == other.case
        assert np.array_equal(one.counts, other.counts)


def test_more_records_than_values_of_a_count_are_counted_in_steps() -> None:
    data = digits(private=1000, public=700)
    spec = data.spec("ridge", 10.0)
    rows = list(range(600))
    (found,) = answers(forgetting(data, spec, [rows]), data.knowledge(spec))
    true = histograms(data, [rows])
    assert found.counts.sum() == pytest.approx(600)
    assert distances(found.counts[None], true)[0] <= 0.1


def _trained(data: Data, start: Array, rows: list[int]) -> Array:
    """Plain SGD, written out."""
    now = torch.tensor(start)
    for begin in range(0, len(rows), 10):
        some = rows[begin : begin + 10]
        features = torch.cat([torch.tensor(data.x[some]), torch.ones(len(some), 1, dtype=torch.float64)], 1)
        wanted = torch.nn.functional.one_hot(torch.tensor(data.y[some]), 10).double()
        now = now + 0.05 * features.T @ (wanted - torch.softmax(features @ now, 1)) / len(some)
    return theta(linear_params(now.numpy()))
