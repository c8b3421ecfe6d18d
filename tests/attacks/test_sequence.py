"""Many deletions from one model, in branches and in chains, attacked together."""

import numpy as np
import pytest
import torch

from palimpsest.attacks.deletion_equations import DeletionEquations
from palimpsest.attacks.joint import JointEquations, families, lineage
from palimpsest.attacks.linear import released_gradients
from palimpsest.attacks.prior import PrincipalComponents
from palimpsest.attacks.sequence import Sequence
from palimpsest.attacks.unmix import Unmix
from palimpsest.simulator.testing.transcripts import Data, cosines, digits, forgetting, optimum
from palimpsest.simulator.world.models.model import linear_params
from palimpsest.simulator.world.records import Case
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import ModelKind, ModelSpec
from tests.attacks.test_unmix import STRENGTH

PATTERNS = ["branches", "chain"]


def deleting(data: Data, spec: ModelSpec, deletions: list[list[int]], pattern: str, newton: int = 0) -> list[Case]:
    if pattern == "branches":
        return forgetting(data, spec, deletions, newton)
    cases, gone, before = [], np.array([], dtype=int), optimum(spec, data.x, data.y, newton=newton)
    for index, rows in enumerate(deletions):
        gone = np.concatenate([gone, rows])
        kept = np.setdiff1d(np.arange(len(data.x)), gone)
        after = optimum(spec, data.x[kept], data.y[kept], before, newton)
        cases.append(Case(index, len(rows), linear_params(before), linear_params(after)))
        before = after
    return cases


def test_a_chain_forgets_more_and_more() -> None:
    data = digits(private=100)
    spec = data.spec("ridge", 10.0)
    deletions = [[0], [1, 2], [3]]
    chain, branches = (deleting(data, spec, deletions, pattern) for pattern in ("chain", "branches"))
    assert lineage(chain).tolist() == np.triu(np.ones((3, 3), bool)).tolist()
    assert lineage(branches).tolist() == np.eye(3, dtype=bool).tolist()
    assert [[case.index for case in family] for family in families([*chain[::-1]])] == [[0, 1, 2]]
    later = [Case(3 + case.index, case.size, case.before, case.after) for case in deleting(data, spec, [[9]], "chain")]
    (elsewhere,) = (Case(9, 1, linear_params(np.ones((65, 10))), linear_params(np.zeros((65, 10)))) for _ in range(1))
    assert [len(family) for family in families([*chain, *later, elsewhere])] == [4, 1]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("kind", ["ridge", "softmax"])
def test_the_true_records_solve_the_joint_equations(kind: ModelKind, pattern: str) -> None:
    """Exactly so where the public sample is what nobody asked to delete; with wrong labels they do not."""
    private = digits(private=300)
    deletions = [[0, 1], [2], [3, 4, 5]]
    data = Data(private.schema, private.x, private.y, private.x[6:], private.y[6:])
    spec = data.spec(kind, STRENGTH[kind])
    knowledge = data.knowledge(spec)
    cases = deleting(data, spec, deletions, pattern, newton=1)
    space = PrincipalComponents(knowledge, 64)
    equations = JointEquations(knowledge, space, cases, lineage(cases))
    z = torch.tensor(space.coordinates(data.x[:6], knowledge))
    nothing, labels = torch.zeros_like(z), torch.tensor(data.y[:6])
    # The records may have parts outside the public sample's span: these pixels are blank in all public records.
    assert float(equations.fit(z, labels, nothing)) < 1e-4 * float(equations.fit(0 * z, labels, nothing))
    assert float(equations.fit(z, (labels + 1) % 10, nothing)) > 1.0


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("kind", ["ridge", "softmax"])
def test_one_by_one_they_do_not(kind: ModelKind, pattern: str) -> None:
    """What nobody deleted is the exact operator of all releases together: each alone misses the others' records."""
    private = digits(private=120)
    deletions = [[0, 1], [2, 3], [4, 5]]
    data = Data(private.schema, private.x, private.y, private.x[6:], private.y[6:])
    spec = data.spec(kind, STRENGTH[kind])
    knowledge = data.knowledge(spec)
    cases = deleting(data, spec, deletions, pattern, newton=1)
    space = PrincipalComponents(knowledge, 64)
    z, labels = torch.tensor(space.coordinates(data.x[:6], knowledge)), torch.tensor(data.y[:6])
    jointly = JointEquations(knowledge, space, cases, lineage(cases)).fit(z, labels, 0 * z)
    for case, rows in zip(cases, deletions, strict=True):
        alone = DeletionEquations(knowledge, released_gradients([case], knowledge, "hessian"), space, 2)
        assert float(alone.fit(z[rows], labels[rows], 0 * z[rows])) > 100 * float(jointly)


def test_one_deletion_is_unmixed() -> None:
    data = digits(private=200, public=150)
    spec = data.spec("ridge", 10.0)
    cases, knowledge = forgetting(data, spec, [[0, 1]]), data.knowledge(spec)
    short = {"exchanges": 1, "refinements": 1, "iterations": 20, "components": 10}
    (one,) = Sequence.model_validate(short).run(cases, knowledge, generator(0, "test"))
    (same,) = Unmix.model_validate(short).run(cases, knowledge, generator(0, "test"))
    assert np.array_equal(one.x, same.x)
    assert cosines(one.x, same.x).min() > 0.999
