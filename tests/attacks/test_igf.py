"""What a decoder gets back that was learned from the gradients of public records."""

from dataclasses import replace

import numpy as np
import pytest

from palimpsest.attacks.igf import Igf
from palimpsest.attacks.ridge_decoder import Inputs
from palimpsest.simulator.testing.transcripts import Data, ascending, cosines, digits
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Message, Reconstruction
from palimpsest.simulator.world.seeding import generator

STEP = 0.5


@pytest.fixture(scope="module")
def data() -> Data:
    return digits(private=300, public=600)


def known(data: Data) -> PublicKnowledge:
    return data.knowledge(data.spec("cnn", 0.0), "identity", STEP)


def left(data: Data, deletions: list[list[int]]) -> list[Case]:
    return ascending(data, data.spec("cnn", 0.0), deletions, STEP)


def answers(cases: list[Case], knowledge: PublicKnowledge) -> list[Reconstruction]:
    return Igf().run(cases, knowledge, generator(0, "test"))


def likeness(found: list[Reconstruction], data: Data, rows: list[int]) -> Array:
    return cosines(np.concatenate([one.x for one in found]), data.x[rows], data.public_x.mean(axis=0))


def test_one_record_comes_back_with_its_label(data: Data) -> None:
    rows = list(range(12))
    found = answers(left(data, [[row] for row in rows]), known(data))
    assert np.median(likeness(found, data, rows)) > 0.8
    assert [one.y[0] for one in found] == data.y[rows].tolist()
    assert not any(one.no_signal for one in found)


def test_of_several_each_gets_what_is_told_of_its_class(data: Data) -> None:
    """Two of one class get one answer, their mean; it is nearer to them than the public mean of the class."""
    same = np.flatnonzero(data.y == 3)[:2].tolist()
    rows = [*same, int(np.flatnonzero(data.y == 8)[0])]
    [case] = left(data, [rows])
    [found] = answers([replace(case, labels=(3.0, 3.0, 8.0))], known(data))
    assert np.array_equal(found.x[0], found.x[1])
    assert not np.allclose(found.x[0], found.x[2])
    for answer, true, label in ((found.x[0], data.x[same].mean(axis=0), 3), (found.x[2], data.x[rows[2]], 8)):
        typical = data.public_x[data.public_y == label].mean(axis=0)
        assert np.linalg.norm(answer - true) < np.linalg.norm(typical - true)


def test_other_records_in_the_change_are_turned_down(data: Data) -> None:
    """As after a round in which others trained too: what they share with public records tells nothing."""
    rows, rest = list(range(20)), list(range(100, 200))
    alone, [others] = left(data, [[row] for row in rows]), left(data, [rest])
    crowded = []
    for case in alone:
        added = {name: (others.after[name] - others.before[name]) / 5.0 for name in case.after}
        crowded.append(replace(case, after={name: value + added[name] for name, value in case.after.items()}))
    granted = [replace(case, labels=(float(data.y[row]),)) for case, row in zip(crowded, rows, strict=True)]
    assert np.median(likeness(answers(granted, known(data)), data, rows)) > 0.6


def test_a_server_reads_the_message_where_the_releases_tell_nothing(data: Data) -> None:
    [case] = left(data, [[0]])
    sent = {name: (value - case.before[name]) / STEP for name, value in case.after.items()}
    message = Message("unlearning", 0, "gradient", "forgotten", (3,), 1.0, case.before, sent)
    other = model_of(data.spec("cnn", 0.0)).init(np.random.default_rng(4))
    unheard = Case(0, 1, other, other, clients=(3,))
    [deaf], [told] = (answers([one], known(data)) for one in (unheard, replace(unheard, messages=[message])))
    assert deaf.no_signal
    assert not told.no_signal
    assert likeness([told], data, [0]) > 0.6


def test_a_retraining_that_shares_no_model_gets_the_public_mean(data: Data) -> None:
    knowledge = known(data)
    facts = knowledge.facts.model_copy(update={"unlearning": {"method": "retrain", "shares": "no model"}})
    [found] = answers(left(data, [[0]]), replace(knowledge, facts=facts))
    assert found.no_signal
    assert np.array_equal(found.x[0], knowledge.mean)


def test_the_decoder_knows_what_it_misses_of_a_record_that_it_has_not_seen() -> None:
    """Leave-one-out errors without leaving one out, against doing it; of more inputs than records too."""
    rng = np.random.default_rng(0)
    for width in (5, 40):
        inputs, targets = rng.standard_normal((20, width)), rng.standard_normal((20, 3))
        targets[:, 0] += inputs[:, 0]
        decoder = Inputs(inputs).learned(targets)
        off = inputs - decoder.centre
        # of a ridge regression, X^T (Y - X W) = strength W
        pushed = off.T @ (targets - decoder.mean - off @ decoder.weights)
        strength = float((pushed * decoder.weights).sum() / (decoder.weights**2).sum())
        for gone in range(0, 20, 7):
            kept = np.delete(np.arange(20), gone)
            centre, mean = inputs[kept].mean(axis=0), targets[kept].mean(axis=0)
            x, y = inputs[kept] - centre, targets[kept] - mean
            weights = np.linalg.solve(x.T @ x + strength * np.eye(width), x.T @ y)
            missed = ((mean + (inputs[gone] - centre) @ weights - targets[gone]) ** 2).mean()
            assert np.isclose(missed, decoder.errors[gone], rtol=1e-6)
