"""Which operator is told by the change itself, on deletions whose operator is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from palimpsest.attacks.evidence import operator_of
from palimpsest.attacks.hrec import Hrec
from palimpsest.attacks.linear import released_gradients
from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.scenario.registry import method_class
from palimpsest.simulator.testing.transcripts import ascending, breast_cancer, diabetes, digits, forgetting, hardest
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Case

KINDS = [("ridge", 5.0), ("softmax", 2.0), ("svm", 5.0)]


def _deletions(kind: str, regularisation: float, rule: str) -> tuple[PublicKnowledge, list[Case]]:
    """Six deletions of a single digit by one rule, which the knowledge calls unknown."""
    data = digits(500, 600)
    spec = data.spec(kind, regularisation)
    rows = [[row] for row in hardest(data, spec, 6)]
    cases = ascending(data, spec, rows, 0.01) if rule == "identity" else forgetting(data, spec, rows)
    return data.knowledge(spec, "unknown"), cases


def _but(knowledge: PublicKnowledge, **facts: Any) -> PublicKnowledge:
    return replace(knowledge, facts=knowledge.facts.model_copy(update=facts))


@pytest.mark.parametrize("rule", ["identity", "hessian"])
@pytest.mark.parametrize(("kind", "regularisation"), KINDS)
def test_the_change_tells_its_operator(kind: str, regularisation: float, rule: str) -> None:
    knowledge, cases = _deletions(kind, regularisation, rule)
    assert operator_of(knowledge, "auto", cases) == rule
    # A rule that is said to end at an optimum is not believed of models that were trained by rounds.
    assert operator_of(_but(knowledge, operator="hessian", algorithm="fedavg"), "auto", cases, "pair") == rule


def test_what_is_known_or_wanted_is_not_doubted() -> None:
    knowledge, cases = _deletions("softmax", 2.0, "identity")
    assert operator_of(_but(knowledge, operator="hessian", algorithm="lbfgs"), "auto", cases) == "hessian"
    assert operator_of(knowledge, "hessian", cases) == "hessian"
    knowledge, cases = _deletions("softmax", 2.0, "hessian")
    assert operator_of(_but(knowledge, operator="identity"), "auto", cases) == "identity"


def test_where_nothing_can_tell_it_is_an_optimum() -> None:
    """One target is one column, of two classes the columns are one, and several records explain nearly anything."""
    for data, kind in ((diabetes(), "ridge"), (breast_cancer(), "softmax")):
        spec = data.spec(kind, 1.0)
        cases = ascending(data, spec, [[0], [1]], 0.01)
        assert operator_of(data.knowledge(spec, "unknown"), "auto", cases) == "hessian"
    knowledge, cases = _deletions("softmax", 2.0, "identity")
    assert operator_of(knowledge, "auto", [replace(case, size=3) for case in cases]) == "hessian"
    assert operator_of(knowledge, "auto", []) == "hessian"


def test_an_attack_reads_records_and_labels_off_a_step_of_unknown_length() -> None:
    data = digits(500, 600)
    spec = data.spec("softmax", 2.0)
    rows = hardest(data, spec, 6)
    cases = ascending(data, spec, [[row] for row in rows], 1e-4)
    knowledge = data.knowledge(spec, "unknown")
    found = Hrec().run(cases, knowledge, np.random.default_rng(0))
    x, truth = np.concatenate([one.x for one in found]), data.x[rows]
    assert ((x * truth).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(truth, axis=1)).min() > 0.999
    assert [int(one.y[0]) for one in found] == [int(data.y[row]) for row in rows]
    assert not released_gradients(cases, knowledge, "identity").scaled.any()


def test_methods_that_end_away_from_an_optimum_say_so() -> None:
    rules = {name: method_class("unlearning", name)().public_rule()[0] for name in CARDS}
    unknown = {"not", "fedosd", "pga", "federaser", "finetune", "distil"}
    assert {name for name, rule in rules.items() if rule == "unknown"} == unknown
    steps = {"ascent", "puf", "fedrecovery", "local-ascent"}
    assert {name for name, rule in rules.items() if rule == "identity"} == steps
