"""Which classes the server that receives the messages finds to be gone."""

import numpy as np
import pytest

from palimpsest.attacks.fuia_classes import FuiaClasses, whole
from palimpsest.simulator.testing.transcripts import Data, ascending, digits
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Case, Message
from palimpsest.simulator.world.seeding import generator

SHARE, STEP = 20, 0.1


@pytest.fixture(scope="module")
def data() -> Data:
    return digits(public=200)


def known(data: Data) -> PublicKnowledge:
    """Clients of 20 records each take one step over all of them."""
    knowledge = data.knowledge(data.spec("cnn", 0.0), "hessian", 1.0)
    training: dict[str, float] = {"local_epochs": 1, "local_steps": 0, "batch_size": 2 * SHARE, "clients_per_round": 10}
    training |= {"learning_rate": STEP}
    facts = knowledge.facts.model_copy(update={"algorithm": "fedavg", "training": training, "clients": 10, "n": 200})
    return PublicKnowledge(facts, knowledge.x, knowledge.y, knowledge.box_low, knowledge.box_high)


def message(data: Data, phase: str, clients: tuple[int, ...], rows: list[int]) -> Message:
    """One step down the mean loss of these records, by autograd."""
    [case] = ascending(data, data.spec("cnn", 0.0), [rows], 1.0)
    sent = {name: -STEP * (case.after[name] - value) / len(rows) for name, value in case.before.items()}
    return Message(phase, 0, "update", "retained", clients, float(len(rows)), case.before, sent)  # type: ignore[arg-type]


def case_of(data: Data, index: int, size: int, messages: list[Message]) -> Case:
    model = model_of(data.spec("cnn", 0.0))
    before, after = (model.init(np.random.default_rng(seed)) for seed in (4, 5))  # releases tell nothing here
    return Case(index, size, before, after, clients=(3,), messages=messages)


def test_the_class_of_one_record_is_named(data: Data) -> None:
    cases = []
    for gone in range(8):
        kept = [row for row in range(SHARE) if row != gone]
        heard = [message(data, "training", (3,), list(range(SHARE))), message(data, "unlearning", (3,), kept)]
        cases.append(case_of(data, gone, 1, heard))
    found = FuiaClasses().run(cases, known(data), generator(0, "test"))
    assert [one.y[0] for one in found] == data.y[:8].tolist()


def test_a_client_that_leaves_whole_has_its_histogram_read_off_its_own_message(data: Data) -> None:
    """Two classes of ten: by the public shares 3 or 4 of 20 would be right."""
    fours_and_sevens = np.flatnonzero(np.isin(data.y, (4, 7)))[:SHARE].tolist()
    case = case_of(data, 0, SHARE, [message(data, "training", (3,), fours_and_sevens)])
    [found] = FuiaClasses().run([case], known(data), generator(0, "test"))
    counts, true = (np.bincount(np.asarray(y).astype(int), minlength=10) for y in (found.y, data.y[fours_and_sevens]))
    assert np.minimum(counts, true).sum() >= 16


def test_a_sum_or_a_client_that_stays_is_not_taken_for_it(data: Data) -> None:
    rows = list(range(SHARE))
    for clients, size in (((3, 4), SHARE), ((4,), SHARE), ((3,), SHARE - 1)):
        case = case_of(data, 0, size, [message(data, "training", clients, rows)])
        assert whole(case) is None
        [found] = FuiaClasses().run([case], known(data), generator(0, "test"))
        assert found.no_signal
