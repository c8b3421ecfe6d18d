"""What an audit leaves: a typed ``audit.json``, and what is said of it."""

from typing import Any

from palimpsest.simulator.audit.setting import Deletion
from palimpsest.simulator.world.specs import Frozen, ModelSpec


class Candidate(Frozen):
    """What one attack says of one candidate record.

    Attributes:
        score: larger is more likely deleted, whatever the scale.
        chance: of a record that was not deleted to score as high or higher: 1 + how many public records do, over 1 +
            how many there are.
        chance_ci95: Clopper-Pearson interval of the share of such records that do.
        singled_out: whether that is too seldom to be chance, over all candidates and attacks.
    """

    score: float
    chance: float
    chance_ci95: tuple[float, float]
    singled_out: bool


class AuditedAttack(Frozen):
    """One attack.

    Attributes:
        promises: its kind of answer.
        says: one sentence: what it gives back, or that this is unscored.
        explained: of records: cosine between their gradient and the change; None for other answers.
        figures: against the truth, as in ``results.json``; None where none was given.
        seconds: that it took.
        candidates: of attacks that score given records: what it says of every candidate, in their order.
    """

    promises: str
    says: str
    explained: float | None = None
    figures: dict[str, Any] | None = None
    seconds: float
    candidates: tuple[Candidate, ...] | None = None


class AuditResult(Frozen):
    """Content of ``audit.json``.

    Attributes:
        before, after: SHA-256 of the two releases in the transcript.
        assumed: what nobody said and was taken for granted.
        verdict: one sentence, and one on the candidates where there are any.
        attacks: by name, those that were run.
        left_out: by name, why the others were not.
    """

    schema_version: int = 1
    model: ModelSpec
    deletion: Deletion
    before: str
    after: str
    assumed: tuple[str, ...]
    verdict: str
    attacks: dict[str, AuditedAttack]
    left_out: dict[str, str]
