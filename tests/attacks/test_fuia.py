"""What the server that receives the messages gets back, and who else."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from palimpsest.attacks.fuia import Fuia, as_told
from palimpsest.attacks.session import attack_transcript
from palimpsest.simulator.scenario.load import ScenarioError
from palimpsest.simulator.testing.transcripts import Data, ascending, cosines, digits, write
from palimpsest.simulator.world.models.model import Model, flat, model_of
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Message, Params
from palimpsest.simulator.world.seeding import generator
from tests.support.scenarios import small_scenario

SHARE, STEP = 20, 0.1


def known(data: Data) -> PublicKnowledge:
    """Clients of 20 records each take one step over all of them."""
    knowledge = data.knowledge(data.spec("cnn", 0.0), "hessian", 1.0)
    training: dict[str, float] = {"local_epochs": 1, "local_steps": 0, "batch_size": 2 * SHARE, "clients_per_round": 10}
    training |= {"learning_rate": STEP}
    facts = knowledge.facts.model_copy(update={"algorithm": "fedavg", "training": training, "clients": 10, "n": 200})
    return PublicKnowledge(facts, knowledge.x, knowledge.y, knowledge.box_low, knowledge.box_high)


def update(data: Data, model: Model, start: Params, rows: Sequence[int]) -> Params:
    """Local minus sent model after one step along the mean gradient of these records."""
    [case] = ascending(data, model.spec, [list(rows)], 1.0)
    assert all(np.array_equal(case.before[name], start[name]) for name in start)
    return {name: -STEP * (case.after[name] - value) / len(rows) for name, value in start.items()}


def heard(data: Data, gone: int) -> Case:
    """A retraining in the same order, in which client 3 leaves out one of its records; client 4 changes nothing."""
    model = model_of(data.spec("cnn", 0.0))
    start = model.init(np.random.default_rng(3))
    own = list(range(SHARE))
    kept = [row for row in own if row != gone]
    others = update(data, model, start, range(SHARE, 2 * SHARE))
    sent = {
        "training": [(3, own, update(data, model, start, own)), (4, own, others)],
        "unlearning": [(3, kept, update(data, model, start, kept)), (4, own, others)],
    }
    messages = [
        Message(phase, 0, "update", "retained", (client,), float(len(rows)), start, told)
        for phase in ("training", "unlearning")
        for client, rows, told in sent[phase]
    ]
    other = model.init(np.random.default_rng(4))  # what was released at the end tells nothing here
    return Case(gone, 1, other, start, clients=(3,), messages=messages)


@pytest.fixture(scope="module")
def data() -> Data:
    return digits(public=200)


def test_the_difference_of_two_messages_is_the_deleted_records_gradient(data: Data) -> None:
    told = as_told(heard(data, 5), known(data))
    [alone] = ascending(data, data.spec("cnn", 0.0), [[5]], STEP / SHARE)
    assert told is not None
    found, true = (flat(case.after) - flat(case.before) for case in (told, alone))
    assert np.allclose(found, true, atol=1e-9)


def test_a_server_that_sees_the_updates_gets_the_record_back(data: Data) -> None:
    cases = [heard(data, gone) for gone in range(4)]
    found = Fuia().run(cases, known(data), generator(0, "test"))
    x = np.concatenate([one.x for one in found])
    assert np.median(psnr(x, data.x[:4])) > 35.0
    assert np.median(cosines(x, data.x[:4], data.public_x.mean(axis=0))) > 0.9
    assert [one.y[0] for one in found] == data.y[:4].tolist()


def test_without_a_message_of_the_leaver_that_differs_there_is_nothing(data: Data) -> None:
    case = heard(data, 0)
    others = [message for message in case.messages if message.clients == (4,)]
    silent = Case(0, 1, case.before, case.after, clients=(4,), messages=others)
    [found] = Fuia(iterations=8, polish=0).run([silent], known(data), generator(0, "test"))
    assert found.no_signal
    assert np.array_equal(found.x[0], known(data).mean)


def test_on_a_transcript_without_messages_it_is_refused(data: Data, tmp_path: Path) -> None:
    spec = data.spec("cnn", 0.0)
    write(tmp_path, data.knowledge(spec, "identity", STEP), ascending(data, spec, [[0]], STEP))
    with pytest.raises(ValueError, match=r"attack fuia reads what clients sent .* adversary.sees = 'updates' or"):
        attack_transcript(tmp_path, [Fuia()])


def test_in_a_scenario_whose_adversary_hears_releases_it_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"'fuia' with adversary.sees = 'releases': .* 'updates', 'aggregate'"):
        small_scenario(model={"kind": "cnn"}, attack=[{"kind": "fuia"}])


def psnr(found: Array, true: Array) -> Array:
    decibels: Array = -10.0 * np.log10(((found - true) ** 2).mean(axis=1))
    return decibels
