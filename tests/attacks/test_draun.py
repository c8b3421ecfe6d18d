"""What a server gets back from the update of a client that unlearns by itself."""

import numpy as np
import pytest
import torch

from palimpsest.attacks.draun import Draun, as_ascended
from palimpsest.attacks.fuia import Fuia
from palimpsest.simulator.testing.transcripts import Data, ascending, cosines, digits
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Message, Params
from palimpsest.simulator.world.seeding import generator

EPOCHS, RATE = 5, 0.1


@pytest.fixture(scope="module")
def data() -> Data:
    return digits(public=200)


def known(data: Data) -> PublicKnowledge:
    """The server told the client how to unlearn."""
    knowledge = data.knowledge(data.spec("cnn", 0.0), "identity", 1.0)
    rule = {"method": "local-ascent", "epochs": EPOCHS, "learning_rate": RATE, "rounds": 0}
    training = {"local_epochs": 1, "local_steps": 0, "batch_size": 32, "clients_per_round": 10, "learning_rate": 0.1}
    changes = {"algorithm": "fedavg", "training": training, "clients": 10, "n": 200, "unlearning": rule}
    facts = knowledge.facts.model_copy(update=changes)
    return PublicKnowledge(facts, knowledge.x, knowledge.y, knowledge.box_low, knowledge.box_high)


def climb(data: Data, rows: list[int]) -> tuple[Params, Params]:
    """A model, and local minus sent model after five steps up the mean loss of these records, by autograd."""
    model = model_of(data.spec("cnn", 0.0))
    start = model.init(np.random.default_rng(3))
    x, y = torch.tensor(data.x[rows], dtype=model.dtype), torch.tensor(data.y[rows])
    here = model.tensors(start)
    for _ in range(EPOCHS):
        params = {name: value.detach().clone().requires_grad_() for name, value in here.items()}
        slopes = torch.autograd.grad(model.losses(model.scores(params, x), y).mean(), list(params.values()))
        here = {name: params[name].detach() + RATE * slope for name, slope in zip(params, slopes, strict=True)}
    return start, {name: here[name].numpy() - start[name] for name in start}


def heard(data: Data, rows: list[int], clients: tuple[int, ...] = (3,), about: str = "forgotten") -> Case:
    start, sent = climb(data, rows)
    message = Message("unlearning", 0, "update", about, clients, 20.0, start, sent)  # type: ignore[arg-type]
    other = model_of(data.spec("cnn", 0.0)).init(np.random.default_rng(4))  # releases tell nothing here
    return Case(rows[0], len(rows), other, start, clients=(3,), messages=[message])


def test_the_update_holds_the_record_and_its_steps_taken_anew_tell_it_best(data: Data) -> None:
    knowledge, rows = known(data), [1, 2]
    cases = [heard(data, [gone]) for gone in rows]
    short: dict[str, int] = {"iterations": 60, "polish": 120, "restarts": 2}
    blind, told = (
        how.run(cases, knowledge, generator(0, "test"))
        for how in (Draun(**short, resteps=0), Draun(**short, resteps=150))
    )
    along, anew = (np.concatenate([one.x for one in found]) for found in (blind, told))
    assert np.median(cosines(along, data.x[rows], data.public_x.mean(axis=0))) > 0.7
    assert (psnr(anew, data.x[rows]) > psnr(along, data.x[rows]) + 3.0).all()
    assert np.median(psnr(anew, data.x[rows])) > 25.0
    assert [one.y[0] for one in told] == data.y[rows].tolist()


def test_a_sum_is_read_to_first_order_and_only_where_a_leaver_is_in_it(data: Data) -> None:
    knowledge = known(data)
    inside, outside = (heard(data, [0], clients, "retained") for clients in ((1, 3), (1, 4)))
    told = as_ascended(inside, knowledge)
    assert told is not None
    assert not told.alone
    assert as_ascended(outside, knowledge) is None
    [found] = Draun(iterations=8, polish=0).run([outside], knowledge, generator(0, "test"))
    assert found.no_signal


def test_fuia_reads_the_same_message_as_one_step(data: Data) -> None:
    case = heard(data, [0])
    [found] = Fuia(iterations=8, polish=0).run([case], known(data), generator(0, "test"))
    assert not found.no_signal


def test_a_leaver_that_sends_a_gradient_is_read_as_fuia_reads_it(data: Data) -> None:
    [case] = ascending(data, data.spec("cnn", 0.0), [[0]], 1.0)
    sent = {name: value - case.before[name] for name, value in case.after.items()}
    message = Message("unlearning", 0, "gradient", "forgotten", (3,), 1.0, case.before, sent)
    asked = Case(0, 1, case.before, case.before, clients=(3,), messages=[message])
    told = as_ascended(asked, known(data))
    assert told is not None
    for name, value in told.after.items():
        assert np.allclose(value, case.after[name], atol=1e-9)


def psnr(found: Array, true: Array) -> Array:
    decibels: Array = -10.0 * np.log10(((found - true) ** 2).mean(axis=1))
    return decibels
