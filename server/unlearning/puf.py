"""Approximate unlearning by an ordinary round in which the leaver's update counts negatively."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from palimpsest.server.unlearning import CARDS
from palimpsest.simulator.world.cards import Card
from palimpsest.simulator.world.models.model import flat, unflat
from palimpsest.simulator.world.protocols.federation import Federation
from palimpsest.simulator.world.protocols.unlearning import History, Outcome, UnlearningCase
from palimpsest.simulator.world.records import Release
from palimpsest.simulator.world.specs import Frozen


class Puf(Frozen):
    """One round with the leaver's ordinary update negated and scaled, then recovery (PUF; Mora et al., 2504.05822).

    theta' = theta + (1 - s) D_rest - eta_u s D_leaver: D_rest is the mean update of an ordinary cohort of those who
    stay, D_leaver that of the clients who leave, all computed from theta in ordinary local training; s is the leavers'
    share of the weights of both together, which is n_u / n where everybody takes part.

    That is the regular mode of the authors' code. Its special mode, which takes the leavers' update alone (s = 1) and
    eta_u = 2, is not offered.

    Guarantee: none. Cost: one round with the leavers, who must be online and whose update the server sees alone, and
    ``rounds`` rounds of recovery. The server keeps nothing.

    Attributes:
        scale: eta_u, as in the authors' code; the paper tunes it for each data set.
        rounds: of recovery; default: ours.
    """

    card: ClassVar[Card] = CARDS["puf"]
    method: Literal["puf"] = "puf"
    scale: float = Field(default=20.0, gt=0)
    rounds: int = Field(default=5, ge=0)

    def unlearn(self, history: History, cases: Sequence[UnlearningCase], federation: Federation) -> Iterator[Outcome]:
        """Yield the model of the unlearning round and of every round of recovery, all cases together."""
        before = [case.before for case in cases]
        leavers = history.retrainer.leavers_update(cases, before)
        ordinary = {outcome.release.branch: outcome.release for outcome in history.retrainer.recover(cases, before, 1)}
        models = []
        for case, update in zip(cases, leavers, strict=True):
            stepped, start, share = ordinary[case.branch], flat(case.before), _share(history, case)
            rest = flat(stepped.params) - start
            moved = start + (1.0 - share) * rest - self.scale * share * update
            models.append(unflat(moved, case.before))
            yield Outcome(Release(case.branch, stepped.round, "unlearning", models[-1]))
        yield from history.retrainer.recover(cases, models, self.rounds, done=1)

    def public_rule(self) -> tuple[str, float]:
        """What is subtracted is close to a gradient of the leaver, of unknown length."""
        return "identity", 1.0


def _share(history: History, case: UnlearningCase) -> float:
    """The leavers' share of the weights of the round: theirs and those of the cohort who stay."""
    leaving = float(history.record.weights[list(case.request.forget)].sum())
    staying = [client for client in history.retrainer.members(case, 0) if client not in case.forgotten]
    total = leaving + float(history.record.weights[staying].sum())
    return leaving / total if total > 0.0 else 0.0
