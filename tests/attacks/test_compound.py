"""Inversion that starts from public candidates."""

import numpy as np

from palimpsest.attacks.compound import Compound
from palimpsest.attacks.hrec import Hrec
from palimpsest.attacks.inversion import Inversion
from palimpsest.simulator.testing.transcripts import Data, ascending, cosines, digits, forgetting
from palimpsest.simulator.world.records import Case
from palimpsest.simulator.world.seeding import generator

STEP = 0.05
DELETIONS = [list(range(start, start + 3)) for start in range(0, 30, 3)]


def test_candidates_are_a_better_start_than_noise() -> None:
    """With as few steps for both, the search from public records of the class ends nearer."""
    data = digits(public=300)
    spec = data.spec("cnn", 0.0)
    cases = ascending(data, spec, [[row] for row in range(8)], STEP)
    knowledge = data.knowledge(spec, "identity", STEP)
    from_public = Compound(iterations=40, candidates=2, polish=20).run(cases, knowledge, generator(0, "test"))
    from_noise = Inversion(iterations=40, restarts=2, polish=20).run(cases, knowledge, generator(0, "test"))
    medians = [
        np.median(cosines(np.concatenate([one.x for one in each]), data.x[:8])) for each in (from_public, from_noise)
    ]
    assert medians[0] > medians[1]
    assert [float(one.y[0]) for one in from_public] == data.y[:8].tolist()


def test_a_candidate_that_is_the_record_is_found() -> None:
    """Where the deleted record is public as well, its gradient is the change itself."""
    whole = digits(private=60, public=60)
    data = Data(
        whole.schema,
        whole.x,
        whole.y,
        np.concatenate([whole.public_x, whole.x]),
        np.concatenate([whole.public_y, whole.y]),
    )
    spec = data.spec("cnn", 0.0)
    cases = ascending(data, spec, [[3], [4, 5]], STEP)
    single, pair = Compound(iterations=8, candidates=2, polish=0).run(
        cases, data.knowledge(spec, "identity", STEP), generator(0, "test")
    )
    np.testing.assert_allclose(single.x[0], data.x[3], atol=1e-6)  # searched for in float32
    assert single.notes["matching_loss"] < 1e-6
    assert pair.x.shape == (2, 64)


def test_what_hrec_finds_of_a_linear_model_is_where_it_starts() -> None:
    """With labels granted, one residual of the model a record explains the change better than any vector."""
    data = digits(public=300)
    spec = data.spec("softmax", 8.0)
    knowledge = data.knowledge(spec)
    cases = [
        Case(one.index, 3, one.before, one.after, labels=tuple(sorted(float(label) for label in data.y[rows])))
        for one, rows in zip(forgetting(data, spec, DELETIONS), DELETIONS, strict=True)
    ]
    order = np.concatenate([np.array(rows)[np.argsort(data.y[rows], kind="stable")] for rows in DELETIONS])
    from_hrec, alone, blind = (
        np.concatenate([one.x for one in attack.run(cases, knowledge, generator(0, "test"))])
        for attack in (Compound(), Hrec(), Compound(polish=0))
    )
    np.testing.assert_allclose(blind, alone, atol=1e-6)
    assert np.median(cosines(from_hrec, data.x[order])) > np.median(cosines(alone, data.x[order]))


def test_a_record_that_ridge_gives_back_exactly_stays_as_hrec_read_it() -> None:
    data = digits(private=300, public=300).with_private_as_public()
    spec = data.spec("ridge", 5.0)
    cases = forgetting(data, spec, [[row] for row in range(4)])
    found = Compound(polish=40).run(cases, data.knowledge(spec), generator(0, "test"))
    np.testing.assert_allclose(np.concatenate([one.x for one in found]), data.x[:4], atol=1e-4)
