"""What gradient matching gets back from networks."""

import numpy as np
import pytest

from palimpsest.attacks.class_score import class_score, deleted_labels
from palimpsest.attacks.inversion import Inversion
from palimpsest.attacks.linear import precise_model
from palimpsest.simulator.testing.transcripts import ascending, cosines, digits
from palimpsest.simulator.world.records import Case
from palimpsest.simulator.world.seeding import generator
from tests.attacks.test_unmix import shared

STEP = 0.05


def test_one_ascent_step_of_a_cnn_gives_the_record_back() -> None:
    """A digit of 64 pixels from 1,898 parameters of a network: without labels, from random starts."""
    data = digits(public=200)
    spec = data.spec("cnn", 0.0)
    cases = ascending(data, spec, [[row] for row in range(8)], STEP)
    found = Inversion().run(cases, data.knowledge(spec, "identity", STEP), generator(0, "test"))
    x, y = np.concatenate([one.x for one in found]), np.concatenate([one.y for one in found])
    assert np.median(cosines(x, data.x[:8])) >= 0.95
    assert np.median(cosines(x, data.x[:8], data.public_x.mean(axis=0))) >= 0.85
    assert (y == data.y[:8]).all()


def test_several_records_are_sought_jointly() -> None:
    data = digits(public=200)
    spec = data.spec("cnn", 0.0)
    (case,) = ascending(data, spec, [[0, 1]], STEP)
    told = Case(0, 2, case.before, case.after, labels=tuple(sorted(float(label) for label in data.y[:2])))
    (found,) = Inversion().run([told], data.knowledge(spec, "identity", STEP), generator(0, "test"))
    order = np.argsort(data.y[:2], kind="stable")
    mean = np.tile(data.public_x.mean(axis=0), (2, 1))
    assert cosines(found.x, data.x[order]).mean() > cosines(mean, data.x[order]).mean() + 0.05


def test_one_record_of_an_mlp_is_read_off_exactly() -> None:
    data = digits()
    spec = data.spec("mlp", 0.0)
    cases = ascending(data, spec, [[row] for row in range(8)], STEP)
    found = Inversion().run(cases, data.knowledge(spec, "identity", STEP), generator(0, "test"))
    assert cosines(np.concatenate([one.x for one in found]), data.x[:8]).min() > 0.9999


def test_a_few_steps_match_the_gradient_of_a_resnet() -> None:
    """Through norms and ways around: from 40 steps on, the gradient of the guess points along the change."""
    data = digits(public=200)
    spec = data.spec("resnet18", 0.0)
    cases = ascending(data, spec, [[0]], STEP)
    short = Inversion(iterations=40, restarts=2, polish=0)
    (found,) = short.run(cases, data.knowledge(spec, "identity", STEP), generator(0, "test"))
    (blind,) = Inversion(iterations=8, restarts=1, polish=0, rate=1e-9).run(
        cases, data.knowledge(spec, "identity", STEP), generator(0, "test")
    )
    assert found.y.tolist() == [data.y[0]]
    assert found.notes["matching_loss"] < 0.7 * blind.notes["matching_loss"]


def test_a_change_without_a_record_in_it_gives_none_back() -> None:
    """The parameters moved, but at random: the answers are no nearer to the records than to others."""
    data = digits(public=200)
    spec = data.spec("cnn", 0.0)
    rng = generator(1, "test")
    cases = [
        Case(
            case.index,
            1,
            case.before,
            {name: v + 0.01 * rng.standard_normal(v.shape) for name, v in case.after.items()},
        )
        for case in ascending(data, spec, [[row] for row in range(6)], 0.0)
    ]
    found = Inversion().run(cases, data.knowledge(spec, "identity", STEP), generator(0, "test"))
    mean = data.public_x.mean(axis=0)
    assert np.median(np.abs(cosines(np.concatenate([one.x for one in found]), data.x[:6], mean))) < 0.4


@pytest.mark.parametrize("kind", ["mlp", "cnn", "resnet18"])
def test_the_deleted_class_has_the_largest_score(kind: str) -> None:
    data = digits()
    spec = data.spec(kind, 0.0)
    model = precise_model(data.knowledge(spec))
    cases = ascending(data, spec, [[row] for row in range(40)], STEP)
    assert [int(class_score(case, model).argmax()) for case in cases] == data.y[:40].tolist()


def test_most_labels_of_several_records_come_back() -> None:
    data = digits()
    spec = data.spec("cnn", 0.0)
    knowledge = data.knowledge(spec, "identity", STEP)
    deletions = [list(range(start, start + 6)) for start in range(0, 60, 6)]
    found = [
        deleted_labels(case, knowledge, precise_model(knowledge)) for case in ascending(data, spec, deletions, STEP)
    ]
    assert all((np.diff(labels) >= 0).all() for labels in found)
    assert np.mean([shared(labels, data.y[rows]) for labels, rows in zip(found, deletions, strict=True)]) >= 0.9
