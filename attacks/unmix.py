"""Reconstruction of several records deleted at once: residuals, functions of the records, tell them apart."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from palimpsest.attacks import CARDS
from palimpsest.attacks.average import guesses
from palimpsest.attacks.deletion_equations import DeletionEquations, without
from palimpsest.attacks.divergence import Reads
from palimpsest.attacks.embedding import invert
from palimpsest.attacks.evidence import operator_of
from palimpsest.attacks.exchange import Exchange
from palimpsest.attacks.gibbs_labels import GibbsLabels
from palimpsest.attacks.linear import Operator, Released
from palimpsest.attacks.prior import PrincipalComponents
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.protocols.knowledge import PublicKnowledge
from palimpsest.simulator.world.records import Array, Case, Reconstruction
from palimpsest.simulator.world.seeding import generator
from palimpsest.simulator.world.specs import Frozen

_START = 0.1
"""Spread of the start around the class means: records of one class must start apart."""
_COARSE = 20
"""Components in which labels are exchanged: a descent for each guess."""
_FINE = 300
"""Components in which labels are drawn."""


class Unmix(Frozen):
    """All deleted records jointly from G = sum of x~_i r_i^T, where r_i = r(Theta^T x~_i, y_i) (no publication known).

    The equation is exact for the private Hessian: p Q equations bind k p unknowns, so that up to Q records are
    determined, and more with a prior. The minimum of

        1/2 ||S^-1/2 (sum of x~_i r_i^T - G_hat) U^-1/2||^2 + 1/2 sum of ||z_i||^2 + V(R),    x_i = mean_i + root_i z_i

    is found by L-BFGS in the public sample's principal components; what these leave out is then linear (see
    ``Equations.features``). S is the public second moment of x~, and with n' = n - k records left,
    U = n'^2 (1/m + 1/n') E[u u^T], u the change of a public record's residual between the models: G_hat is off
    by a sum over records of x~ u^T, whose covariance is near S (x) U. V corrects for the residuals R being estimated
    with the records (``Equations.loss``). Prior: at first the record's class, then, ``refinements`` times, the public
    records of its class that resemble the answer. Labels: granted, or inferred and then exchanged one by one while that
    explains G better; for softmax drawn (``GibbsLabels``). For regression the target is one more coordinate. Where
    nothing
    changed: the public mean, flagged. Guarantee: none; the posterior has several maxima.

    Attributes:
        operator, reads: as for ``hrec``.
        components: principal components in which records are sought.
        exchanges: how many labels are exchanged at most, or for softmax how often all are drawn; 0: not at all.
        refinements: how often the prior is moved to the neighbourhood of the answer.
        iterations: of L-BFGS, at most, for each prior.
    """

    card: ClassVar[Card] = CARDS["unmix"]
    kind: Literal["unmix"] = "unmix"
    operator: Literal["auto", "identity", "hessian"] = "auto"
    reads: Reads = "auto"
    components: int = Field(default=100, ge=1)
    exchanges: int = Field(default=20, ge=0)
    refinements: int = Field(default=4, ge=0)
    iterations: int = Field(default=200, ge=1)

    def run(self, cases: Sequence[Case], knowledge: PublicKnowledge, rng: np.random.Generator) -> list[Reconstruction]:
        """Reconstruct the cases one after the other, each from the same start."""
        answers = guesses([case for case in cases if case.silent], knowledge, no_signal=True)
        loud = [case for case in cases if not case.silent]
        if loud:
            space = PrincipalComponents(knowledge, self.components)
            start = _START * rng.standard_normal((max(case.size for case in loud), space.z.shape[1]))
            seed, labelling = int(rng.integers(2**31)), self._labelling(knowledge)
            operator = operator_of(knowledge, self.operator, loud, self.reads)
            for case in loud:
                case_rng = generator(seed, "unmix", case.index)  # a case's draws do not depend on its neighbours
                answers[case.index] = self._unmixed(
                    case, knowledge, operator, space, start[: case.size], labelling, case_rng
                )
        return [answers[case.index] for case in cases]

    def _unmixed(
        self,
        case: Case,
        knowledge: PublicKnowledge,
        operator: Operator,
        space: PrincipalComponents,
        start: Array,
        labelling: PrincipalComponents,
        rng: np.random.Generator,
    ) -> Reconstruction:
        rest, released = without(case, knowledge, operator, self.reads)
        labels = self._labels(case, rest, released, labelling, start, rng)
        equations = DeletionEquations(rest, released, space, case.size)
        z = equations.solve([space.of_class(int(label)) for label in labels], labels, start, self.iterations)
        for _ in range(self.refinements):
            z = equations.refine(z, labels, self.iterations)
        features = equations.features(z, labels)
        if knowledge.facts.model.task == "regression":
            labels = space.target[0] + space.target[1] * z[:, -1]
        if case.labels is not None:
            labels = np.array(case.labels, np.float64)
        return Reconstruction(case=case.index, x=records_of(features, knowledge), y=labels)

    def _labelling(self, knowledge: PublicKnowledge) -> PrincipalComponents:
        """The components in which labels are looked for."""
        return PrincipalComponents(knowledge, _FINE if knowledge.model.probabilities else min(self.components, _COARSE))

    def _labels(
        self,
        case: Case,
        rest: PublicKnowledge,
        released: Released,
        labelling: PrincipalComponents,
        start: Array,
        rng: np.random.Generator,
    ) -> Array:
        """``[k]`` classes, granted or inferred; zeros for regression, which has none.

        Residuals that are linear in the records are reached by descent from class means; at softmax's class means,
        where the model is sure, there is no slope.
        """
        if rest.facts.model.task == "regression":
            return np.zeros(case.size)
        if case.labels is not None:
            return np.array(case.labels, np.float64)
        if self.exchanges and rest.model.probabilities:
            return GibbsLabels(rest, labelling).infer(released, case.size, self.exchanges, rng)
        exchange = Exchange(rest, labelling)
        return exchange.infer(released, start[:, : exchange.width], self.exchanges)


def records_of(features: Array, knowledge: PublicKnowledge) -> Array:
    """``[k, p] -> [k, d]`` records with these features; images within their box."""
    if knowledge.model.maps:
        return invert(features, knowledge)
    if knowledge.facts.schema_.is_image:
        return np.clip(features, knowledge.box_low, knowledge.box_high)
    return features
