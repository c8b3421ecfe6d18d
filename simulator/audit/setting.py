"""What is known of a deletion that somebody else carried out, and what is assumed of it where nobody says."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from palimpsest.simulator.world.data.public_file import PublicSample
from palimpsest.simulator.world.models.model import flat
from palimpsest.simulator.world.protocols.knowledge import CaseView, Facts, PublicKnowledge
from palimpsest.simulator.world.records import Array, Params
from palimpsest.simulator.world.specs import Frozen, ModelSpec

Rule = Literal["step", "optimum"]


class Deletion(Frozen):
    """What one knows of it beside the two models.

    Attributes:
        records: how many were deleted.
        rule: what was done. ``step``: a gradient step from the model before, such as ascent on the deleted records;
            ``optimum``: both models minimise their objective, the second without the records.
        step: length of that gradient step; it decides about labels alone, not about records. Where it is not known,
            the label of one record is read off the direction of the change, and those of several off typical residuals.
        n: training records before the deletion; needed where there is a lambda.
        regularisation: lambda of the objective: SUM of losses + lambda/2 ||theta||^2.
    """

    records: int = Field(default=1, ge=1)
    rule: Rule = "step"
    step: float | None = Field(default=None, gt=0)
    n: int | None = Field(default=None, ge=1)
    regularisation: float = Field(default=0.0, ge=0)

    def assumed(self) -> list[str]:
        """What was not said and is taken for granted, a sentence each."""
        assumptions = []
        if self.rule == "step":
            assumptions.append("the second model is the first one, moved by one gradient step on the deleted records")
            if self.step is None:
                assumptions.append("the length of that step is unknown, so that labels are read off its direction")
        else:
            assumptions.append("both models minimise the objective, the second without the deleted records")
            if self.n is None:
                assumptions.append("there is no lambda, so that n does not matter")
        return assumptions


def knowledge_of(
    public: PublicSample, spec: ModelSpec, deletion: Deletion, before: Params, after: Params
) -> PublicKnowledge:
    """The public facts of two releases, of which the second one ends the only deletion.

    Args:
        public: the public sample.
        spec: of the model.
        deletion: what is known of it.
        before, after: the releases.
    """
    step = deletion.step or _step_of(deletion.records, flat(after) - flat(before))
    facts = Facts(
        scenario="audit",
        schema_=public.schema,
        model=spec,
        n=deletion.n or len(public.x),
        algorithm="fedsgd",  # nothing but the pair is read, so that no attack asks for more of the training
        training={"learning_rate": step, "clients_per_round": 0},
        unlearning={"method": "ascent" if deletion.rule == "step" else "retrain"},
        operator="identity" if deletion.rule == "step" else "hessian",
        step=step if deletion.rule == "step" else 1.0,
        preprocessing={},
        clients=1,
        cases=(CaseView(before=0, after=1, size=deletion.records),),
    )
    return PublicKnowledge(facts, public.x, public.y, public.box_low, public.box_high)


def _step_of(records: int, change: Array) -> float:
    """A length for a step of unknown length.

    So short that the residual of one record seems long: the label whose residual is nearest is then the one whose
    residual points the same way. Several records need a length at which labels can be counted.
    """
    length = float(np.linalg.norm(change))
    return max(length * (1e-3 if records == 1 else 1.0 / records), float(np.finfo(np.float32).tiny))


def transcript_of(out: Path) -> Path:
    """Where an audit's transcript lies, in the directory of its results."""
    return out / "transcript"
