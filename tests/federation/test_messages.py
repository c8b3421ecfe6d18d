"""Questions and answers come out of Flower's records as they went in, and each question knows what hosts answer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message

from palimpsest.clients.host import HANDLERS, QUESTIONS, Host
from palimpsest.clients.reader import Reader
from palimpsest.clients.tombstones import Tombstones
from palimpsest.server.blocks import everyone
from palimpsest.server.setup import Lineage, Setup
from palimpsest.simulator.federation import federation, messages
from palimpsest.simulator.federation.federation import FederationError
from palimpsest.simulator.federation.local_grid import SerialGrid
from palimpsest.simulator.federation.packing import codec
from palimpsest.simulator.testing.populations import digits_population
from palimpsest.simulator.testing.servers import RIDGE, SOFTMAX, Bench
from palimpsest.simulator.world.models.model import model_of
from palimpsest.simulator.world.protocols.federation import Block, BlockResult, Question
from palimpsest.simulator.world.protocols.questions import Gradient, Hessian, RidgeFactors, RidgeStatistics, Train
from palimpsest.simulator.world.records import Params
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import PrivateSteps, Recipe

POPULATION = digits_population(clients=5, records=60)
BLOCKS = [
    Block(model=0, branch=0, clients=(0, 1), forget={}),
    Block(model=2, branch=3, clients=(4,), forget={4: (0, 2)}, batches=("fresh", 3, 1), compact=True, update_clip=0.5),
]
STEPS = PrivateSteps(clip=1.0, noise_multiplier=0.7)
RECIPE = Recipe(batch_size=4, learning_rate=0.1, l2=0.01, local_epochs=2)
MODELS = [model_of(SOFTMAX).init(np.random.default_rng(i)) for i in range(3)]
ASKED: list[Question[Any]] = [
    Train(SOFTMAX, BLOCKS, MODELS, 7, RECIPE.model_copy(update={"private": STEPS})),
    Train(SOFTMAX, BLOCKS, MODELS, 7, RECIPE, each=True),
    Gradient(SOFTMAX, BLOCKS[1:], MODELS, of="forgotten", loss="unlearning", step=2),
    Gradient(SOFTMAX, BLOCKS, MODELS, private=STEPS),
    Hessian(SOFTMAX, BLOCKS, MODELS, MODELS[::-1]),
    RidgeStatistics(RIDGE, BLOCKS),
    RidgeFactors(RIDGE, BLOCKS[1:]),
]


def _name(question: Question[Any]) -> str:
    return type(question).__name__


def _host() -> Host:
    return Host(Reader(POPULATION), 0, "arm", Tombstones(ConfigRecord()))


def _same(one: Any, other: Any) -> None:
    """Equal values, and equal types of arrays."""
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other, strict=True)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            _same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert type(one) is type(other) and len(one) == len(other)
        for value, another in zip(one, other, strict=True):
            _same(value, another)
    elif hasattr(one, "__dataclass_fields__"):
        assert type(one) is type(other)
        _same(vars(one), vars(other))
    else:
        assert one == other


def test_every_question_is_tried_here() -> None:
    assert {type(question) for question in ASKED} == set(HANDLERS) == set(QUESTIONS.values())


@pytest.mark.parametrize("question", ASKED, ids=_name)
def test_a_question_and_its_answers_come_out_as_they_went_in(question: Question[Any]) -> None:
    call = messages.unpack(messages.pack_question(question, {"arm": "arm"}))
    assert call.header == {"question": _name(question), "arm": "arm"}
    heard = call.read(QUESTIONS[_name(question)])
    _same(heard, question)
    answers = _host().ask(heard)
    _same(messages.unpack_answers(question, messages.pack_answers(question, answers)), answers)


@pytest.mark.parametrize("question", ASKED, ids=_name)
def test_clients_without_records_answer_in_the_shapes_of_others(question: Question[Any]) -> None:
    found = question.zeros(model_of(question.spec).shapes)
    for zero, answer in zip(found, _host().ask(question), strict=True):
        assert type(zero) is question.answer is type(answer)
        if isinstance(zero, BlockResult):
            assert {n: v.shape for n, v in zero.sums.items()} == {n: v.shape for n, v in answer.sums.items()}
            assert {n: v.shape for n, v in zero.each.items()} == {n: v.shape for n, v in answer.each.items()}
            assert zero.weight == 0.0
        else:
            assert zero.moment.shape == answer.moment.shape and zero.count == 0


@pytest.mark.parametrize("question", ASKED, ids=_name)
def test_a_question_about_some_blocks_takes_along_what_they_need_and_gets_their_answers(
    question: Question[Any],
) -> None:
    last = len(question.blocks) - 1
    part = question.about([last])
    assert all(len(getattr(part, name)) == 1 for name in part.per_model)
    _same(_host().ask(part), _host().ask(question)[last:])


def test_small_arrays_travel_together_and_large_ones_alone() -> None:
    arrays: list[Params] = [
        {"few": np.arange(6.0).reshape(2, 3), "none": np.zeros((0, 4), dtype=np.float32)},
        {"few": np.float64(2.5).reshape(()), "many": np.arange(20_000.0).reshape(2, -1).T},
    ]
    record = messages.pack({}, arrays, list[Params])
    assert sorted(record.array_records["arrays"]) == ["3", "<f4", "<f8"]
    _same(messages.unpack(record).read(list[Params]), arrays)


@dataclass(frozen=True)
class _Unheard(Question[BlockResult]):
    answer = BlockResult


@dataclass(frozen=True)
class _Function:
    how: Callable[[int], int]


def test_a_type_that_cannot_travel_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"Callable.*cannot travel"):
        codec(_Function)


def test_a_question_that_no_host_knows_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="no question is called '_Unheard' here"):
        Bench(POPULATION, tmp_path).federation().ask(_Unheard(SOFTMAX, BLOCKS))


class Counting(SerialGrid):
    """Counts the questions that it is sent."""

    asked = 0

    def _start(self, message: Message) -> None:
        self.asked += message.metadata.message_type == "query.ask"
        super()._start(message)


@pytest.mark.parametrize("each", [False, True])
def test_answers_that_would_take_much_memory_come_in_portions_of_the_same_bits(
    each: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for portion in (2**26, 6000 if not each else 20_000):
        monkeypatch.setattr(federation, "PORTION_BYTES", portion)
        grid, place = Counting(1), tmp_path / str(portion)
        place.mkdir()
        bench = Bench(digits_population(), place, grid=grid)
        setup = Setup(bench.spec, bench.plan, bench.population.sizes, block_size=4, seed=0)
        blocks = everyone(setup, [Lineage(branch=0, forget={})])
        model = model_of(bench.spec).init(generator(0, "init"))
        answers = bench.federation().ask(Train(bench.spec, blocks, [model], 0, bench.plan.recipe, each))
        found.append((grid.asked, answers))
    (once, whole), (often, parted) = found
    assert (once, often, len(blocks)) == (1, 3, 3)
    for one, same in zip(whole, parted, strict=True):
        assert one.weight == same.weight
        assert all(np.array_equal(one.sums[name], same.sums[name]) for name in one.sums)
        assert all(np.array_equal(one.each[name], same.each[name]) for name in one.each)
        assert bool(one.each) == each
